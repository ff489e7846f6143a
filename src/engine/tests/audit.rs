//! Invariants of an engine, after every call.

use crate::engine::subscribe::state::{CursorState, State};
use crate::engine::topic::body::Body;
use crate::engine::{Engine, SubscriptionId};
use std::cmp::Reverse;
use std::collections::HashSet;

impl Engine {
    /// Recounts everything the engine keeps count of.
    pub(crate) fn audit(&self) {
        let mut cost = 0;
        for (slot, topic) in self.topics.iter().enumerate() {
            let Some(topic) = topic else {
                assert!(self.free.contains(&slot), "slot {slot} is lost");
                continue;
            };
            topic.audit();
            cost += topic.cost();
            assert_eq!(self.by_use.peek(topic.name()), Some(&slot));
            assert_eq!(self.by_name.get(topic.name()), Some(&slot));
        }
        let forgotten = self.forgotten_topics.iter().map(|topic| topic.cost());
        cost += forgotten.sum::<usize>();
        assert_eq!(self.bytes, cost);
        let cached = self.topics.iter().flatten().map(|topic| topic.messages()).sum::<u64>();
        assert_eq!(self.figures.cached_messages, cached);
        let live = self.topics.iter().flatten().count();
        assert_eq!((self.by_use.len(), self.by_name.len()), (live, live));
        assert!(live <= self.limits.topics);
        self.audit_subscriptions();
    }

    pub(super) fn audit_subscriptions(&self) {
        let mut at_head = 0;
        for (index, subscription) in self.subscriptions.all.iter().enumerate() {
            let Some(s) = subscription.as_deref() else { continue };
            let id = SubscriptionId { index: index as u32, birth: s.birth };
            let window: HashSet<_> = s.window.iter().map(|Reverse(cursor)| cursor.slot).collect();
            assert_eq!(window.len(), s.window.len(), "a topic twice");
            assert!(s.aside.keys().all(|slot| !window.contains(slot)), "in two places");
            assert!(s.aside.len() <= self.portions.aside);
            let is_blocked = |state| matches!(state, CursorState::Blocked { .. });
            let blocked = s.aside.values().any(|waiting| is_blocked(waiting.state));
            assert!(!blocked || s.open.is_some());
            for Reverse(cursor) in &s.window {
                let topic = self.topic(cursor.slot as usize);
                let topic = topic.filter(|topic| topic.id() == cursor.topic);
                assert!(
                    topic.is_none_or(|topic| cursor.next < topic.next_sequence()
                        || cursor.carry_over
                        || cursor.lost),
                    "had all"
                );
            }
            if let Some(open) = s.open {
                assert!(window.contains(&open.slot) || s.aside.contains_key(&open.slot));
            }
            if s.filter.is_none() {
                continue;
            }
            if let State::AtHead { index } = s.state {
                let group = &self.filters.groups[s.group as usize];
                assert_eq!(group.at_head[index as usize], id, "it is not where it says");
                assert!(s.wake_queued || s.window.is_empty());
                at_head += 1;
            } else {
                assert!(s.wake_queued, "a wake is missing");
            }
        }
        let groups = self.filters.groups.iter();
        assert_eq!(groups.map(|group| group.at_head.len()).sum::<usize>(), at_head);
        self.audit_arriving();
        let wakes: HashSet<_> = self.subscriptions.wakes.iter().collect();
        assert_eq!(wakes.len(), self.subscriptions.wakes.len(), "listed twice");
        let mut all = self.subscriptions.all.iter().flatten();
        let at_rest = all.all(|s| s.is_at_head() || s.is_ending());
        let empty = self.subscriptions.positions.is_empty();
        assert!(!at_rest || !self.deferred.no_wakes() || empty);
    }

    // A subscription that waits for more of a message is in its list of waiters.
    fn audit_arriving(&self) {
        let mut listed = HashSet::new();
        for (slot, topic) in self.topics.iter().enumerate() {
            let Some(topic) = topic else { continue };
            for sequence in topic.arriving() {
                let Body::Arriving(arriving) = &topic.entry(sequence).unwrap().body else {
                    panic!("{sequence} does not arrive");
                };
                assert!(arriving.rope.len() <= arriving.size);
                for id in arriving.chunk_waiters.iter().chain(&arriving.completion_waiters) {
                    listed.insert((*id, slot, sequence));
                }
            }
        }
        for (index, subscription) in self.subscriptions.all.iter().enumerate() {
            let Some(subscription) = subscription else { continue };
            let id = SubscriptionId { index: index as u32, birth: subscription.birth };
            for (slot, waiting) in &subscription.aside {
                let at = (id, *slot as usize, waiting.cursor.next);
                assert!(waiting.state != CursorState::Ready, "it is ready, and aside");
                let listed = !waiting.state.is_listed() || listed.contains(&at);
                assert!(listed, "its message arrives, and it is in no list");
            }
            if let State::Following(follow) = &subscription.state
                && follow.is_stalled()
            {
                let slot = self.by_id[&follow.topic];
                assert!(listed.contains(&(id, slot, follow.sequence)), "stalled, and in no list");
            }
        }
    }
}
