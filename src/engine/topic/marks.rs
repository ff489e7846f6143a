//! What a topic remembers of messages that have left its log: where those begin that some
//! subscription has not had.

use std::collections::VecDeque;

/// Most of them in one topic, 24 bytes each. Beyond it the oldest goes, and whoever still needed it
/// is ended.
const MOST: usize = 512;

/// When it is full, those that nobody needs any more are looked for with each of so many.
const LOOKED_FOR: u32 = 64;

/// What one costs, bytes.
const COST: usize = size_of::<Mark>();

/// Who has had everything up to a position from `from` to before `to` needs `sequence` next.
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
    // Since those were looked for that nobody needs.
    pushed: u32,
}

impl Marks {
    /// The message `sequence`, at the position `to`, has left the log, the one before it has the
    /// position `from`, and somebody has had everything up to in between. `needed` says whether
    /// there is somebody who has had everything up to a position of a range.
    pub(crate) fn push(
        &mut self,
        (from, to): (u64, u64),
        sequence: u64,
        needed: impl Fn(u64, u64) -> bool,
    ) {
        self.pushed += 1;
        if self.all.len() >= MOST {
            if self.pushed >= LOOKED_FOR {
                self.pushed = 0;
                self.all.retain(|mark| needed(mark.from, mark.to));
            }
            if self.all.len() >= MOST {
                self.all.pop_front();
            }
        }
        self.all.push_back(Mark { from, to, sequence });
    }

    /// Of somebody who has had everything up to `position`: the next sequence, and the position of
    /// the one before it.
    pub(crate) fn find(&self, position: u64) -> Option<(u64, u64)> {
        let at = self.all.partition_point(|mark| mark.to <= position);
        let mark = self.all.get(at).filter(|mark| mark.from <= position)?;
        Some((mark.sequence, mark.from))
    }

    pub(crate) fn cost(&self) -> usize {
        self.all.capacity() * COST
    }
}
