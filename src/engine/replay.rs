//! Replay from a cursor: the only way to be served.

use super::body::Body;
use super::log::Entry;
use super::out::{Came, Out};
use super::subscription::{Cursor, Open};
use super::topic::Topic;
use super::{Engine, Item, MessageRef, Slot, SubscriptionId};
use crate::wire::{Code, GapCause, Lag, Refusal};
use std::cmp::Reverse;

/// What a read is to hand out. A subscription is read in one way, from its first read to its last.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Not much more than so many bytes, and at least one item.
    pub budget: usize,
    /// Messages accepted before this time are passed over, and told as a gap; 0 is none.
    pub accepted_since: u64,
    /// In what form payloads above [`LARGE`](crate::wire::LARGE) are handed out.
    pub large: Large,
}

/// How large messages are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Large {
    /// As one message, once it is complete.
    Whole {
        /// Whether messages of other topics, that were accepted after one that is still arriving
        /// began to arrive, wait for it; or may overtake it.
        in_order: bool,
    },
    /// While they arrive: [`Item::Begin`], and what follows it. At most one is open at a time.
    /// Messages of other topics may overtake it.
    Pieces,
    /// Only named, complete or not: [`Item::Large`].
    Apart,
}

impl From<usize> for Wanted {
    /// Everything whole and in order, in portions of not much more than so many bytes.
    fn from(budget: usize) -> Self {
        Self { budget, accepted_since: 0, large: Large::Whole { in_order: true } }
    }
}

impl Engine {
    /// Whether the subscription has had everything that there is: then it will be named again once
    /// there is more, and need not be [read](Self::read) until then.
    pub fn rest(&mut self, id: SubscriptionId) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(id) else {
            return false;
        };
        let rest = subscription.ready.is_empty()
            && subscription.lost.is_none()
            && subscription.follow.is_none();
        subscription.woken &= !rest;
        rest
    }

    /// Hands out what lies between the cursor and the head, at least one item if there is one,
    /// and not much more than is wanted. Says whether there was anything; when there was
    /// not, the subscription will be named again once there is.
    ///
    /// Refused with [`Code::DONE`] when the subscription has ended, or the message that it follows
    /// has been handed out, and with [`Code::LAGGED`] when it asked to be ended rather than to miss
    /// something, or holds up topics that have to go: then end it.
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
        if subscription.follow.is_some() {
            return self.read_followed(id, wanted.budget, sink);
        }
        let mut any = false;
        while subscription.held.is_none()
            && let Some(Reverse((_, slot))) = subscription.ready.pop()
        {
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
            let mut replay = Replay {
                slot,
                open: &mut subscription.open,
                others: !subscription.blocked.is_empty(),
                lag: subscription.lag,
                wanted: &wanted,
                until,
            };
            let (next, left, given) = replay.run(topic, cursor, sink);
            wanted.budget = left;
            any |= given;
            match next {
                Next::More(position) => subscription.ready.push(Reverse((position, slot))),
                Next::Head => {
                    topic.behind -= 1;
                    cursor.waiting = Some(topic.waiting.len() as u32);
                    topic.waiting.push(id);
                }
                Next::Blocked => subscription.blocked.push(slot),
                Next::Stalled => {
                    cursor.stalled = true;
                    let entry = topic.log.get_mut(cursor.next);
                    if let Some(arriving) = entry.and_then(|entry| entry.body.arriving()) {
                        let whole = matches!(wanted.large, Large::Whole { .. });
                        if whole { &mut arriving.whole } else { &mut arriving.waiting }.push(id);
                    }
                    if wanted.large == (Large::Whole { in_order: true }) {
                        subscription.held = Some(slot);
                    }
                }
            }
            if subscription.open.is_none() && !subscription.blocked.is_empty() {
                for slot in std::mem::take(&mut subscription.blocked) {
                    // What has left the log is older than everything in it.
                    let topic = self.topics.get(slot).and_then(Option::as_deref);
                    let next = subscription.cursors.get(&slot).map_or(0, |cursor| cursor.next);
                    let entry = topic.and_then(|topic| topic.log.get(next));
                    let position = entry.map_or(0, |entry| entry.position);
                    subscription.ready.push(Reverse((position, slot)));
                }
            }
            if wanted.budget == 0 && any {
                break;
            }
        }
        subscription.woken = any;
        Ok(any)
    }

    /// The position up to which a subscription that is read whole and in order has had everything
    /// that it asked for.
    pub fn had(&self, id: SubscriptionId) -> u64 {
        let next = self.subscriptions.get(id).and_then(|subscription| {
            let held = subscription.held.and_then(|slot| {
                let next = subscription.cursors.get(&slot)?.next;
                Some(self.topic(slot)?.log.get(next)?.position)
            });
            let ready = subscription.ready.peek().map(|Reverse((position, _))| *position);
            held.into_iter().chain(ready).min()
        });
        next.map_or(self.position, |next| next.saturating_sub(1))
    }
}

