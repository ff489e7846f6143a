//! Cursors: all the state that a subscriber costs, and replay, the only way to be served.

use super::log::{Entry, Origin};
use super::topic::Topic;
use super::{Engine, Slot};
use crate::wire::{Code, Digest, Encoded, Filter, GapCause, Lag, Position, Refusal, Start};
use bytes::Bytes;
use foldhash::fast::RandomState;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// Names a subscription; reused after it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub(crate) u32);

impl SubscriptionId {
    /// A small number, for tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What [`Engine::read`] hands out.
#[derive(Debug)]
pub enum Item<'a> {
    /// A topic's first message or gap follows.
    Topic {
        /// Daemon-wide id.
        id: u64,
        /// Names the run of sequences.
        epoch: u64,
        /// Where the subscription begins in it.
        next: u64,
        /// The topic.
        name: &'a Arc<str>,
    },
    /// A message.
    Message(MessageRef<'a>),
    /// Sequences that will never come.
    Gap {
        /// Daemon-wide id of the topic.
        id: u64,
        /// The topic.
        name: &'a Arc<str>,
        /// First sequence.
        first: u64,
        /// Last sequence.
        last: u64,
        /// Why.
        cause: GapCause,
    },
}

impl<'a> Item<'a> {
    /// The announcement that precedes a message which stands alone.
    pub fn topic_of(message: &MessageRef<'a>) -> Self {
        Self::Topic {
            id: message.topic_id(),
            epoch: message.epoch(),
            next: message.sequence(),
            name: message.topic(),
        }
    }
}

/// A message in the log.
#[derive(Debug, Clone, Copy)]
pub struct MessageRef<'a> {
    topic: &'a Topic,
    sequence: u64,
    entry: &'a Entry,
}

impl<'a> MessageRef<'a> {
    pub(super) fn new(topic: &'a Topic, sequence: u64, entry: &'a Entry) -> Self {
        Self {
            topic,
            sequence,
            entry,
        }
    }

    /// The topic.
    pub fn topic(&self) -> &'a Arc<str> {
        &self.topic.name
    }

    /// Daemon-wide id of the topic.
    pub fn topic_id(&self) -> u64 {
        self.topic.id
    }

    /// Names the run of sequences.
    pub fn epoch(&self) -> u64 {
        self.topic.epoch
    }

    /// Sequence in the topic.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Times the payload had been published, this time included.
    pub fn count(&self) -> u64 {
        self.entry.count
    }

    /// The publisher's clock, µs since 1970; 0 is none.
    pub fn stamp(&self) -> u64 {
        self.entry.stamp
    }

    /// Digest of the payload.
    pub fn digest(&self) -> Digest {
        self.entry.digest
    }

    /// Who published it, if that was said.
    pub fn origin(&self) -> Option<Origin> {
        self.entry.origin
    }

    /// Its bytes on the wire, shared by all.
    pub fn encoded(&self) -> &'a Encoded {
        &self.entry.encoded
    }

    /// The payload, shared by all.
    pub fn payload(&self) -> Bytes {
        self.entry.encoded.payload()
    }
}

#[derive(Debug)]
struct Cursor {
    next: u64,
    announced: bool,
    // Place in the topic's list of waiting subscriptions; none while it is behind.
    waiting: Option<u32>,
}

#[derive(Debug)]
struct Subscription {
    filter: Filter,
    lag: Lag,
    cursors: HashMap<Slot, Cursor, RandomState>,
    // Topics with something to read, by the position of what is next in each.
    ready: BinaryHeap<Reverse<(u64, Slot)>>,
    // Named since it last read to the end.
    woken: bool,
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    all: Vec<Option<Subscription>>,
    free: Vec<u32>,
    // Births so far; says which subscriptions a topic has not looked for yet.
    births: u64,
    wakes: Vec<SubscriptionId>,
}

impl Subscriptions {
    fn get_mut(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        self.all.get_mut(id.index())?.as_mut()
    }

    /// The topic has a message at `position`, the first that the subscription has not had.
    pub(super) fn ready(&mut self, id: SubscriptionId, slot: Slot, position: u64) {
        let Some(subscription) = self.all.get_mut(id.index()).and_then(Option::as_mut) else {
            return;
        };
        if let Some(cursor) = subscription.cursors.get_mut(&slot) {
            cursor.waiting = None;
        }
        subscription.ready.push(Reverse((position, slot)));
        if !subscription.woken {
            subscription.woken = true;
            self.wakes.push(id);
        }
    }

