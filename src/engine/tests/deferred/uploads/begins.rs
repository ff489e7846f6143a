//! The beginnings of a reader in the topics that existed when it subscribed: with the newest messages
//! that were complete then.

use super::{History, State};
use crate::engine::topic::Topic;
use crate::wire::Start;
use std::collections::BTreeMap;

/// So many messages that are not complete are looked through, for the newest that is.
const LOOKED_THROUGH: u64 = 64;

pub(super) struct Begin {
    // The sequence, if nothing is evicted; and the next one when it subscribed.
    next: u64,
    edge: u64,
    by: By,
}

enum By {
    // A sequence that was named, or what is new.
    Number,
    // The messages in the log when it searches.
    Oldest,
    // The newest that was complete.
    Complete(u64),
    // There was none. The newest that was arriving.
    Arriving(u64),
    Nothing,
}

impl Begin {
    pub(super) fn exactly(next: u64) -> Self {
        Self { next, edge: next, by: By::Number }
    }

    pub(super) fn new(start: &Start<'_>, topic: &Topic, history: &History) -> Self {
        let (first, edge) = (topic.first_sequence(), topic.next_sequence());
        let count = match *start {
            Start::New | Start::Last(0) => return Self::exactly(edge),
            Start::Sequence(sequence) => return Self::exactly(sequence.clamp(1, edge)),
            Start::All => return Self { next: first, edge, by: By::Oldest },
            Start::Latest => 1,
            Start::Last(count) => count,
            Start::Resume { .. } | Start::ResumeWith { .. } => {
                unreachable!("it is told where to begin")
            }
        };
        let newest = |state| {
            let is = |sequence: &u64| history[&(topic.id(), *sequence)].state == state;
            (first..edge).rev().find(is)
        };
        let by = match (newest(State::Complete), newest(State::Arriving)) {
            (Some(newest), _) if edge - newest > LOOKED_THROUGH => By::Nothing,
            (Some(newest), _) => By::Complete(newest),
            (None, Some(newest)) => By::Arriving(newest),
            (None, None) => By::Nothing,
        };
        let next = match by {
            By::Complete(newest) | By::Arriving(newest) => newest.saturating_sub(count - 1),
            _ => edge,
        };
        Self { next: next.max(first), edge, by }
    }

    pub(super) fn is_exact(&self) -> bool {
        matches!(self.by, By::Number)
    }

    /// Whether it may begin with a message that still arrived then: it waits for that, until it is
    /// told of what became of it.
    pub(super) fn waits(&self) -> bool {
        matches!(self.by, By::Arriving(_))
    }

    /// The latest where it may begin, by what is gone now.
    pub(super) fn latest(&self, history: &History, id: u64, gone: impl Fn(u64) -> bool) -> u64 {
        match self.by {
            By::Number => return self.next,
            By::Nothing => return self.edge,
            By::Complete(newest) if gone(newest) => return self.edge,
            By::Arriving(newest)
                if gone(newest) || history[&(id, newest)].state == State::Aborted =>
            {
                return self.edge;
            }
            _ => {}
        }
        // Messages that had left the log before it searched do not concern it.
        (self.next..self.edge).find(|sequence| !gone(*sequence)).unwrap_or(self.edge)
    }

    /// Whether it may begin there.
    pub(super) fn allows(
        &self,
        next: u64,
        history: &History,
        id: u64,
        gone: impl Fn(u64) -> bool,
    ) -> bool {
        let earliest = match self.by {
            // A gap may tell more than has left the cache since: it looks in portions.
            By::Oldest if gone(1) => 1,
            By::Complete(newest) if gone(newest) => 1,
            By::Number | By::Oldest | By::Complete(_) => self.next,
            // Of what it asked for nothing is there: with any that was there before.
            _ => 1,
        };
        (earliest..=self.latest(history, id, gone)).contains(&next)
    }
}

/// By topic id.
pub(super) type Begins = BTreeMap<u64, Begin>;
