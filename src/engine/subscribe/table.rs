//! The table of subscriptions.
//!
//! A subscription at the head costs a position. While it is [behind](State::Behind) it also has a
//! window: a cursor for each topic of which it has not received everything.

use super::cursor::NewMessage;
use super::skips::Skips;
use super::state::State;
use super::subscription::Subscription;
use crate::engine::ids::{Slot, SubscriptionId};
use crate::engine::positions::ReaderPositions;
use crate::wire::Lag;
use std::collections::BTreeMap;

/// All subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    pub(crate) all: Vec<Option<Box<Subscription>>>,
    free: Vec<u32>,
    live: usize,
    // Number of those that follow a message.
    following: usize,
    births: u32,
    pub(crate) positions: ReaderPositions,
    pub(crate) wakes: Vec<SubscriptionId>,
    pub(super) ended: Vec<SubscriptionId>,
    // By index, of those that have had a gap. No hash table: one that grows would block all callers.
    pub(super) skips: BTreeMap<u32, Skips>,
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

    /// Takes a subscription out of the table. [Put it back](Self::put_back) before anything else is
    /// done with it.
    pub(super) fn take(&mut self, id: SubscriptionId) -> Option<Box<Subscription>> {
        self.all.get_mut(id.index())?.take_if(|found| found.birth == id.birth)
    }

    pub(super) fn put_back(&mut self, id: SubscriptionId, subscription: Box<Subscription>) {
        if let Some(place) = self.all.get_mut(id.index()) {
            *place = Some(subscription);
        }
    }

    /// Returns the number of subscriptions, without those that follow a message.
    pub(crate) fn len(&self) -> usize {
        self.live - self.following
    }

    /// Adds a subscription, which is not read yet.
    pub(super) fn insert(&mut self, lag: Lag, state: State, position: u64) -> SubscriptionId {
        self.births = self.births.wrapping_add(1);
        let birth = self.births;
        let index = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() as u32 - 1
        });
        let subscription = Subscription::new(birth, lag, state, position);
        self.live += 1;
        self.following += usize::from(subscription.is_following());
        self.all[index as usize] = Some(Box::new(subscription));
        SubscriptionId { index, birth }
    }

    /// Frees the index of a subscription that was taken out of the table.
    pub(super) fn remove(&mut self, id: SubscriptionId, subscription: &mut Subscription) {
        self.positions.forget(&mut subscription.registered);
        self.live -= 1;
        self.following -= usize::from(subscription.is_following());
        self.skips.remove(&id.index);
        self.free.push(id.index);
        self.ended.push(id);
    }

    /// Lists a subscription to be woken, once.
    pub(super) fn wake(&mut self, id: SubscriptionId) {
        if let Some(subscription) = self.get_mut(id)
            && !std::mem::replace(&mut subscription.wake_queued, true)
        {
            self.wakes.push(id);
        }
    }

    /// Wakes a subscription whose message in that topic has more bytes, or has ended.
    pub(super) fn wake_waiter(&mut self, id: SubscriptionId, slot: Slot) {
        let Some(subscription) = self.get_mut(id) else {
            return;
        };
        if let State::Following(follow) = &mut subscription.state {
            follow.resume();
        } else if !subscription.make_ready(slot as u32) {
            return;
        }
        self.wake(id);
    }

    /// Wakes a subscription at the head for a new message. It had received everything up to `floor`
    /// before that.
    pub(super) fn wake_from_head(&mut self, id: SubscriptionId, message: &NewMessage, floor: u64) {
        let Self { positions, wakes, all, .. } = self;
        let found = all.get_mut(id.index()).and_then(Option::as_deref_mut);
        let Some(s) = found.filter(|found| found.birth == id.birth && found.is_at_head()) else {
            return;
        };
        s.set_state(State::Behind);
        // A deferred wake may come after it has received this message and later ones. If it has read
        // cursors aside at the head, its window ends after `delivered_through`.
        let delivered = s.delivered_through.max(s.window_end).max(floor);
        (s.delivered_through, s.window_end) = (delivered, delivered);
        s.woken_by = (message.floor() == delivered).then_some(*message);
        positions.register_one(&mut s.registered, delivered);
        if !std::mem::replace(&mut s.wake_queued, true) {
            wakes.push(id);
        }
    }
}