    /// The topic is no more.
    pub(super) fn forget(&mut self, id: SubscriptionId, slot: Slot) {
        if let Some(subscription) = self.get_mut(id) {
            subscription.cursors.remove(&slot);
        }
    }

    fn wait(
        &mut self,
        id: SubscriptionId,
        slot: Slot,
        topic: &mut Topic,
        next: u64,
        announced: bool,
    ) {
        if let Some(subscription) = self.get_mut(id) {
            let waiting = Some(topic.waiting.len() as u32);
            topic.waiting.push(id);
            subscription.cursors.insert(
                slot,
                Cursor {
                    next,
                    announced,
                    waiting,
                },
            );
        }
    }
}

impl Engine {
    /// Begins a subscription. It is named by [`take_wakes`](Self::take_wakes) if there is
    /// something to read at once.
    pub fn subscribe(&mut self, filter: Filter, start: &Start<'_>, lag: Lag) -> SubscriptionId {
        let table = &mut self.subscriptions;
        table.births += 1;
        let born = table.births;
        let id = SubscriptionId(table.free.pop().unwrap_or_else(|| {
            table.all.push(None);
            table.all.len() as u32 - 1
        }));
        self.filters.insert(&filter, id, born);
        let begins = self.beginnings(&filter, start);
        self.subscriptions.all[id.index()] = Some(Subscription {
            filter,
            lag,
            cursors: HashMap::default(),
            ready: BinaryHeap::new(),
            woken: false,
        });
        for (slot, next) in begins {
            let Some(topic) = self.topics[slot].as_deref_mut() else {
                continue;
            };
            self.subscriptions.wait(id, slot, topic, next, false);
            if next < topic.log.next() {
                topic.waiting.pop();
                topic.behind += 1;
                // What has left the log is older than everything in it.
                let position = topic.log.get(next).map_or(0, |entry| entry.position);
                self.subscriptions.ready(id, slot, position);
            }
        }
        id
    }

    // Where a subscription begins in the topics there are. Topics that are not named here begin
    // with their next message: see `resolve`.
    fn beginnings(&self, filter: &Filter, start: &Start<'_>) -> Vec<(Slot, u64)> {
        if matches!(start, Start::New) {
            return Vec::new();
        }
        let begin = |topic: &Topic| {
            let (first, next) = (topic.log.first(), topic.log.next());
            match start {
                Start::New => next,
                Start::Latest => first.max(next - 1),
                Start::All => first,
                Start::Last(n) => first.max(next.saturating_sub(*n)),
                Start::Sequence(sequence) => (*sequence).clamp(1, next),
                Start::Resume { since, topics } => {
                    match topics.iter().find(|shown| *shown.topic == *topic.name) {
                        Some(shown) if shown.epoch == topic.epoch => shown.next.clamp(1, next),
                        Some(_) => 1,
                        None => self.unheard(topic, *since),
                    }
                }
            }
        };
        if filter.is_exact() {
            let slot = self.by_use.peek(filter.as_str());
            let topic = slot.and_then(|slot| Some((*slot, begin(self.topic(*slot)?))));
            return topic.into_iter().collect();
        }
        let prefix = filter.literal_prefix();
        self.by_name
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter(|(name, _)| filter.matches(name))
            .filter_map(|(_, slot)| Some((*slot, begin(self.topic(*slot)?))))
            .collect()
    }

