//! How far a subscription has come.

use super::table::Subscription;
use crate::engine::{Engine, SubscriptionId};
use std::cmp::Reverse;
use std::sync::Arc;

/// Where a subscription stands in a topic that others have overtaken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overtaken {
    /// The topic's id.
    pub topic: u64,
    /// The sequence that is next.
    pub next: u64,
    /// Nothing that is still to come of it stands before this position.
    pub position: u64,
}

impl Engine {
    /// The position up to which a subscription has had everything, also of what arrives.
    pub fn had(&self, id: SubscriptionId) -> u64 {
        let Some(s) = self.subscriptions.get(id) else {
            return 0;
        };
        let aside = s.aside.values().map(|waits| match waits.cursor.position {
            0 => s.had + 1,
            position => position,
        });
        let late = s.window.iter().map(|Reverse(cursor)| cursor.position);
        let late = late.filter(|position| (1..=s.had).contains(position));
        let next = aside.chain(late).min().map_or(u64::MAX, |next| next.saturating_sub(1));
        next.min(self.passed(s))
    }

    /// What a subscription is still to have of what others have overtaken, in whatever order. `by` is
    /// the highest position that it was handed.
    pub fn overtaken(&self, id: SubscriptionId, by: u64) -> Vec<Overtaken> {
        let Some(s) = self.subscriptions.get(id) else {
            return Vec::new();
        };
        // A window may be handed out in part: what stands in it before that has been overtaken.
        let by = by.max(s.had);
        let late = s.window.iter().map(|Reverse(cursor)| cursor);
        let late = late.filter(|cursor| (1..=by).contains(&cursor.position));
        let late = late.chain(s.aside.values().map(|waits| &waits.cursor));
        late.map(|cursor| Overtaken {
            topic: cursor.topic,
            next: cursor.next,
            position: if cursor.position == 0 { s.had + 1 } else { cursor.position },
        })
        .collect()
    }

    /// The position up to which a subscription has had everything but what was
    /// [overtaken](Self::overtaken).
    pub fn reached(&self, id: SubscriptionId) -> u64 {
        self.subscriptions.get(id).map_or(0, |s| self.passed(s))
    }

    /// The name and the epoch of a topic.
    pub fn topic_of(&self, id: u64) -> Option<(Arc<str>, u64)> {
        let topic = self.topic(*self.by_id.get(&id)?)?;
        Some((topic.name.clone(), topic.epoch))
    }

    // Up to here it has had everything, but for what was overtaken.
    fn passed(&self, s: &Subscription) -> u64 {
        // What it had waited for may have come, with what follows that.
        if s.idle && s.window.is_empty() && self.stirs.is_empty() {
            return self.position;
        }
        // One at 0 has a gap to tell, of something that came after all that it had.
        let gap = |position| if position == 0 { s.had + 1 } else { position };
        let ahead = s.window.iter().map(|Reverse(cursor)| gap(cursor.position));
        let next = ahead.filter(|position| *position > s.had).min();
        // What waited for this window may stand beyond it.
        let end = if s.sweep.is_none() { s.upto.max(s.had) } else { s.had };
        next.map_or(end, |next| end.min(next - 1))
    }
}
