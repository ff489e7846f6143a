//! Subscriptions: what one costs is a position, and a window of cursors while it is behind.
//!
//! A subscription has had everything that its filter matches up to a position. While that is all
//! there is it is *idle*, and stands in the list of its [group](super::filter_tree::Group). A
//! publication wakes it; then it [looks](super::discover) which topics have moved since, hands
//! out what they have in the order of positions, and is idle again.

use super::discover::Sweep;
use super::filter_tree::GroupId;
use super::single_message::Follow;
use super::start::Kind;
use crate::engine::reading::{Reading, Registered};
use crate::engine::topic::body::Waiting;
use crate::engine::{Beginning, Charge, Engine, Slot};
use crate::wire::{Filter, Lag, Refusal};
use foldhash::fast::RandomState;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::num::NonZeroU64;

/// Names a subscription, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId {
    pub(crate) index: u32,
    // Low bits of the number of its birth.
    pub(crate) birth: u32,
}

impl SubscriptionId {
    /// A small number, for tables; reused after the subscription has ended, so that what stands
    /// there is compared with the whole id.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Where a subscription stands in a topic of which it has not had everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    // Of what is next; 0 if that has left the log.
    pub(crate) position: u64,
    pub(crate) slot: u32,
    // The topic's id: slots are reused.
    pub(crate) topic: u64,
    // Where it began; what is next.
    pub(crate) begin: u64,
    pub(crate) next: u64,
    pub(crate) announced: bool,
    pub(crate) arrives: Arrives,
    // It goes on into the next window, because how far this one went in its topic is not known.
    pub(crate) lasts: bool,
}

/// What becomes of a large message, if it still arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arrives {
    /// It is handed out in the way that the subscription wants it.
    AsWanted,
    /// It has made way for others, and is handed out once it is complete.
    Patient,
    /// It is passed over: others would have to wait for it.
    Passed,
}

impl Cursor {
    /// To another message, which has not made way for anything.
    pub(crate) fn go_to(&mut self, next: u64) {
        (self.next, self.arrives) = (next, Arrives::AsWanted);
    }
}

/// The message that a subscription was woken for. It had everything before that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News {
    pub(crate) position: NonZeroU64,
    pub(crate) sequence: u64,
    // The position of the one before it in its topic.
    pub(crate) before: u64,
    pub(crate) slot: u32,
}

impl News {
    /// Up to here everything was had.
    pub(crate) fn floor(&self) -> u64 {
        self.position.get() - 1
    }
}

/// A large message of which a subscription was handed out a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) slot: u32,
    // What is next, bytes.
    pub(crate) offset: usize,
}

/// A cursor that waits for something else than its turn.
#[derive(Debug)]
pub(crate) struct Waits {
    pub(crate) cursor: Cursor,
    pub(crate) why: Why,
    // Its message still arrives: it is named when that comes to its end, in whatever way.
    pub(crate) arrives: bool,
}

/// For what a cursor waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// For more of its message, or for all of it.
    Stalled,
    /// For another large message to come to its end, or to stand still.
    Blocked,
    /// For the next window.
    Later,
}

/// The fields in front are those that a live delivery uses: two cache lines.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Subscription {
    pub(crate) birth: u32,
    pub(crate) group: GroupId,
    // It has had everything, and where it stands in the list of those.
    pub(crate) place: u32,
    pub(crate) idle: bool,
    // Named since it was last told that there is nothing to read.
    pub(crate) woken: bool,
    pub(crate) lag: Lag,
    // Whether the filter is a topic.
    pub(crate) exact: bool,
    // It has had everything up to here, but for what is in the window or aside.
    pub(crate) had: u64,
    // The window has everything that it has not had up to here.
    pub(crate) upto: u64,
    // When it began.
    pub(crate) began: u64,
    // What comes next after `had`, if that is known.
    pub(crate) news: Option<News>,
    pub(crate) registered: Registered,
    pub(crate) window: BinaryHeap<Reverse<Cursor>>,
    // How it begins, until it has had everything that was there then.
    pub(crate) start: Option<Box<Kind>>,
    // Uploads that were complete when it began.
    pub(crate) uploads: u64,
    pub(crate) sweep: Option<Box<Sweep>>,
    pub(crate) follow: Option<Box<Follow>>,
    // At most one message is handed out in parts at a time.
    pub(crate) open: Option<Open>,
    pub(crate) aside: HashMap<u32, Waits, RandomState>,
    // It is to end.
    pub(crate) lost: Option<Refusal>,
    // None of one that follows a message.
    pub(crate) filter: Option<Filter>,
    // Where it began in the topics that it was told of, by id; only of one that is read apart,
    // whose messages come in any order and are each announced anew.
    // Not a hash table: one of that size takes a millisecond to grow.
    pub(crate) known: BTreeMap<u64, u64>,
    // Up to which id these have been looked at.
    pub(crate) known_at: u64,
    // Topics forgotten up to here have been looked at.
    pub(crate) forgotten: u64,
    // For the beginning, the window, and what it knows.
    pub(crate) charge: Option<Charge>,
    pub(crate) window_charge: Option<Charge>,
    pub(crate) aside_charge: Option<Charge>,
    pub(crate) known_charge: Option<Charge>,
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    pub(crate) all: Vec<Option<Box<Subscription>>>,
    free: Vec<u32>,
    live: usize,
    // Those that follow a message.
    following: usize,
    births: u32,
    pub(crate) reading: Reading,
    pub(crate) wakes: Vec<SubscriptionId>,
    pub(crate) ended: Vec<SubscriptionId>,
}

