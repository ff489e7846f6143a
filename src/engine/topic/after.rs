//! The first message of a topic after a position.

use super::Topic;

/// The beginning of the messages after a position in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// With this sequence. The message before it has this position; 0 if there is none.
    Exactly(u64, u64),
    /// With this sequence or a later one. The messages have left the log, and it is not remembered
    /// which of them came after the position.
    AtLeast(u64),
}

impl Topic {
    /// Returns the first message after a position.
    pub(crate) fn after(&self, position: u64) -> After {
        let log = &self.log;
        if self.created_at > position {
            return After::Exactly(1, 0);
        }
        if position < log.evicted_through() {
            return match self.marks.find(position) {
                Some((sequence, before)) => After::Exactly(sequence, before),
                // Between the two positions there are at most as many messages as positions.
                None => {
                    let most = log.evicted_through() - position;
                    After::AtLeast(log.first().saturating_sub(most).max(1))
                }
            };
        }
        let at = |sequence: u64| log.get(sequence).map_or(0, |entry| entry.position);
        // From the end, in growing steps: mostly it is among the last messages.
        let (first, next) = (log.first(), log.next());
        let (mut low, mut high, mut step) = (next, next, 1);
        while low > first && at(low - 1) > position {
            high = low - 1;
            low = low.saturating_sub(step).max(first);
            step *= 2;
        }
        // Messages below `low` are not after the position. `high` is after it, or is the end.
        while low < high {
            let middle = low + (high - low) / 2;
            if at(middle) <= position {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let before = if low > first { at(low - 1) } else { log.evicted_through() };
        After::Exactly(low, before)
    }
}
