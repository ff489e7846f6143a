//! Replay from a cursor: the only way to be served.

use super::subscription::Cursor;
use super::topic::Topic;
use super::{Engine, Item, MessageRef, SubscriptionId};
use crate::wire::{Code, GapCause, Lag, Refusal};
use std::cmp::Reverse;

impl Engine {
    /// Hands out what lies between the cursor and the head, at least one item if there is one,
    /// and not much more than `budget` bytes. Says whether there was anything; when there was
    /// not, the subscription will be named again once there is.
    ///
    /// Refused with [`Code::DONE`] when the subscription has ended, and with [`Code::LAGGED`] when
    /// it asked to be ended rather than to miss something, or holds up topics that have to go:
    /// then end it.
    pub fn read(
        &mut self,
        id: SubscriptionId,
        budget: usize,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<bool, Refusal> {
        let Some(subscription) = self.subscriptions.get_mut(id) else {
            return Err(Refusal::new(Code::DONE, "the subscription has ended"));
        };
        if let Some(topic) = &subscription.lost {
            return Err(lost(topic));
        }
        let mut left = budget;
        let mut any = false;
        while let Some(Reverse((_, slot))) = subscription.ready.pop() {
            let (Some(topic), Some(cursor)) = (
                self.topics.get_mut(slot).and_then(Option::as_deref_mut),
                subscription.cursors.get_mut(&slot),
            ) else {
                continue;
            };
            if subscription.lag == Lag::Disconnect && cursor.next < topic.log.first() {
                subscription.ready.push(Reverse((0, slot)));
                return Err(fell_behind(topic, cursor));
            }
            let until = subscription.ready.peek();
            let until = until.map_or(u64::MAX, |Reverse((position, _))| *position);
            left = replay(topic, cursor, subscription.lag, until, left, sink);
            any = true;
            if let Some(entry) = topic.log.get(cursor.next) {
                subscription.ready.push(Reverse((entry.position, slot)));
            } else {
                topic.behind -= 1;
                cursor.waiting = Some(topic.waiting.len() as u32);
                topic.waiting.push(id);
            }
            if left == 0 {
                break;
            }
        }
        subscription.woken = any;
        Ok(any)
    }
}

// What an announcement or a gap takes of a budget, bytes.
const NOTICE: usize = 32;

// Hands out a topic's items from the cursor up to the position `until`, at least one, and moves
// the cursor. Gives what is left of the budget.
fn replay(
    topic: &Topic,
    cursor: &mut Cursor,
    lag: Lag,
    until: u64,
    mut left: usize,
    sink: &mut impl FnMut(Item<'_>),
) -> usize {
    let (first, next) = (topic.log.first(), topic.log.next());
    if !cursor.announced {
        cursor.announced = true;
        left = left.saturating_sub(NOTICE + topic.name.len());
        sink(Item::Topic {
            id: topic.id,
            epoch: topic.epoch,
            next: cursor.next,
            name: &topic.name,
        });
    }
    if cursor.next < first {
        let (to, cause) = match lag {
            Lag::Newest => (first.max(next - 1), GapCause::Skipped),
            _ => (first, GapCause::Evicted),
        };
        left = left.saturating_sub(NOTICE);
        sink(Item::Gap {
            id: topic.id,
            epoch: topic.epoch,
            name: &topic.name,
            first: cursor.next,
            last: to - 1,
            cause,
        });
        cursor.next = to;
    }
    let mut given = false;
    while let Some(entry) = topic.log.get(cursor.next) {
        if entry.position > until || (left == 0 && given) {
            break;
        }
        sink(Item::Message(MessageRef::new(topic, cursor.next, entry)));
        left = left.saturating_sub(entry.encoded.wire_len());
        cursor.next += 1;
        given = true;
    }
    left
}

fn fell_behind(topic: &Topic, cursor: &Cursor) -> Refusal {
    Refusal::new(
        Code::LAGGED,
        format!(
            "fell behind the cache of {}: wanted message {}, the oldest is {}",
            topic.name,
            cursor.next,
            topic.log.first()
        ),
    )
}

fn lost(topic: &str) -> Refusal {
    Refusal::new(
        Code::LAGGED,
        format!("fell behind the cache: {topic} was forgotten before all of it was read"),
    )
}
