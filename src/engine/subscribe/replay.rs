//! Replay from a cursor: the only way to be served.

use super::discover::LEARNED;
use super::forgotten::lost;
use super::step::{Next, Step};
use super::table::{Cursor, Subscription, Why};
use crate::engine::topic::Topic;
use crate::engine::{Engine, Item, SubscriptionId};
use crate::wire::{Code, Lag, Refusal};
use std::cmp::Reverse;

/// What a read is to hand out. A subscription is read in one way, from its first read to its last.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// Not much more than so many bytes, and at least one item.
    pub budget: usize,
    /// Messages accepted before this time are passed over, and told as a gap; 0 is none.
    pub accepted_since: u64,
    /// In what form payloads above [`LARGE`](crate::wire::LARGE) are handed out.
    pub large: LargePayloads,
}

/// How large messages are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LargePayloads {
    /// As one message, once it is complete. Messages of other topics may overtake it.
    WhenComplete,
    /// While they arrive: [`Item::Begin`], and what follows it. At most one is open at a time.
    /// Messages of other topics may overtake it; a large one that is complete makes one that still
    /// arrives [give way](Code::OVERTAKEN).
    InChunks,
    /// Only named, complete or not: [`Item::Large`].
    AnnounceOnly,
}

impl From<usize> for ReadOptions {
    /// Everything whole, in portions of not much more than so many bytes.
    fn from(budget: usize) -> Self {
        Self { budget, accepted_since: 0, large: LargePayloads::WhenComplete }
    }
}

impl Engine {
    /// Whether the subscription has had everything that there is: then it will be named again once
    /// there is more, and need not be [read](Self::read) until then.
    pub fn rest(&mut self, id: SubscriptionId) -> bool {
        let Some(s) = self.subscriptions.get_mut(id) else {
            return false;
        };
        let rest = s.idle && s.window.is_empty() && s.lost.is_none();
        s.woken &= !rest;
        rest
    }

    /// Whether the subscription looks through the names of topics for what it has not had. Each
    /// [read](Self::read) does a portion of that; whoever calls lets few do so at a time.
    pub fn is_sweeping(&self, id: SubscriptionId) -> bool {
        self.subscriptions.get(id).is_some_and(|s| s.sweep.is_some())
    }

