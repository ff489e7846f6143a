//! Keeping to the byte budget.

use super::topic::Topic;
use super::{Engine, Slot, set_place};

// How many of the topics idle longest are looked at. A subscription may hold that many up.
const IDLE: usize = 64;

impl Engine {
    /// Makes room until the budget holds. `newest` is the topic published to just now: its new
    /// message stays, so that whoever was woken for it can read it.
    pub(super) fn make_room(&mut self, newest: Slot) {
        let budget = self.limits.messages() - self.budget.held();
        while self.bytes > budget {
            if let Some(slot) = self.shares.largest() {
                self.evict(slot);
                continue;
            }
            // Every topic is down to its newest message: what is idle longest goes.
            let idle = self.by_use.iter().rev().map(|(_, slot)| *slot);
            let idle = idle.filter(|slot| *slot != newest).take(IDLE);
            let gives = |topic: &Topic| topic.behind == 0 || !topic.is_empty();
            let Some(slot) = idle.min_by_key(|slot| !self.topic(*slot).is_some_and(gives)) else {
                // Nothing is left but what arrives here, side by side: the oldest goes.
                if self.topic(newest).is_some_and(Topic::is_one) {
                    return;
                }
                self.evict(newest);
                continue;
            };
            let held = |topic: &Topic| topic.behind > 0 && !topic.is_empty();
            if self.topic(slot).is_some_and(held) {
                self.evict(slot);
            } else {
                self.forget(slot);
            }
        }
    }

    /// Makes room for one more topic.
    pub(super) fn make_topic_room(&mut self) {
        while self.by_name.len() >= self.limits.topics {
            let idle = self.by_use.iter().rev().map(|(_, slot)| *slot).take(IDLE);
            // Rather one that nobody waits for; of those, rather one that holds nothing.
            let worth = |topic: &Topic| (topic.behind > 0, !topic.is_empty());
            let Some(slot) = idle.min_by_key(|slot| self.topic(*slot).map(worth)) else {
                return;
            };
            self.forget(slot);
        }
    }

    fn evict(&mut self, slot: Slot) {
        let Some((key, left)) = self.change(slot, |topic| (topic.key, topic.evict())) else {
            return;
        };
        if let Some((digest, count)) = left.payload {
            self.ledger.put(key, &digest, count, self.position);
        }
        if let Some((position, waiting)) = left.arriving {
            self.rouse(slot, position, waiting);
        }
    }

    /// Forgets a topic. Its counts stay in the ledger while they can; subscriptions that have not
    /// read all of it are ended.
    fn forget(&mut self, slot: Slot) {
        while self.topic(slot).is_some_and(|topic| !topic.is_empty()) {
            self.evict(slot);
        }
        let Some(topic) = self.topics.get_mut(slot).and_then(Option::take) else {
            return;
        };
        if topic.behind > 0 {
            self.abandon(slot, &topic.name);
        }
        for ranked in topic.top.iter().rev() {
            // What only the list of the highest still knew; the highest are to stay longest.
            self.ledger.take(topic.key, &ranked.digest);
            self.ledger.put(topic.key, &ranked.digest, ranked.count, self.position);
        }
        self.bytes -= topic.cost();
        let topics = &mut self.topics;
        self.shares.remove(topic.place, |slot, place| set_place(topics, slot, place));
        self.by_use.pop(&topic.name);
        self.by_name.remove(&topic.name);
        self.by_id.remove(&topic.id);
        for id in &topic.waiting {
            self.subscriptions.forget(*id, slot);
        }
        self.free.push(slot);
    }
}
