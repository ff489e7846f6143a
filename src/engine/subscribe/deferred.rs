//! Deferred work: what a call leaves for later, so that no call holds the lock for long.
//!
//! A publication may concern any number of subscriptions. It wakes a portion of them at once. The
//! others are woken by [`Engine::run_deferred`], in portions between which the lock is free. So is
//! room made, and so are large maps freed.

use super::cursor::NewMessage;
use super::deferred_work::DeferredWake;
use super::filter_tree::{FilterIndex, Group, GroupId, WalkPosition};
use super::table::Subscriptions;
use crate::engine::Engine;
use crate::engine::ids::{Slot, SubscriptionId};
use crate::engine::positions::Registered;
use crate::engine::topic::body::Waiters;
use std::num::NonZeroU64;

/// Number of deferred wakes above which the call that adds one also runs some of them.
const DEFERRED: usize = 64;

impl Engine {
    /// Wakes the subscriptions at the head that a new message of a topic concerns.
    pub(crate) fn wake_for_message(&mut self, slot: Slot, position: u64) {
        self.recent.move_to_front(slot);
        let Self { topics, filters, subscriptions, deferred, .. } = self;
        if filters.is_empty() {
            return;
        }
        let Some(topic) = topics.get(slot).and_then(Option::as_deref) else {
            return;
        };
        let Some(position) = NonZeroU64::new(position) else {
            return;
        };
        let sequence = topic.next_sequence() - 1;
        let before = topic.position_before(sequence);
        let message = NewMessage { position, sequence, before, slot: slot as u32 };
        // The first portion is woken at once, whatever other calls have deferred: few subscriptions
        // do not wait for many.
        let mut work = self.portions.wakes;
        let tables = (filters, &mut *subscriptions);
        // Some of them may not have received messages whose wakes are still deferred.
        let floor = deferred.wakes.iter().find_map(DeferredWake::floor).unwrap_or(message.floor());
        let (from, rest) =
            wake_matching(tables, (topic.name(), None), (&message, floor), &mut work);
        self.work += self.portions.wakes - work;
        deferred.wakes.extend(rest);
        if from.is_none() {
            return;
        }
        let mut registered = Registered::default();
        subscriptions.positions.register_one(&mut registered, message.floor());
        let topic = topic.name().clone();
        deferred.wakes.push_back(DeferredWake::Filters { topic, from, message, registered });
    }

    /// Wakes the subscriptions that wait for more of a message, or for its end. Returns the work
    /// that was done at once.
    pub(crate) fn wake_waiters(&mut self, slot: Slot, ids: Waiters) -> usize {
        let many = ids.len();
        if many > self.portions.wakes {
            self.deferred.wakes.push_back(DeferredWake::Waiters { ids, slot });
            return 0;
        }
        for id in ids {
            self.subscriptions.wake_waiter(id, slot);
        }
        many
    }

    /// Runs a portion of the deferred work: wakes, making room, freeing. Returns whether there is
    /// more. Then release the lock for others, and call again.
    pub fn run_deferred(&mut self) -> bool {
        let mut work = self.portions.wakes;
        while work > 2
            && let Some(wake) = self.deferred.wakes.pop_front()
        {
            self.run_wake(wake, &mut work);
        }
        if self.owes_room() {
            self.make_room_for(None, self.portions.evictions);
        }
        self.deferred.free_portion();
        self.has_deferred()
    }

    // Runs a part of a deferred wake. The rest of it stays in front.
    fn run_wake(&mut self, mut wake: DeferredWake, work: &mut usize) {
        let mut list = None;
        let done = match &mut wake {
            DeferredWake::Filters { topic, from, message, registered } => {
                let tables = (&mut self.filters, &mut self.subscriptions);
                let floor = message.floor();
                (*from, list) = wake_matching(tables, (topic, *from), (message, floor), work);
                if from.is_none() {
                    self.subscriptions.positions.forget(registered);
                }
                from.is_none()
            }
            DeferredWake::AtHead { ids, message, floor, registered } => {
                let rest = ids.len() - ids.len().min(*work);
                *work -= ids.len() - rest;
                for id in ids.drain(rest..) {
                    // A newer message may have passed the list of its group meanwhile. So it is
                    // woken even if it has received this one.
                    self.subscriptions.wake_from_head(id, message, *floor);
                }
                if ids.is_empty() {
                    self.subscriptions.positions.forget(registered);
                }
                ids.is_empty()
            }
            DeferredWake::Waiters { ids, slot } => {
                while *work > 0
                    && let Some(id) = ids.pop_last()
                {
                    *work -= 1;
                    self.subscriptions.wake_waiter(id, *slot);
                }
                ids.is_empty()
            }
        };
        if !done {
            self.deferred.wakes.push_front(wake);
        }
        if let Some(list) = list {
            self.deferred.wakes.push_front(list);
        }
    }

    /// Returns whether there is work to be [run](Self::run_deferred).
    pub fn has_deferred(&self) -> bool {
        !self.deferred.no_wakes() || self.owes_room() || self.deferred.has_maps()
    }

    /// Returns whether the caller is to [run](Self::run_deferred) deferred work itself, instead of
    /// leaving it for later. `before` is the number of [deferred wakes](Self::deferred_wakes) before
    /// its call.
    ///
    /// It is if room has to be made. It is also if deferred wakes are many and have become more, so
    /// that they do not add up.
    pub fn must_run_deferred(&self, before: usize) -> bool {
        self.deferred_wakes() > before.max(DEFERRED) || self.owes_room()
    }

    /// Returns how many publications, and lists, have deferred wakes.
    pub fn deferred_wakes(&self) -> usize {
        self.deferred.wakes.len()
    }
}

// Wakes the subscriptions at the head whose filters match. Returns where to go on, and the rest of
// the last group.
fn wake_matching(
    (filters, subscriptions): (&mut FilterIndex, &mut Subscriptions),
    (topic, from): (&str, Option<WalkPosition>),
    (message, floor): (&NewMessage, u64),
    work: &mut usize,
) -> (Option<WalkPosition>, Option<DeferredWake>) {
    let FilterIndex { tree, groups, .. } = filters;
    let mut left = None;
    let from = tree.matching(topic, from, |group: Option<GroupId>| {
        *work = work.saturating_sub(1);
        let at = group.map_or(usize::MAX, |group| group as usize);
        if let Some(group) = groups.get_mut(at) {
            let mut ids = std::mem::take(&mut group.at_head);
            let rest = ids.len() - ids.len().min(*work);
            *work -= ids.len() - rest;
            for id in ids.drain(rest..) {
                wake_or_return(id, (message, floor), groups, subscriptions);
            }
            if ids.is_empty() && groups[at].at_head.is_empty() {
                // Its memory is used again.
                groups[at].at_head = ids;
            } else if !ids.is_empty() {
                let mut registered = Registered::default();
                subscriptions.positions.register_one(&mut registered, floor);
                left = Some(DeferredWake::AtHead { ids, message: *message, floor, registered });
            }
        }
        *work > 0
    });
    (from, left)
}

// Wakes a subscription that was just taken from the list of its group. One that has received the
// message returns to the list.
fn wake_or_return(
    id: SubscriptionId,
    (message, floor): (&NewMessage, u64),
    groups: &mut [Group],
    subscriptions: &mut Subscriptions,
) {
    let Some(s) = subscriptions.get_mut(id).filter(|s| s.is_at_head()) else {
        return;
    };
    if s.delivered_through.max(s.window_end) <= message.floor() {
        return subscriptions.wake_from_head(id, message, floor);
    }
    groups[s.group as usize].add(id, s);
}
