//! Replay from a cursor: the only way to be served.

use super::subscription::Cursor;
use super::topic::Topic;
use super::{Engine, Item, MessageRef, SubscriptionId};
use crate::wire::{Code, GapCause, Lag, Refusal};
use std::cmp::Reverse;

/// What a read is to hand out.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Not much more than so many bytes, and at least one item.
    pub budget: usize,
    /// Messages accepted before this time are passed over, and told as a gap; 0 is none.
    pub accepted_since: u64,
}

impl From<usize> for Wanted {
    /// Everything, in portions of not much more than so many bytes.
    fn from(budget: usize) -> Self {
        Self { budget, accepted_since: 0 }
    }
}

impl Engine {
    /// Hands out what lies between the cursor and the head, at least one item if there is one,
    /// and not much more than is wanted. Says whether there was anything; when there was
    /// not, the subscription will be named again once there is.
    ///
    /// Refused with [`Code::DONE`] when the subscription has ended, and with [`Code::LAGGED`] when
    /// it asked to be ended rather than to miss something, or holds up topics that have to go:
    /// then end it.
    pub fn read(
        &mut self,
        id: SubscriptionId,
        wanted: impl Into<Wanted>,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<bool, Refusal> {
        let Some(subscription) = self.subscriptions.get_mut(id) else {
            return Err(Refusal::new(Code::DONE, "the subscription has ended"));
        };
        if let Some(topic) = &subscription.lost {
            return Err(lost(topic));
        }
        let mut wanted = wanted.into();
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
            wanted.budget = replay(topic, cursor, subscription.lag, &wanted, until, sink);
            any = true;
            if let Some(entry) = topic.log.get(cursor.next) {
                subscription.ready.push(Reverse((entry.position, slot)));
            } else {
                topic.behind -= 1;
                cursor.waiting = Some(topic.waiting.len() as u32);
                topic.waiting.push(id);
            }
            if wanted.budget == 0 {
                break;
            }
        }
        subscription.woken = any;
        Ok(any)
    }

    /// Hands out once more what a subscription has been handed out of a topic, `first` to `last`:
    /// not much more than `budget` bytes, and at least one item; what has left the cache as a gap.
    /// Gives the sequence to go on with, if there is more.
    pub fn repair(
        &self,
        id: SubscriptionId,
        topic_id: u64,
        (first, last): (u64, u64),
        budget: usize,
        sink: &mut impl FnMut(Repaired<'_>),
    ) -> Option<u64> {
        let subscription = self.subscriptions.get(id)?;
        let slot = self.by_id.get(&topic_id);
        let found =
            slot.and_then(|slot| Some((self.topic(*slot)?, subscription.cursors.get(slot)?)));
        let Some((topic, cursor)) = found else {
            // Forgotten; or another's, of which no more is said than that it will not come.
            sink(Repaired::Gone { first, last });
            return None;
        };
        // What lies beyond comes anyway.
        let last = last.min(cursor.next.saturating_sub(1));
        let mut next = first.max(cursor.begin);
        let oldest = topic.log.first();
        if next < oldest && next <= last {
            sink(Repaired::Gone { first: next, last: last.min(oldest - 1) });
            next = oldest;
        }
        let mut left = budget;
        while next <= last
            && let Some(entry) = topic.log.get(next)
        {
            sink(Repaired::Message(MessageRef::new(topic, next, entry).since(cursor.begin)));
            next += 1;
            left = left.saturating_sub(entry.encoded.wire_len());
            if left == 0 {
                break;
            }
        }
        (next <= last).then_some(next)
    }
}

/// What [`Engine::repair`] hands out.
#[derive(Debug)]
pub enum Repaired<'a> {
    /// A message.
    Message(MessageRef<'a>),
    /// Sequences that have left the cache.
    Gone {
        /// First sequence.
        first: u64,
        /// Last sequence.
        last: u64,
    },
}

// What an announcement or a gap takes of a budget, bytes.
const NOTICE: usize = 32;

// Where a topic's items go: the first after an announcement.
struct Out<'a, S> {
    topic: &'a Topic,
    begin: u64,
    announced: bool,
    left: usize,
    sink: &'a mut S,
}

impl<S: FnMut(Item<'_>)> Out<'_, S> {
    fn give(&mut self, item: Item<'_>, taken: usize) {
        if !std::mem::replace(&mut self.announced, true) {
            self.left = self.left.saturating_sub(NOTICE + self.topic.name.len());
            (self.sink)(item.topic());
        }
        self.left = self.left.saturating_sub(taken);
        (self.sink)(item);
    }

    fn skip(&mut self, first: u64, last: u64, cause: GapCause) {
        let Topic { id, epoch, name, .. } = self.topic;
        let begin = self.begin;
        self.give(Item::Gap { id: *id, epoch: *epoch, name, begin, first, last, cause }, NOTICE);
    }
}

// Hands out a topic's items from the cursor up to the position `until`, at least one, and moves
// the cursor. Gives what is left of the budget.
fn replay(
    topic: &Topic,
    cursor: &mut Cursor,
    lag: Lag,
    wanted: &Wanted,
    until: u64,
    sink: &mut impl FnMut(Item<'_>),
) -> usize {
    let (first, next) = (topic.log.first(), topic.log.next());
    let mut out = Out {
        topic,
        begin: cursor.begin,
        announced: std::mem::replace(&mut cursor.announced, true),
        left: wanted.budget,
        sink,
    };
    if cursor.next < first {
        let (to, cause) = match lag {
            Lag::Newest => (first.max(next - 1), GapCause::Skipped),
            _ => (first, GapCause::Evicted),
        };
        out.skip(cursor.next, to - 1, cause);
        cursor.next = to;
    }
    let passed = (cursor.next..next)
        .map_while(|sequence| topic.log.get(sequence))
        .take_while(|entry| entry.accepted < wanted.accepted_since && entry.position <= until)
        .count() as u64;
    if passed > 0 {
        out.skip(cursor.next, cursor.next + passed - 1, GapCause::Late);
        cursor.next += passed;
    }
    let mut given = passed > 0;
    while let Some(entry) = topic.log.get(cursor.next) {
        if entry.position > until || (out.left == 0 && given) {
            break;
        }
        let message = MessageRef::new(topic, cursor.next, entry).since(cursor.begin);
        out.give(Item::Message(message), entry.encoded.wire_len());
        cursor.next += 1;
        given = true;
    }
    out.left
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
