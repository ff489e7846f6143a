//! Marks: a topic remembers of the messages that have left its log where those begin that some
//! subscription has not received.

use std::collections::VecDeque;

/// Maximum number of marks of one topic, 24 bytes each. Beyond it the oldest is dropped, and the
/// subscriptions that still need it are ended.
const MOST: usize = 512;

/// When the marks are full, those that are no longer needed are dropped with each of so many new
/// ones.
const PRUNED: u32 = 64;

/// Cost of a mark, bytes.
const COST: usize = size_of::<Mark>();

/// A subscription that has received everything up to a position in `from..to` needs `sequence` next.
#[derive(Debug, Clone, Copy)]
struct Mark {
    from: u64,
    to: u64,
    sequence: u64,
}

/// The marks of a topic, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    all: VecDeque<Mark>,
    // Number of new marks since unneeded ones were dropped.
    pushed: u32,
}

impl Marks {
    /// Remembers that the message `sequence`, at the position `to`, has left the log. `from` is the
    /// position of the message before it, and some subscription has received everything up to a
    /// position in between. `needed` returns whether there is such a subscription for a range.
    pub(crate) fn push(
        &mut self,
        (from, to): (u64, u64),
        sequence: u64,
        needed: impl Fn(u64, u64) -> bool,
    ) {
        self.pushed += 1;
        if self.all.len() >= MOST {
            if self.pushed >= PRUNED {
                self.pushed = 0;
                self.all.retain(|mark| needed(mark.from, mark.to));
            }
            if self.all.len() >= MOST {
                self.all.pop_front();
            }
        }
        self.all.push_back(Mark { from, to, sequence });
    }

    /// Returns the sequence that a subscription needs next, if it has received everything up to
    /// `position`; and the position of the message before it.
    pub(crate) fn find(&self, position: u64) -> Option<(u64, u64)> {
        let at = self.all.partition_point(|mark| mark.to <= position);
        let mark = self.all.get(at).filter(|mark| mark.from <= position)?;
        Some((mark.sequence, mark.from))
    }

    pub(crate) fn cost(&self) -> usize {
        self.all.capacity() * COST
    }
}
