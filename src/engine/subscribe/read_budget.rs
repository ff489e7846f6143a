//! Where what is read goes, and how much of it.

use crate::engine::topic::Topic;
use crate::engine::{Item, MessageRef};
use crate::wire::GapCause;

/// What an announcement or a gap takes of a budget, bytes.
pub(crate) const NOTICE: usize = 32;

/// Where a message's or a topic's items go: the first after an announcement.
pub(crate) struct BudgetedSink<'a, S> {
    pub(crate) topic: &'a Topic,
    pub(crate) begin: u64,
    pub(crate) announced: bool,
    pub(crate) left: usize,
    pub(crate) given: bool,
    pub(crate) sink: &'a mut S,
}

/// How far a large message was handed out.
pub(crate) enum ChunkProgress {
    /// To its end.
    Complete,
    /// As far as it has come.
    CaughtUp,
    /// As far as the budget went.
    BudgetSpent,
}

impl<S: FnMut(Item<'_>)> BudgetedSink<'_, S> {
    pub(crate) fn give(&mut self, item: Item<'_>, taken: usize) {
        if !std::mem::replace(&mut self.announced, true) {
            self.left = self.left.saturating_sub(NOTICE + self.topic.name.len());
            item.topic().into_iter().for_each(&mut self.sink);
        }
        self.left = self.left.saturating_sub(taken);
        self.given = true;
        (self.sink)(item);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.left == 0 && self.given
    }

    pub(crate) fn notice(&mut self, item: Item<'_>) {
        self.give(item, NOTICE);
    }

    pub(crate) fn skip(&mut self, first: u64, last: u64, cause: GapCause) {
        let Topic { id, epoch, name, .. } = self.topic;
        let begin = self.begin;
        self.notice(Item::Gap { id: *id, epoch: *epoch, name, begin, first, last, cause });
    }

    /// Hands out what has come of a large message, from an offset on.
    pub(crate) fn chunks(&mut self, message: MessageRef<'_>, offset: &mut usize) -> ChunkProgress {
        let Some(rope) = message.rope() else {
            return ChunkProgress::Complete;
        };
        while !self.is_full() {
            if let Some(chunk) = rope.at(*offset) {
                let taken = chunk.len();
                // Rather less than is wanted than nearly twice that.
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
