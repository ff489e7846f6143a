//! What must hold inside an engine after every call.

use crate::engine::body::Body;
use crate::engine::{Engine, SubscriptionId};
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
            for (place, id) in topic.waiting.iter().enumerate() {
                let subscription = self.subscriptions.all[id.index()].as_ref().unwrap();
                assert_eq!(subscription.birth, id.birth, "an ended subscription waits");
                let cursor = &subscription.cursors[&slot];
                assert_eq!(cursor.waiting, Some(place as u32));
                assert_eq!(cursor.next, topic.log.next(), "one that waits has had all");
            }
        }
        assert_eq!(self.bytes, cost);
        let live = self.topics.iter().flatten().count();
        assert_eq!((self.by_use.len(), self.by_name.len()), (live, live));
        assert!(live <= self.limits.topics);
        self.audit_subscriptions();
    }

    fn audit_subscriptions(&self) {
        let mut behind = vec![0; self.topics.len()];
        for subscription in self.subscriptions.all.iter().flatten() {
            let ready: HashSet<_> = subscription.ready.iter().map(|ready| ready.0.1).collect();
            assert_eq!(ready.len(), subscription.ready.len(), "a topic twice");
            let blocked: HashSet<_> = subscription.blocked.iter().collect();
            assert_eq!(blocked.len(), subscription.blocked.len(), "a topic blocked twice");
            assert!(blocked.is_empty() || subscription.open.is_some(), "blocked by nothing");
            for (slot, cursor) in &subscription.cursors {
                let topic = self.topic(*slot).expect("a cursor in no topic");
                let is_behind = cursor.waiting.is_none();
                assert_eq!(is_behind, cursor.next < topic.log.next());
                let places = [ready.contains(slot), cursor.stalled, blocked.contains(slot)];
                let places = places.into_iter().filter(|there| *there).count();
                assert_eq!(places, usize::from(is_behind), "in one place while it is behind");
                if subscription.held == Some(*slot) {
                    assert!(cursor.stalled, "held up by what does not arrive");
                }
                behind[*slot] += u32::from(is_behind);
            }
            if let Some(open) = subscription.open {
                let cursor = &subscription.cursors[&open.slot];
                assert!(cursor.waiting.is_none() && !blocked.contains(&open.slot));
            }
            let something = !ready.is_empty() && subscription.held.is_none();
            let something = something || subscription.lost.is_some();
            assert!(subscription.woken || !something, "a wake is missing");
        }
        for (slot, topic) in self.topics.iter().enumerate() {
            let counted = topic.as_ref().map_or(0, |topic| topic.behind);
            assert_eq!(counted, behind[slot]);
        }
        self.audit_arriving();
        let wakes: HashSet<_> = self.subscriptions.wakes.iter().collect();
        assert_eq!(wakes.len(), self.subscriptions.wakes.len(), "named twice");
    }

    // Who waits for more of a message stands in its list once, and nobody else does.
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
                    assert!(listed.insert((*id, slot, sequence)), "twice in a list");
                }
            }
        }
        let mut stalled = 0;
        for (index, subscription) in self.subscriptions.all.iter().enumerate() {
            let Some(subscription) = subscription else { continue };
            let id = SubscriptionId { index: index as u32, birth: subscription.birth };
            for (slot, cursor) in subscription.cursors.iter().filter(|(_, cursor)| cursor.stalled) {
                assert!(listed.contains(&(id, *slot, cursor.next)), "stalled, and in no list");
                stalled += 1;
            }
            if let Some(follow) = subscription.follow.as_ref().filter(|follow| follow.stalled) {
                let slot = self.by_id[&follow.topic];
                assert!(listed.contains(&(id, slot, follow.sequence)), "stalled, and in no list");
                stalled += 1;
            }
        }
        assert_eq!(stalled, listed.len(), "somebody in a list is not stalled");
    }
}