    // Where to begin in a topic that a resuming client never heard of: with everything accepted
    // since its subscription began.
    fn unheard(&self, topic: &Topic, since: Position) -> u64 {
        if since.run != self.run || topic.born > since.position {
            return 1;
        }
        if topic.log.gone() > since.position {
            // Some have left the log, and where they began is not known: the gap told is from 1.
            return 1;
        }
        let (mut low, mut high) = (topic.log.first(), topic.log.next());
        while low < high {
            let middle = low + (high - low) / 2;
            match topic
                .log
                .get(middle)
                .is_some_and(|entry| entry.position <= since.position)
            {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, id: SubscriptionId) {
        let table = &mut self.subscriptions;
        let Some(subscription) = table.all.get_mut(id.index()).and_then(Option::take) else {
            return;
        };
        table.free.push(id.0);
        table.wakes.retain(|other| *other != id);
        self.filters.remove(&subscription.filter, id);
        for (slot, cursor) in subscription.cursors {
            let Some(topic) = self
                .topics
                .get_mut(slot)
                .and_then(|topic| topic.as_deref_mut())
            else {
                continue;
            };
            let Some(place) = cursor.waiting else {
                topic.behind -= 1;
                continue;
            };
            topic.waiting.swap_remove(place as usize);
            if let Some(moved) = topic.waiting.get(place as usize)
                && let Some(moved) = self.subscriptions.get_mut(*moved)
                && let Some(cursor) = moved.cursors.get_mut(&slot)
            {
                cursor.waiting = Some(place);
            }
        }
    }

    // Finds the subscriptions that began since the topic last moved: they begin with the message
    // about to be published.
    pub(super) fn resolve(&mut self, slot: Slot) {
        let births = self.subscriptions.births;
        let Some(topic) = self.topics[slot].as_deref_mut() else {
            return;
        };
        if topic.resolved == births {
            return;
        }
        let (name, resolved, next) = (topic.name.clone(), topic.resolved, topic.log.next());
        topic.resolved = births;
        let table = &mut self.subscriptions;
        self.filters.matching(&name, |id, born| {
            let new = born > resolved
                && table
                    .get_mut(id)
                    .is_some_and(|found| !found.cursors.contains_key(&slot));
            if new {
                table.wait(id, slot, topic, next, false);
            }
        });
    }

    /// Moves the subscriptions that have something to read into `out`.
    pub fn take_wakes(&mut self, out: &mut Vec<SubscriptionId>) {
        out.append(&mut self.subscriptions.wakes);
    }

    /// Hands out what lies between the cursor and the head, at least one item if there is one,
    /// and not much more than `budget` bytes. Says whether there was anything; when there was
    /// not, the subscription will be named again once there is.
    ///
    /// Refused with [`Code::LAGGED`] when the subscription asked to be ended rather than to miss
    /// something: then end it.
    pub fn read(
        &mut self,
        id: SubscriptionId,
        budget: usize,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<bool, Refusal> {
        let mut given = 0;
        let mut any = false;
        while given < budget {
            let Some(subscription) = self.subscriptions.get_mut(id) else {
                break;
            };
            let Some(Reverse((_, slot))) = subscription.ready.pop() else {
                subscription.woken = false;
                break;
            };
            let until = subscription
                .ready
                .peek()
                .map_or(u64::MAX, |Reverse((position, _))| *position);
            let lag = subscription.lag;
            let (Some(topic), Some(cursor)) = (
                self.topics
                    .get_mut(slot)
                    .and_then(|topic| topic.as_deref_mut()),
                subscription.cursors.get_mut(&slot),
            ) else {
                continue;
            };
            let next = topic.log.next();
            let first = topic.log.first();
            if cursor.next < first && lag == Lag::Disconnect {
                subscription.ready.push(Reverse((0, slot)));
                return Err(Refusal::new(
                    Code::LAGGED,
                    format!(
                        "fell behind the cache of {}: wanted message {}, the oldest is {first}",
                        topic.name, cursor.next
                    ),
                ));
            }
            if !cursor.announced {
                cursor.announced = true;
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
                sink(Item::Gap {
                    id: topic.id,
                    name: &topic.name,
                    first: cursor.next,
                    last: to - 1,
                    cause,
                });
                cursor.next = to;
                any = true;
            }
            while let Some(entry) = topic.log.get(cursor.next) {
                if entry.position > until || given >= budget {
                    break;
                }
                sink(Item::Message(MessageRef::new(topic, cursor.next, entry)));
                given += entry.encoded.wire_len();
                cursor.next += 1;
                any = true;
            }
            match topic.log.get(cursor.next) {
                Some(entry) => subscription.ready.push(Reverse((entry.position, slot))),
                None => {
                    topic.behind -= 1;
                    cursor.waiting = Some(topic.waiting.len() as u32);
                    topic.waiting.push(id);
                }
            }
        }
        Ok(any)
    }
}