impl Subscriptions {
    pub(crate) fn get(&self, id: SubscriptionId) -> Option<&Subscription> {
        let found = self.all.get(id.index())?.as_deref();
        found.filter(|found| found.birth == id.birth)
    }

    pub(crate) fn get_mut(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        let found = self.all.get_mut(id.index())?.as_deref_mut();
        found.filter(|found| found.birth == id.birth)
    }

    /// Takes one out, to be [put back](Self::put_back) before anything else is done with it.
    pub(crate) fn take(&mut self, id: SubscriptionId) -> Option<Box<Subscription>> {
        self.all.get_mut(id.index())?.take_if(|found| found.birth == id.birth)
    }

    pub(crate) fn put_back(&mut self, id: SubscriptionId, subscription: Box<Subscription>) {
        if let Some(place) = self.all.get_mut(id.index()) {
            *place = Some(subscription);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.live - self.following
    }

    /// Takes a subscription in, that is not read yet.
    pub(crate) fn insert(
        &mut self,
        lag: Lag,
        follow: Option<Box<Follow>>,
        position: u64,
    ) -> SubscriptionId {
        self.births = self.births.wrapping_add(1);
        let birth = self.births;
        let index = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() as u32 - 1
        });
        self.live += 1;
        self.following += usize::from(follow.is_some());
        self.all[index as usize] = Some(Box::new(Subscription {
            birth,
            filter: None,
            group: 0,
            follow,
            lag,
            exact: false,
            start: None,
            uploads: 0,
            began: position,
            had: position,
            upto: position,
            window: BinaryHeap::new(),
            aside: HashMap::default(),
            sweep: None,
            open: None,
            known: BTreeMap::new(),
            known_at: 0,
            forgotten: 0,
            idle: false,
            place: 0,
            registered: Registered::default(),
            news: None,
            woken: false,
            lost: None,
            charge: None,
            window_charge: None,
            aside_charge: None,
            known_charge: None,
        }));
        SubscriptionId { index, birth }
    }

    /// It has something to read.
    pub(crate) fn name(&mut self, id: SubscriptionId) {
        if let Some(subscription) = self.get_mut(id)
            && !std::mem::replace(&mut subscription.woken, true)
        {
            self.wakes.push(id);
        }
    }

    /// More has come of the message for which it waited in that topic, or nothing will.
    pub(crate) fn rouse(&mut self, id: SubscriptionId, slot: Slot) {
        let Some(subscription) = self.get_mut(id) else {
            return;
        };
        if let Some(follow) = &mut subscription.follow {
            follow.stalled = false;
        } else if let Some(waits) = subscription.aside.remove(&(slot as u32)) {
            subscription.window.push(Reverse(waits.cursor));
        } else {
            return;
        }
        self.name(id);
    }

    /// Puts one among those who wait for a message, in place of one that has ended and had its index.
    pub(crate) fn line_up(waiting: &mut Waiting, id: SubscriptionId) {
        let with = |birth| SubscriptionId { birth, ..id };
        let same = waiting.range(with(0)..=with(u32::MAX)).next().copied();
        if same != Some(id) {
            same.map(|ended| waiting.remove(&ended));
            waiting.insert(id);
        }
    }

    /// There is something new, and an idle subscription has had everything up to `floor` before.
    pub(crate) fn wake(&mut self, id: SubscriptionId, news: &News, floor: u64) {
        let Self { reading, wakes, all, .. } = self;
        let found = all.get_mut(id.index()).and_then(Option::as_deref_mut);
        let Some(subscription) = found.filter(|found| found.birth == id.birth) else {
            return;
        };
        subscription.idle = false;
        // Where it is woken late it may have had this, and more.
        // One that was read while it was idle, of what it had waited for, may stand beyond `had`.
        let had = subscription.had.max(subscription.upto).max(floor);
        (subscription.had, subscription.upto) = (had, had);
        subscription.news = (news.floor() == had).then_some(*news);
        reading.stand(&mut subscription.registered, had);
        if !std::mem::replace(&mut subscription.woken, true) {
            wakes.push(id);
        }
    }
}

