//! How far a subscription has come.

use super::subscription::Subscription;
use crate::engine::Engine;
use crate::engine::ids::SubscriptionId;
use std::cmp::Reverse;
use std::sync::Arc;

/// The place of a subscription in a topic that others have overtaken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overtaken {
    /// The topic's id.
    pub topic: u64,
    /// The sequence that the subscription needs next.
    pub next: u64,
    /// The messages that it still needs have this position or a later one.
    pub position: u64,
}

impl Engine {
    /// Returns the position up to which a subscription has received everything, also messages that
    /// arrive slowly.
    pub fn delivered_through(&self, id: SubscriptionId) -> u64 {
        let Some(s) = self.subscriptions.get(id) else {
            return 0;
        };
        let aside = s.aside.values().map(|waiting| s.position_of(waiting.cursor.position));
        let overtaken = s.window.iter().map(|Reverse(cursor)| cursor.position);
        let overtaken = overtaken.filter(|position| (1..=s.delivered_through).contains(position));
        let next = aside.chain(overtaken).min().map_or(u64::MAX, |next| next.saturating_sub(1));
        next.min(self.reached_by(s))
    }

    /// Returns the topics that others have overtaken, in any order, and where the subscription is
    /// in them. `by` is the highest position that it has received.
    pub fn overtaken(&self, id: SubscriptionId, by: u64) -> Vec<Overtaken> {
        let Some(s) = self.subscriptions.get(id) else {
            return Vec::new();
        };
        // A window may be read in part: cursors in it before that position are overtaken, too.
        let by = by.max(s.delivered_through);
        let window = s.window.iter().map(|Reverse(cursor)| cursor);
        let overtaken = window.filter(|cursor| (1..=by).contains(&cursor.position));
        let overtaken = overtaken.chain(s.aside.values().map(|waiting| &waiting.cursor));
        overtaken
            .map(|cursor| Overtaken {
                topic: cursor.topic,
                next: cursor.next,
                position: s.position_of(cursor.position),
            })
            .collect()
    }

    /// Returns the position up to which a subscription has received everything except what was
    /// [overtaken](Self::overtaken).
    pub fn reached(&self, id: SubscriptionId) -> u64 {
        self.subscriptions.get(id).map_or(0, |s| self.reached_by(s))
    }

    /// Returns the name and the epoch of a topic.
    pub fn topic_of(&self, id: u64) -> Option<(Arc<str>, u64)> {
        let topic = self.topic(*self.by_id.get(&id)?)?;
        Some((topic.name().clone(), topic.epoch()))
    }

    fn reached_by(&self, s: &Subscription) -> u64 {
        // A message that it waited for may have arrived, and others after it in that topic. They
        // are in the window.
        if s.is_idle() && self.deferred.no_wakes() {
            return self.position;
        }
        let window = s.window.iter().map(|Reverse(cursor)| s.position_of(cursor.position));
        let next = window.filter(|position| *position > s.delivered_through).min();
        // Cursors that were kept for this window may be beyond it.
        let sweeps = s.is_sweeping();
        let end = if sweeps { s.delivered_through } else { s.window_end.max(s.delivered_through) };
        next.map_or(end, |next| end.min(next - 1))
    }
}

impl Subscription {
    // A cursor at 0 has a gap next, of messages after all that the subscription has received.
    fn position_of(&self, cursor: u64) -> u64 {
        if cursor == 0 { self.delivered_through + 1 } else { cursor }
    }
}
