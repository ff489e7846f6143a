//! How subscriptions begin, go to the head, and end.

use super::filter_tree::{FilterIndex, Group};
use super::refusals::no_room_to_resume;
use super::start::{PreparedStart, StartFrom};
use super::state::State;
use super::subscription::Subscription;
use super::table::Subscriptions;
use crate::engine::Engine;
use crate::engine::ids::SubscriptionId;
use crate::wire::{Filter, Lag, Refusal};
use std::collections::{BinaryHeap, HashMap};

impl Engine {
    /// Begins a subscription.
    ///
    /// [`take_wakes`](Self::take_wakes) lists it if there is something to read at once, or to
    /// search for. If the budget has no room for the topics with which it resumes, it ends with its
    /// first read.
    pub fn subscribe(
        &mut self,
        filter: Filter,
        start: impl Into<PreparedStart>,
        lag: Lag,
    ) -> SubscriptionId {
        let start = start.into();
        let cost = start.cost();
        let had = start.had.as_ref().map_or(0, |had| had.cost());
        let id = self.subscriptions.insert(lag, State::Behind, self.position);
        let Some(mut s) = self.subscriptions.take(id) else {
            unreachable!("it was put there");
        };
        self.work += 16;
        s.completed_uploads = self.completed_uploads;
        s.group = self.filters.insert(&filter);
        s.forgotten_checked = self.forgotten.next();
        s.exact = filter.is_exact();
        s.filter = Some(filter);
        if let StartFrom::New = start.from {
            self.park(id, &mut s);
        } else {
            (s.delivered_through, s.window_end) = (0, 0);
            s.start = Some(Box::new(start.from));
            s.had = start.had;
            let is_charged = (cost == 0 || self.budget.charge(&mut s.start_charge, cost))
                && (had == 0 || self.budget.charge(&mut s.had_charge, had));
            if is_charged {
                // A short search is done now.
                let mut work = self.portions.first;
                if let Err(refusal) = self.fill_window(id, &mut s, false, &mut work) {
                    self.end_subscription(id, &mut s, refusal);
                }
                self.work += self.portions.first - work;
            } else {
                self.end_subscription(id, &mut s, no_room_to_resume());
            }
            self.register(&mut s);
            if !s.is_at_head() {
                s.wake_queued = true;
                self.subscriptions.wakes.push(id);
            }
        }
        self.subscriptions.put_back(id, s);
        id
    }

    /// Puts a subscription that has received everything at the head.
    pub(super) fn park(&mut self, id: SubscriptionId, s: &mut Subscription) {
        self.subscriptions.positions.forget(&mut s.registered);
        self.filters.groups[s.group as usize].add(id, s);
        (s.delivered_through, s.window_end) = (self.position, self.position);
    }

    /// Ends a subscription for a reason, which its next read returns. It frees all that it has, but
    /// stays in the table until its reader [unsubscribes](Self::unsubscribe).
    pub(super) fn end_subscription(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        why: Refusal,
    ) {
        self.subscriptions.positions.forget(&mut s.registered);
        self.filters.remove_from_head(id, s, &mut self.subscriptions);
        s.window = BinaryHeap::new();
        s.aside = HashMap::default();
        (s.start, s.unresolved, s.had, s.open) = (None, None, None, None);
        (s.start_charge, s.had_charge, s.window_charge) = (None, None, None);
        (s.aside_charge, s.announced_charge) = (None, None);
        self.deferred.free(std::mem::take(&mut s.announced));
        s.set_state(State::Ending(Box::new(why)));
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, id: SubscriptionId) {
        let Some(mut s) = self.subscriptions.take(id) else {
            return;
        };
        self.work += 4;
        if let Some(filter) = s.filter.take() {
            self.filters.remove_from_head(id, &s, &mut self.subscriptions);
            self.filters.remove(&filter, s.group);
        }
        self.deferred.free(std::mem::take(&mut s.announced));
        self.subscriptions.remove(id, &mut s);
    }

    /// Moves the ids of the subscriptions that have something to read, or to search for, into `out`.
    pub fn take_wakes(&mut self, out: &mut Vec<SubscriptionId>) {
        let mut wakes = std::mem::take(&mut self.subscriptions.wakes);
        let live = wakes.drain(..).filter(|id| self.subscriptions.get(*id).is_some());
        out.extend(live);
        self.subscriptions.wakes = wakes;
    }

    /// Moves the ids of the subscriptions that have ended since the last call into `out`. They are
    /// not listed again.
    pub fn take_ended(&mut self, out: &mut Vec<SubscriptionId>) {
        out.append(&mut self.subscriptions.ended);
    }
}

impl Group {
    /// Lists a subscription of the group that is at the head.
    pub(super) fn add(&mut self, id: SubscriptionId, s: &mut Subscription) {
        s.set_state(State::AtHead { index: self.at_head.len() as u32 });
        self.at_head.push(id);
    }
}

impl FilterIndex {
    // Takes a subscription out of the list of its group, if it is there. A deferred wake may have
    // taken it out; that wake checks the subscription's state.
    fn remove_from_head(
        &mut self,
        id: SubscriptionId,
        s: &Subscription,
        subscriptions: &mut Subscriptions,
    ) {
        let State::AtHead { index } = s.state else {
            return;
        };
        let at_head = &mut self.groups[s.group as usize].at_head;
        if at_head.get(index as usize) != Some(&id) {
            return;
        }
        at_head.swap_remove(index as usize);
        let moved = at_head.get(index as usize).copied();
        if let Some(moved) = moved.and_then(|moved| subscriptions.get_mut(moved)) {
            moved.set_state(State::AtHead { index });
        }
    }
}
