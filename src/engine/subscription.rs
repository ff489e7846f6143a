//! Cursors: all the state that a subscriber costs.

use super::follow::Follow;
use super::topic::Topic;
use super::{Engine, Slot};
use crate::wire::{Filter, Lag, Position, Resume, Start};
use foldhash::fast::RandomState;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// Names a subscription, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId {
    pub(super) index: u32,
    // Low bits of the number of its birth.
    pub(super) birth: u32,
}

impl SubscriptionId {
    /// A small number, for tables; reused after the subscription has ended.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

#[derive(Debug)]
pub(super) struct Cursor {
    // Where it began; what is next.
    pub(super) begin: u64,
    pub(super) next: u64,
    pub(super) announced: bool,
    // Place in the topic's list of waiting subscriptions; none while it is behind.
    pub(super) waiting: Option<u32>,
    // It has had all that has come of what is next, or waits for the whole: it stands in that
    // message's list.
    pub(super) stalled: bool,
}

/// A large message of which a subscription was handed out a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) slot: Slot,
    // What is next, bytes.
    pub(super) offset: usize,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) birth: u32,
    // None of one that follows a message.
    filter: Option<Filter>,
    pub(super) follow: Option<Box<Follow>>,
    pub(super) lag: Lag,
    pub(super) cursors: HashMap<Slot, Cursor, RandomState>,
    // Topics with something to read, by the position of what is next in each.
    pub(super) ready: BinaryHeap<Reverse<(u64, Slot)>>,
    // At most one message is handed out in parts at a time; and the topics whose next is large
    // too, and waits for the end of that one.
    pub(super) open: Option<Open>,
    pub(super) blocked: Vec<Slot>,
    // A topic whose next message arrives, and for which all others wait.
    pub(super) held: Option<Slot>,
    // Named since it was last told that there is nothing to read.
    pub(super) woken: bool,
    // A topic that had to go before the subscription had read all of it.
    pub(super) lost: Option<Arc<str>>,
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    pub(super) all: Vec<Option<Subscription>>,
    free: Vec<u32>,
    // Those that follow a message.
    pub(super) following: usize,
    // Births so far; says which subscriptions a topic has not looked for yet.
    births: u64,
    pub(super) wakes: Vec<SubscriptionId>,
}

impl Subscriptions {
    pub(super) fn get(&self, id: SubscriptionId) -> Option<&Subscription> {
        let found = self.all.get(id.index())?.as_ref();
        found.filter(|found| found.birth == id.birth)
    }

    pub(super) fn get_mut(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        let found = self.all.get_mut(id.index())?.as_mut();
        found.filter(|found| found.birth == id.birth)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len() - self.following
    }

    /// Takes a subscription in, that is not read yet.
    pub(super) fn insert(
        &mut self,
        lag: Lag,
        follow: Option<Box<Follow>>,
    ) -> (SubscriptionId, u64) {
        self.births += 1;
        let birth = self.births as u32;
        let index = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() as u32 - 1
        });
        self.following += usize::from(follow.is_some());
        self.all[index as usize] = Some(Subscription {
            birth,
            filter: None,
            follow,
            lag,
            cursors: HashMap::default(),
            ready: BinaryHeap::new(),
            open: None,
            blocked: Vec::new(),
            held: None,
            woken: false,
            lost: None,
        });
        (SubscriptionId { index, birth }, self.births)
    }

    /// It has something to read.
    pub(super) fn name(&mut self, id: SubscriptionId) {
        if let Some(subscription) = self.get_mut(id)
            && !std::mem::replace(&mut subscription.woken, true)
        {
            self.wakes.push(id);
        }
    }

    /// More has come of the message for which it waited in that topic, or nothing will.
    pub(super) fn rouse(&mut self, id: SubscriptionId, slot: Slot, position: u64) {
        let Some(subscription) = self.get_mut(id) else {
            return;
        };
        if let Some(follow) = &mut subscription.follow {
            follow.stalled = false;
        } else if let Some(cursor) = subscription.cursors.get_mut(&slot) {
            cursor.stalled = false;
            subscription.held = None;
            subscription.ready.push(Reverse((position, slot)));
        }
        self.name(id);
    }

    /// The topic has a message at `position`, the first that the subscription has not had.
    pub(super) fn ready(&mut self, id: SubscriptionId, slot: Slot, position: u64) {
        let Some(subscription) = self.get_mut(id) else {
            return;
        };
        if let Some(cursor) = subscription.cursors.get_mut(&slot) {
            cursor.waiting = None;
        }
        subscription.ready.push(Reverse((position, slot)));
        if subscription.held.is_none() && !std::mem::replace(&mut subscription.woken, true) {
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
            let (begin, stalled) = (next, false);
            subscription.cursors.insert(slot, Cursor { begin, next, announced, waiting, stalled });
        }
    }
}

