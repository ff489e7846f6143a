//! Keeping to the byte budget.

use super::counts::Count;
use super::topic::Topic;
use super::{Engine, Slot, set_place};

impl Engine {
    /// Makes room until the budget holds. `newest` is the topic published to just now: its new
    /// message stays, so that whoever was woken for it can read it.
    pub(super) fn make_room(&mut self, newest: Slot) {
        let budget = self.limits.messages();
        while self.bytes > budget {
            if let Some(slot) = self.shares.largest() {
                self.evict(slot);
            } else if let Some(slot) = self.idlest(newest) {
                // Every topic is down to its newest message: the topic idle longest goes.
                match self.topic(slot).is_some_and(|topic| topic.behind == 0) {
                    true => self.forget(slot),
                    false => self.evict(slot),
                }
            } else {
                return;
            }
        }
    }

    fn idlest(&self, except: Slot) -> Option<Slot> {
        let gives = |topic: &Topic| topic.behind == 0 || !topic.is_empty();
        let mut slots = self.by_use.iter().rev().map(|(_, slot)| *slot);
        slots.find(|slot| *slot != except && self.topic(*slot).is_some_and(gives))
    }

    fn evict(&mut self, slot: Slot) {
        let left = self.change(slot, |topic| (topic.key, topic.evict()));
        if let Some((key, Some((digest, count)))) = left {
            self.ledger.put(key, digest, count, self.position);
        }
    }

    /// Forgets a topic that nobody is behind on. Its counts stay in the ledger while they can.
    pub(super) fn forget(&mut self, slot: Slot) {
        while self.topic(slot).is_some_and(|topic| !topic.is_empty()) {
            self.evict(slot);
        }
        let Some(topic) = self.topics.get_mut(slot).and_then(Option::take) else {
            return;
        };
        for ranked in topic.top.iter() {
            // Counts that only the list of the highest still knew.
            if self
                .ledger
                .take(topic.key, ranked.digest)
                .is_some_and(|known| known != ranked.count)
            {
                debug_assert!(false, "the ledger and the highest counts disagree");
            }
            let Count { count, since } = ranked.count;
            self.ledger.put(
                topic.key,
                ranked.digest,
                Count { count, since },
                self.position,
            );
        }
        self.bytes -= topic.cost();
        let topics = &mut self.topics;
        self.shares
            .remove(topic.place, |slot, place| set_place(topics, slot, place));
        self.by_use.pop(&topic.name);
        self.by_name.remove(&topic.name);
        for id in &topic.waiting {
            self.subscriptions.forget(*id, slot);
        }
        self.free.push(slot);
    }
}
