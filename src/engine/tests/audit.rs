//! What must hold inside an engine after every call.

use crate::engine::subscribe::table::Why;
use crate::engine::topic::body::Body;
use crate::engine::{Engine, SubscriptionId};
use std::cmp::Reverse;
use std::collections::HashSet;

impl Engine {
    /// Recounts everything the engine keeps count of.
    pub(super) fn audit(&self) {
        let mut cost = 0;
        for (slot, topic) in self.topics.iter().enumerate() {
            let Some(topic) = topic else {
                assert!(self.free.contains(&slot), "slot {slot} is lost");
                continue;
            };
            topic.audit();
            cost += topic.cost();
            assert_eq!(self.by_use.peek(&topic.name), Some(&slot));
            assert_eq!(self.by_name.get(&topic.name), Some(&slot));
        }
        let dying = self.dying.iter().map(|topic| topic.cost());
        cost += dying.sum::<usize>();
        assert_eq!(self.bytes, cost);
        let live = self.topics.iter().flatten().count();
        assert_eq!((self.by_use.len(), self.by_name.len()), (live, live));
        assert!(live <= self.limits.topics);
        self.audit_subscriptions();
    }

    pub(super) fn audit_subscriptions(&self) {
        let mut idle = 0;
        for (index, subscription) in self.subscriptions.all.iter().enumerate() {
            let Some(s) = subscription.as_deref() else { continue };
            let id = SubscriptionId { index: index as u32, birth: s.birth };
            let window: HashSet<_> = s.window.iter().map(|Reverse(cursor)| cursor.slot).collect();
            assert_eq!(window.len(), s.window.len(), "a topic twice");
            assert!(s.aside.keys().all(|slot| !window.contains(slot)), "in two places");
            assert!(s.aside.len() <= self.portions.aside);
            let blocked = s.aside.values().any(|waits| waits.why == Why::Blocked);
            assert!(!blocked || s.open.is_some());
            for Reverse(cursor) in &s.window {
                let topic = self.topic(cursor.slot as usize);
                let topic = topic.filter(|topic| topic.id == cursor.topic);
                assert!(
                    topic.is_none_or(|topic| cursor.next < topic.log.next() || cursor.lasts),
                    "had all"
                );
            }
            if let Some(open) = s.open {
                assert!(window.contains(&open.slot) || s.aside.contains_key(&open.slot));
            }
            if s.filter.is_none() {
                continue;
            }
            if s.idle {
                let group = &self.filters.groups[s.group as usize];
                assert_eq!(group.idle[s.place as usize], id, "it is not where it says");
                assert!(s.woken || s.window.is_empty());
                idle += 1;
            } else {
                assert!(s.woken, "a wake is missing");
            }
        }
        let groups = self.filters.groups.iter();
        assert_eq!(groups.map(|group| group.idle.len()).sum::<usize>(), idle);
        self.audit_arriving();
        let wakes: HashSet<_> = self.subscriptions.wakes.iter().collect();
        assert_eq!(wakes.len(), self.subscriptions.wakes.len(), "named twice");
        let all_idle = self.subscriptions.all.iter().flatten().all(|s| s.idle || s.lost.is_some());
        assert!(!all_idle || !self.stirs.is_empty() || self.subscriptions.reading.is_empty());
    }

    // Who waits for more of a message stands in its list.
    fn audit_arriving(&self) {
        let mut listed = HashSet::new();
        for (slot, topic) in self.topics.iter().enumerate() {
            let Some(topic) = topic else { continue };
            for sequence in topic.arriving.iter().copied() {
                let Body::Arriving(arriving) = &topic.log.get(sequence).unwrap().body else {
                    panic!("{sequence} does not arrive");
                };
                assert!(arriving.rope.len() <= arriving.size);
                for id in arriving.waiting.iter().chain(&arriving.whole) {
                    listed.insert((*id, slot, sequence));
                }
            }
        }
        for (index, subscription) in self.subscriptions.all.iter().enumerate() {
            let Some(subscription) = subscription else { continue };
            let id = SubscriptionId { index: index as u32, birth: subscription.birth };
            for (slot, waits) in &subscription.aside {
                let at = (id, *slot as usize, waits.cursor.next);
                assert!(waits.arrives || waits.why != Why::Stalled);
                assert!(!waits.arrives || listed.contains(&at), "it arrives, and is in no list");
            }
            if let Some(follow) = subscription.follow.as_ref().filter(|follow| follow.stalled) {
                let slot = self.by_id[&follow.topic];
                assert!(listed.contains(&(id, slot, follow.sequence)), "stalled, and in no list");
            }
        }
    }
}
