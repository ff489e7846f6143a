//! Repairs: messages that a subscription has received are read once more.

use super::had::Had;
use super::item::MessageRef;
use super::read_budget::NOTICE;
use super::subscription::Subscription;
use crate::engine::Engine;
use crate::engine::ids::{Slot, SubscriptionId};
use crate::engine::topic::Topic;
use crate::engine::topic::after::After;
use crate::engine::topic::body::Body;
use crate::wire::GapCause;
use std::cmp::Reverse;

/// An item that [`Engine::repair`] yields.
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
    /// Yields the messages `first` to `last` of a topic once more, which a subscription has received
    /// before. Messages that have left the cache are a gap.
    ///
    /// Yields about `budget` bytes, and at least one item. Returns the sequence to go on with, if
    /// there are more.
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
        let announced = slot.and_then(|slot| {
            let begin = *subscription.announced.get(&topic_id)?;
            Some((slot, self.topic(slot)?, begin))
        });
        let Some((slot, topic, begin)) = announced else {
            let matches = |topic: &Topic| {
                let filter = subscription.filter.as_ref().filter(|_| !subscription.is_ending());
                filter.is_some_and(|filter| filter.matches(topic.name()))
            };
            if slot.and_then(|slot| self.topic(slot)).is_some_and(matches) {
                // The topic was not announced to it yet, and its messages are still to come.
                return None;
            }
            // The topic was forgotten, or was not announced, or another subscription's filter
            // matches it. A peer learns nothing more about such a topic.
            sink(Repaired::NotCached { first, last, cause: GapCause::Evicted });
            return None;
        };
        // Messages beyond the cursor are still to come.
        let last = last.min(subscription.next_in(slot, topic).saturating_sub(1));
        let mut next = first.max(begin);
        let oldest = topic.first_sequence();
        let had = match &subscription.had {
            Some(had) => had.of(topic, &self.runs, subscription.began_at),
            None => Had::default(),
        };
        let mut left = budget.max(1);
        while next <= last && left > 0 {
            // The client has shown that it has these, and perhaps not seen the gap yet.
            let received = had.at(next).filter(|(first, _)| *first <= next);
            let missing = match received {
                Some((_, end)) => Some((end.min(last), GapCause::Had)),
                None if next < oldest => {
                    let end = last.min(oldest - 1).min(had.next(next) - 1);
                    let cause = topic.why_missing(next);
                    let expired = topic.expired_through();
                    let end = if next <= expired { end.min(expired) } else { end };
                    Some((end, cause))
                }
                None => None,
            };
            if let Some((last, cause)) = missing {
                sink(Repaired::NotCached { first: next, last, cause });
                next = last + 1;
                continue;
            }
            let Some(entry) = topic.entry(next) else {
                break;
            };
            let gone = if topic.has_expired(entry, self.now) {
                Some(GapCause::Expired)
            } else {
                // It was never sent to this subscription.
                let not_kept = topic.keeps_nothing() && entry.position <= subscription.began_at;
                not_kept.then_some(GapCause::Evicted)
            };
            if let Some(cause) = gone {
                sink(Repaired::NotCached { first: next, last: next, cause });
                left = left.saturating_sub(NOTICE);
                next += 1;
                continue;
            }
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
        }
        (next <= last).then_some(next)
    }
}

impl Subscription {
    // Returns the sequence that it needs next in a topic that was announced to it.
    fn next_in(&self, slot: Slot, topic: &Topic) -> u64 {
        let slot = slot as u32;
        if let Some(waiting) = self.aside.get(&slot) {
            return waiting.cursor.next;
        }
        let mut window = self.window.iter().filter(|Reverse(cursor)| cursor.slot == slot);
        match (window.next(), topic.after(self.window_end)) {
            (Some(Reverse(cursor)), _) => cursor.next,
            // It has received everything up to the end of the window.
            (None, After::Exactly(next, _)) => next,
            (None, After::AtLeast(_)) => topic.first_sequence(),
        }
    }
}