// What stands next for a cursor.
enum Next {
    // A message at this position, to be read after others, or in another read.
    More(u64),
    // Nothing.
    Head,
    // More of a message that has not come yet.
    Stalled,
    // A large message, while another is open.
    Blocked,
}

struct Replay<'a> {
    slot: Slot,
    open: &'a mut Option<Open>,
    // Whether others wait for what is open.
    others: bool,
    lag: Lag,
    wanted: &'a Wanted,
    until: u64,
}

impl Replay<'_> {
    // Hands out a topic's items from the cursor up to a position, and moves the cursor. Gives what
    // stands next, what is left of the budget, and whether there was anything.
    fn run(
        &mut self,
        topic: &Topic,
        cursor: &mut Cursor,
        sink: &mut impl FnMut(Item<'_>),
    ) -> (Next, usize, bool) {
        let mut out = Out {
            topic,
            begin: cursor.begin,
            announced: cursor.announced,
            left: self.wanted.budget,
            given: false,
            sink,
        };
        let next = self.topic(topic, cursor, &mut out);
        cursor.announced = out.announced;
        (next, out.left, out.given)
    }

    fn topic<S: FnMut(Item<'_>)>(
        &mut self,
        topic: &Topic,
        cursor: &mut Cursor,
        out: &mut Out<'_, S>,
    ) -> Next {
        let first = topic.log.first();
        if cursor.next < first {
            let (to, cause) = match self.lag {
                Lag::Newest => (topic.begin_latest(), GapCause::Skipped),
                _ => (first, GapCause::Evicted),
            };
            self.abort(Code::EVICTED, out);
            out.skip(cursor.next, to - 1, cause);
            cursor.next = to;
        }
        while let Some(entry) = topic.log.get(cursor.next) {
            if entry.position > self.until || out.is_full() {
                return Next::More(entry.position);
            }
            let message = MessageRef::new(topic, cursor.next, entry).since(cursor.begin);
            if self.is_passed(entry) && !self.is_open() {
                let passed = self.run_of(topic, cursor.next, |entry| self.is_passed(entry));
                out.skip(cursor.next, cursor.next + passed - 1, GapCause::Late);
                cursor.next += passed;
                continue;
            }
            match &entry.body {
                Body::Small(encoded) => out.give(Item::Message(message), encoded.wire_len()),
                Body::Aborted { .. } => {
                    self.abort(Code::PUBLISHER_GONE, out);
                    let is_aborted = |entry: &Entry| matches!(entry.body, Body::Aborted { .. });
                    let aborted = self.run_of(topic, cursor.next, is_aborted);
                    out.skip(cursor.next, cursor.next + aborted - 1, GapCause::Aborted);
                    cursor.next += aborted - 1;
                }
                Body::Large(_) | Body::Arriving(_) => {
                    if let Err(next) = self.large(message, out) {
                        return next;
                    }
                }
            }
            cursor.next += 1;
            if self.others && self.open.is_none() {
                break;
            }
        }
        topic.log.get(cursor.next).map_or(Next::Head, |entry| Next::More(entry.position))
    }

    // Hands out a large message; what stands next, if it was not handed out to its end.
    fn large<S: FnMut(Item<'_>)>(
        &mut self,
        message: MessageRef<'_>,
        out: &mut Out<'_, S>,
    ) -> Result<(), Next> {
        match self.wanted.large {
            Large::Apart => out.notice(Item::Large(message)),
            Large::Whole { .. } if message.is_complete() => {
                out.give(Item::Message(message), message.wire_len());
            }
            Large::Whole { .. } => return Err(Next::Stalled),
            Large::Pieces => {
                if self.open.is_none() {
                    *self.open = Some(Open { slot: self.slot, offset: 0 });
                    out.notice(Item::Begin(message));
                }
                let slot = self.slot;
                let Some(open) = self.open.as_mut().filter(|open| open.slot == slot) else {
                    return Err(Next::Blocked);
                };
                match out.chunks(message, &mut open.offset) {
                    Came::All => *self.open = None,
                    Came::SoFar => return Err(Next::Stalled),
                    Came::Some => return Err(Next::More(message.position())),
                }
            }
        }
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.open.is_some_and(|open| open.slot == self.slot)
    }

    // What was begun will not be completed.
    fn abort<S: FnMut(Item<'_>)>(&mut self, code: Code, out: &mut Out<'_, S>) {
        if self.is_open() {
            *self.open = None;
            out.notice(Item::Abort { code });
        }
    }

    fn is_passed(&self, entry: &Entry) -> bool {
        entry.accepted < self.wanted.accepted_since && !matches!(entry.body, Body::Aborted { .. })
    }

    // How many messages from here on are of that kind.
    fn run_of(&self, topic: &Topic, from: u64, kind: impl Fn(&Entry) -> bool) -> u64 {
        (from..topic.log.next())
            .map_while(|sequence| topic.log.get(sequence))
            .take_while(|entry| entry.position <= self.until && kind(entry))
            .count() as u64
    }
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
