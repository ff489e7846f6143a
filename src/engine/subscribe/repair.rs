//! Repairs: what a subscription has been handed out is read once more.

use super::read_budget::NOTICE;
use super::start::After;
use super::table::Subscription;
use crate::engine::topic::Topic;
use crate::engine::topic::body::Body;
use crate::engine::{Engine, MessageRef, Slot, SubscriptionId};
use crate::wire::GapCause;
use std::cmp::Reverse;

/// What [`Engine::repair`] hands out.
#[derive(Debug)]
pub enum Repaired<'a> {
    /// A message.
    Message(MessageRef<'a>),
    /// A large message, complete or not: [`Engine::follow`] it.
    Large(MessageRef<'a>),
    /// Sequences that will not come.
    NotCached {
        /// First sequence.
        first: u64,
        /// Last sequence.
        last: u64,
        /// Why.
        cause: GapCause,
    },
}

impl Engine {
    /// Hands out once more what a subscription has been handed out of a topic, `first` to `last`:
    /// not much more than `budget` bytes, and at least one item; what has left the cache as a gap.
    /// Gives the sequence to go on with, if there is more.
    pub fn repair(
        &mut self,
        id: SubscriptionId,
        topic_id: u64,
        (first, last): (u64, u64),
        budget: usize,
        sink: &mut impl FnMut(Repaired<'_>),
    ) -> Option<u64> {
        self.work += 64;
        let subscription = self.subscriptions.get(id)?;
        let slot = self.by_id.get(&topic_id).copied();
        let known = slot.and_then(|slot| {
            let begin = *subscription.known.get(&topic_id)?;
            Some((slot, self.topic(slot)?, begin))
        });
        let Some((slot, topic, begin)) = known else {
            let is_its = |topic: &Topic| {
                let filter = subscription.filter.as_ref().filter(|_| subscription.lost.is_none());
                filter.is_some_and(|filter| filter.matches(&topic.name))
            };
            if slot.and_then(|slot| self.topic(slot)).is_some_and(is_its) {
                // It has not been told of it yet, and will have it anyway.
                return None;
            }
            // Forgotten, or not told of; or another's, of which no more is said than that it will
            // not come.
            sink(Repaired::NotCached { first, last, cause: GapCause::Evicted });
            return None;
        };
        // What lies beyond comes anyway.
        let last = last.min(subscription.next_in(slot, topic).saturating_sub(1));
        let mut next = first.max(begin);
        let oldest = topic.log.first();
        if next < oldest && next <= last {
            let cause = GapCause::Evicted;
            sink(Repaired::NotCached { first: next, last: last.min(oldest - 1), cause });
            next = oldest;
        }
        let mut left = budget;
        while next <= last
            && let Some(entry) = topic.log.get(next)
        {
            let message = MessageRef::new(topic, next, entry).since(begin);
            left = left.saturating_sub(match &entry.body {
                Body::Small(encoded) => {
                    sink(Repaired::Message(message));
                    encoded.wire_len()
                }
                Body::Aborted { .. } | Body::Evicted { .. } => {
                    let evicted = matches!(entry.body, Body::Evicted { .. });
                    let cause = if evicted { GapCause::Evicted } else { GapCause::Aborted };
                    sink(Repaired::NotCached { first: next, last: next, cause });
                    NOTICE
                }
                Body::Large { .. } | Body::Arriving(_) => {
                    sink(Repaired::Large(message));
                    NOTICE
                }
            });
            next += 1;
            if left == 0 {
                break;
            }
        }
        (next <= last).then_some(next)
    }
}

impl Subscription {
    // The next that it needs of a topic that it has been told of.
    fn next_in(&self, slot: Slot, topic: &Topic) -> u64 {
        let slot = slot as u32;
        if let Some(waits) = self.aside.get(&slot) {
            return waits.cursor.next;
        }
        let mut window = self.window.iter().filter(|Reverse(cursor)| cursor.slot == slot);
        match (window.next(), topic.after(self.upto)) {
            (Some(Reverse(cursor)), _) => cursor.next,
            // It has had everything that its window had.
            (None, After::Exactly(next, _)) => next,
            (None, After::AtLeast(_)) => topic.log.first(),
        }
    }
}