impl Engine {
    /// Begins a subscription. It is named by [`take_wakes`](Self::take_wakes) if there is
    /// something to read at once.
    pub fn subscribe(&mut self, filter: Filter, start: &Start<'_>, lag: Lag) -> SubscriptionId {
        let begins = self.beginnings(&filter, start);
        let (id, born) = self.subscriptions.insert(lag, None);
        self.filters.insert(&filter, id, born);
        if let Some(subscription) = self.subscriptions.get_mut(id) {
            subscription.filter = Some(filter);
        }
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
        // Of a topic shown twice, the first counts.
        let mut shown: HashMap<&str, &Resume<'_>, RandomState> = HashMap::default();
        if let Start::Resume { topics, .. } = start {
            shown.extend(topics.iter().rev().map(|resume| (resume.topic, resume)));
        }
        let begin = |topic: &Topic| {
            let (first, next) = (topic.log.first(), topic.log.next());
            match start {
                Start::New | Start::Last(0) => next,
                Start::Latest => topic.begin_latest(),
                Start::All => first,
                Start::Last(n) => first.max(topic.begin_latest().saturating_sub(*n - 1)),
                Start::Sequence(sequence) => (*sequence).clamp(1, next),
                Start::Resume { since, .. } => match shown.get(&*topic.name) {
                    Some(shown) if shown.epoch == topic.epoch => shown.next.clamp(1, next),
                    Some(_) => 1,
                    None => self.unheard(topic, *since),
                },
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
            // Some have left the log, and where they began is not known. They are no more than
            // the positions they had.
            return topic.log.first().saturating_sub(topic.log.gone() - since.position).max(1);
        }
        let (mut low, mut high) = (topic.log.first(), topic.log.next());
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = topic.log.get(middle);
            if entry.is_some_and(|entry| entry.position <= since.position) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, id: SubscriptionId) {
        self.detach(id);
        let table = &mut self.subscriptions;
        let Some(subscription) = table.get_mut(id) else {
            return;
        };
        let follows = subscription.follow.is_some();
        if subscription.woken {
            table.wakes.retain(|other| *other != id);
        }
        table.following -= usize::from(follows);
        table.all[id.index()] = None;
        table.free.push(id.index);
    }

    /// Ends what subscriptions have that have not read all of a topic that has to go.
    pub(super) fn abandon(&mut self, slot: Slot, name: &Arc<str>) {
        for index in 0..self.subscriptions.all.len() {
            let Some(subscription) = &mut self.subscriptions.all[index] else {
                continue;
            };
            let id = SubscriptionId { index: index as u32, birth: subscription.birth };
            let cursor = subscription.cursors.get(&slot);
            if cursor.is_some_and(|cursor| cursor.waiting.is_none()) {
                subscription.lost = Some(name.clone());
                self.detach(id);
                self.subscriptions.name(id);
            }
        }
    }

    // Gives up the filter and the cursors.
    fn detach(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get_mut(id) else {
            return;
        };
        if let Some(follow) = &subscription.follow {
            let (topic, sequence) = (follow.topic, follow.sequence);
            return self.unfollow(id, topic, sequence);
        }
        subscription.ready = BinaryHeap::new();
        (subscription.open, subscription.held) = (None, None);
        subscription.blocked = Vec::new();
        let cursors = std::mem::take(&mut subscription.cursors);
        if let Some(filter) = &subscription.filter {
            self.filters.remove(filter, id);
        }
        for (slot, cursor) in cursors {
            let Some(topic) = self.topics.get_mut(slot).and_then(Option::as_deref_mut) else {
                continue;
            };
            let Some(place) = cursor.waiting else {
                topic.behind -= 1;
                if cursor.stalled
                    && let Some(entry) = topic.log.get_mut(cursor.next)
                    && let Some(arriving) = entry.body.arriving()
                {
                    arriving.forget(id);
                }
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
                && table.get_mut(id).is_some_and(|found| !found.cursors.contains_key(&slot));
            if new {
                table.wait(id, slot, topic, next, false);
            }
        });
    }

    /// Moves the subscriptions that have something to read into `out`.
    pub fn take_wakes(&mut self, out: &mut Vec<SubscriptionId>) {
        out.append(&mut self.subscriptions.wakes);
    }
}
