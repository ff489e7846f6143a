//! The sink that a read yields items to, and the budget of that read.

use super::item::{Item, MessageRef};
use super::skips::Skips;
use crate::engine::topic::Topic;
use crate::wire::GapCause;

/// Bytes of a budget that an announcement or a gap takes.
pub(crate) const NOTICE: usize = 32;

/// Yields the items of one topic, the first one after an announcement of the topic.
pub(super) struct BudgetedSink<'a, S> {
    pub(super) topic: &'a Topic,
    pub(super) begin: u64,
    pub(super) announced: bool,
    pub(super) left: usize,
    pub(super) given: bool,
    pub(super) skips: &'a mut Option<Box<Skips>>,
    pub(super) sink: &'a mut S,
}

/// How far a large message was read.
pub(super) enum ChunkProgress {
    /// To its end.
    Complete,
    /// As far as it has arrived.
    CaughtUp,
    /// As far as the budget allowed.
    BudgetSpent,
}

impl<S: FnMut(Item<'_>)> BudgetedSink<'_, S> {
    /// Yields an item that takes so much of the budget.
    pub(super) fn give(&mut self, item: Item<'_>, taken: usize) {
        if !std::mem::replace(&mut self.announced, true) {
            self.left = self.left.saturating_sub(NOTICE + self.topic.name().len());
            item.topic().into_iter().for_each(&mut self.sink);
        }
        self.left = self.left.saturating_sub(taken);
        self.given = true;
        (self.sink)(item);
    }

    pub(super) fn is_full(&self) -> bool {
        self.left == 0 && self.given
    }

    pub(super) fn notice(&mut self, item: Item<'_>) {
        self.give(item, NOTICE);
    }

    pub(super) fn gap(&mut self, first: u64, last: u64, cause: GapCause) {
        if cause != GapCause::Had {
            self.skips.get_or_insert_default().count(cause, last - first + 1);
        }
        let topic = self.topic;
        let (id, epoch, name) = (topic.id(), topic.epoch(), topic.name());
        self.notice(Item::Gap { id, epoch, name, begin: self.begin, first, last, cause });
    }

    /// Yields what has arrived of a large message, from an offset on.
    pub(super) fn chunks(&mut self, message: MessageRef<'_>, offset: &mut usize) -> ChunkProgress {
        let Some(rope) = message.rope() else {
            return ChunkProgress::Complete;
        };
        while !self.is_full() {
            if let Some(chunk) = rope.at(*offset) {
                let taken = chunk.len();
                // Rather less than the budget than nearly twice as much.
                if self.given && taken / 2 > self.left {
                    return ChunkProgress::BudgetSpent;
                }
                *offset += taken;
                self.give(Item::Chunk(chunk), taken);
            } else if message.is_complete() {
                self.notice(Item::End { count: message.count(), digest: message.digest() });
                return ChunkProgress::Complete;
            } else {
                return ChunkProgress::CaughtUp;
            }
        }
        ChunkProgress::BudgetSpent
    }
}