    /// Hands out what lies between the cursor and the head, and not much more than is wanted. Says
    /// whether to read again: there was something, or it takes more than one call to find it. If
    /// not, the subscription will be named once there is more.
    ///
    /// Refused with [`Code::DONE`] when the subscription has ended, or the message that it follows
    /// has been handed out, and with [`Code::LAGGED`] or [`Code::OVERLOADED`] when it asked to be
    /// ended rather than to miss something, holds up topics that have to go, or takes more than
    /// there is room for: then end it.
    pub fn read(
        &mut self,
        id: SubscriptionId,
        wanted: impl Into<ReadOptions>,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<bool, Refusal> {
        let wanted = wanted.into();
        if self.rest(id) {
            return Ok(false);
        }
        let Some(mut s) = self.subscriptions.take(id) else {
            return Err(Refusal::new(Code::DONE, "the subscription has ended"));
        };
        let read = match &s.lost {
            Some(why) => Err(why.clone()),
            None if s.follow.is_some() => self.read_followed(id, &mut s, wanted.budget, sink),
            None => self.replay(id, &mut s, wanted, sink),
        };
        // Not moved as a whole: to read a result in words of which a byte was written just now stalls.
        match read {
            Ok(again) => {
                self.subscriptions.put_back(id, s);
                Ok(again)
            }
            Err(why) => {
                if s.lost.is_none() && s.follow.is_none() {
                    self.lose(&mut s, why.clone());
                }
                self.subscriptions.put_back(id, s);
                Err(why)
            }
        }
    }

    // Before they are more than are remembered. One that is idle has only what it has waited for
    // to read: of anything else it is told once it is woken, and knows then up to where it had all.
    fn look_at_forgotten(&self, s: &mut Subscription) -> Result<(), Refusal> {
        if !s.idle
            && self.forgotten.is_due(s.forgotten, self.portions.forgotten)
            && let Some(filter) = s.filter.take()
        {
            let checked = self.forgotten.check(s, &filter, self.run);
            s.filter = Some(filter);
            checked?;
        }
        Ok(())
    }

    fn replay(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        mut wanted: ReadOptions,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<bool, Refusal> {
        self.look_at_forgotten(s)?;
        let apart = wanted.large == LargePayloads::AnnounceOnly;
        let sweeps = s.sweep.is_some();
        let portion = if sweeps { self.portions.sweep } else { self.portions.work };
        let (mut any, mut work) = (false, portion);
        while work > 0 && !(any && wanted.budget == 0) {
            let news = if s.news.is_some() { self.look_at_news(s, apart) } else { None };
            let next = news.or_else(|| s.window.pop().map(|Reverse(next)| next));
            let Some(mut cursor) = next else {
                self.settle_window(id, s, apart, &mut work)?;
                if s.window.is_empty() {
                    break;
                }
                continue;
            };
            work -= 1;
            if s.exact {
                // There is nothing else to look for.
                s.upto = self.position;
            }
            let topic = self.topics.get_mut(cursor.slot as usize).and_then(Option::as_deref_mut);
            let Some(topic) = topic.filter(|topic| topic.id == cursor.topic) else {
                return Err(lost("a topic"));
            };
            if s.lag == Lag::Disconnect && cursor.next < topic.log.first() {
                return Err(fell_behind(topic, &cursor));
            }
            let until = s.window.peek().map_or(u64::MAX, |Reverse(next)| next.position);
            let stalled = s.open.is_some_and(|open| s.aside.contains_key(&open.slot));
            let (next, left, given) = {
                let mut step = Step {
                    slot: cursor.slot,
                    open: &mut s.open,
                    // Others wait for what is open.
                    others: !s.aside.is_empty(),
                    stalled,
                    lag: s.lag,
                    wanted: &wanted,
                    until: until.min(s.upto),
                    upto: s.upto,
                };
                step.run(topic, &mut cursor, sink)
            };
            wanted.budget = left;
            any |= given;
            let told = apart && cursor.announced;
            if let Next::Stalled | Next::Waits | Next::Overtakes = next
                && let Some(entry) = topic.log.get(cursor.next)
            {
                // Perhaps it has told a gap, or what came before.
                cursor.position = entry.position;
            }
            match next {
                Next::More(position) if position <= s.upto => {
                    cursor.position = position;
                    s.window.push(Reverse(cursor));
                }
                // What comes after this window is found with the next, unless it could not be told
                // apart there from what was had, or what looks for that has passed this topic by
                // while it waited.
                Next::More(_) | Next::Head
                    if (cursor.lasts || s.sweep.is_some()) && topic.moved() > s.upto =>
                {
                    let position = match &next {
                        Next::More(position) => *position,
                        _ if cursor.next < topic.log.first() => 0,
                        _ => topic.moved(),
                    };
                    cursor.position = position;
                    self.put_off(id, s, cursor, &mut work)?;
                }
                Next::More(_) | Next::Head => {}
                Next::Lost => return Err(fell_behind(topic, &cursor)),
                // Until what is open has come to its end, or it is complete itself.
                Next::Stalled | Next::Waits => {
                    self.set_aside(id, s, (cursor, next.why()), wanted.large, &mut work)?;
                }
                Next::Overtakes => {
                    self.give_way(id, s, sink);
                    any = true;
                    s.window.push(Reverse(cursor));
                }
            }
            if told && !s.known.contains_key(&cursor.topic) {
                self.learn(s, &cursor)?;
                work = work.saturating_sub(LEARNED);
            }
            // What waits for the open one may overtake it, once it stands still.
            let free = s.open.is_none_or(|open| !stalled && s.aside.contains_key(&open.slot));
            if free && !s.aside.is_empty() {
                // To look through them is work as well.
                work = work.saturating_sub(s.aside.len() / 8);
                let blocked = s.aside.extract_if(|_, waits| waits.why == Why::Blocked);
                s.window.extend(blocked.map(|(_, waits)| Reverse(waits.cursor)));
            }
        }
        if s.window.is_empty() && !s.idle && work > 0 {
            // Perhaps that was all.
            self.settle_window(id, s, apart, &mut work)?;
        }
        self.register(s);
        self.work += portion - work;
        let rests = s.idle && s.window.is_empty();
        // One that was handed something reads again, and is told then that this was all.
        s.woken = any || !rests;
        Ok(s.woken)
    }
}

fn fell_behind(topic: &Topic, cursor: &Cursor) -> Refusal {
    let (name, next, first) = (&topic.name, cursor.next, topic.log.first());
    let why = if next < first {
        format!("the oldest is {first}")
    } else {
        "which made room while one before it still arrives".into()
    };
    Refusal::new(
        Code::LAGGED,
        format!("fell behind the cache of {name}: wanted message {next}, {why}"),
    )
}