impl Engine {
    /// Begins a subscription. It is named by [`take_wakes`](Self::take_wakes) if there is
    /// something to read at once, or if that has to be looked for. One that begins with a list of
    /// topics for which the budget has no room ends with its first read.
    pub fn subscribe(
        &mut self,
        filter: Filter,
        start: impl Into<Beginning>,
        lag: Lag,
    ) -> SubscriptionId {
        let start = start.into();
        let cost = start.cost();
        let id = self.subscriptions.insert(lag, None, self.position);
        let Some(mut subscription) = self.subscriptions.take(id) else {
            unreachable!("it was put there");
        };
        self.work += 16;
        subscription.uploads = self.uploads;
        subscription.group = self.filters.insert(&filter);
        subscription.forgotten = self.forgotten.next();
        subscription.exact = filter.is_exact();
        subscription.filter = Some(filter);
        if let Kind::New = start.0 {
            self.idle(id, &mut subscription);
        } else {
            (subscription.had, subscription.upto) = (0, 0);
            subscription.start = Some(Box::new(start.0));
            if cost > 0 {
                subscription.charge = self.budget.take(cost);
            }
            if cost > 0 && subscription.charge.is_none() {
                self.lose(&mut subscription, super::discover::no_room());
            } else {
                // What little there is to look at is looked at now.
                let mut work = self.portions.first;
                if let Err(refusal) = self.settle_window(id, &mut subscription, false, &mut work) {
                    self.lose(&mut subscription, refusal);
                }
                self.work += self.portions.first - work;
            }
            self.register(&mut subscription);
            if !subscription.idle {
                subscription.woken = true;
                self.subscriptions.wakes.push(id);
            }
        }
        self.subscriptions.put_back(id, subscription);
        id
    }

    /// It has had everything.
    pub(crate) fn idle(&mut self, id: SubscriptionId, subscription: &mut Subscription) {
        self.subscriptions.reading.forget(&mut subscription.registered);
        let idle = &mut self.filters.groups[subscription.group as usize].idle;
        subscription.place = idle.len() as u32;
        idle.push(id);
        subscription.idle = true;
        (subscription.had, subscription.upto) = (self.position, self.position);
    }

    /// It is to end: it gives up all that it has, and says why when it is read.
    pub(crate) fn lose(&mut self, subscription: &mut Subscription, why: Refusal) {
        self.subscriptions.reading.forget(&mut subscription.registered);
        subscription.window = BinaryHeap::new();
        subscription.aside = HashMap::default();
        (subscription.sweep, subscription.start) = (None, None);
        (subscription.open, subscription.charge) = (None, None);
        (subscription.window_charge, subscription.known_charge) = (None, None);
        subscription.aside_charge = None;
        let known = std::mem::take(&mut subscription.known);
        self.leave(known);
        subscription.lost = Some(why);
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, id: SubscriptionId) {
        let Some(mut subscription) = self.subscriptions.take(id) else {
            return;
        };
        self.work += 4;
        self.subscriptions.following -= usize::from(subscription.follow.is_some());
        if let Some(filter) = &subscription.filter {
            let idle = &mut self.filters.groups[subscription.group as usize].idle;
            let place = subscription.place as usize;
            // Else it is in a list of those about to be woken, which looks whether it is there.
            if subscription.idle && idle.get(place) == Some(&id) {
                idle.swap_remove(place);
                let moved = idle.get(place).copied();
                if let Some(moved) = moved.and_then(|moved| self.subscriptions.get_mut(moved)) {
                    moved.place = place as u32;
                }
            }
            self.filters.remove(filter, subscription.group);
        }
        self.leave(std::mem::take(&mut subscription.known));
        let table = &mut self.subscriptions;
        table.reading.forget(&mut subscription.registered);
        table.live -= 1;
        table.free.push(id.index);
        table.ended.push(id);
    }

    /// Moves the subscriptions that have something to read into `out`.
    pub fn take_wakes(&mut self, out: &mut Vec<SubscriptionId>) {
        let mut wakes = std::mem::take(&mut self.subscriptions.wakes);
        let live = wakes.drain(..).filter(|id| self.subscriptions.get(*id).is_some());
        out.extend(live);
        self.subscriptions.wakes = wakes;
    }

    /// Moves the subscriptions that have ended since this was asked last into `out`. They are
    /// named no more.
    pub fn take_ended(&mut self, out: &mut Vec<SubscriptionId>) {
        out.append(&mut self.subscriptions.ended);
    }
}
