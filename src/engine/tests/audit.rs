//! What must hold inside an engine after every call.

use crate::engine::Engine;
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
            for (slot, cursor) in &subscription.cursors {
                let topic = self.topic(*slot).expect("a cursor in no topic");
                let is_behind = cursor.waiting.is_none();
                assert_eq!(is_behind, cursor.next < topic.log.next());
                assert_eq!(is_behind, ready.contains(slot));
                behind[*slot] += u32::from(is_behind);
            }
            let something = !ready.is_empty() || subscription.lost.is_some();
            assert!(subscription.woken || !something, "a wake is missing");
        }
        for (slot, topic) in self.topics.iter().enumerate() {
            let counted = topic.as_ref().map_or(0, |topic| topic.behind);
            assert_eq!(counted, behind[slot]);
        }
        let wakes: HashSet<_> = self.subscriptions.wakes.iter().collect();
        assert_eq!(wakes.len(), self.subscriptions.wakes.len(), "named twice");
    }
}
