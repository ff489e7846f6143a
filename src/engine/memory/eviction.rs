//! Keeping to the byte budget.

use super::evicted_counts::Key;
use crate::engine::topic::{Left, Topic};
use crate::engine::{Engine, Slot, set_place};

// How many of the topics idle longest are looked at. A subscription may hold that many up.
const IDLE: usize = 64;

impl Engine {
    /// Makes room until the budget holds, or for long enough. `newest` is the topic published to
    /// just now: its new message stays, so that whoever was woken for it can read it.
    pub(crate) fn make_room(&mut self, newest: Slot) {
        if self.is_over() || !self.dying.is_empty() {
            self.make_room_for(Some(newest), self.portions.evictions);
        }
    }

    fn is_over(&self) -> bool {
        self.bytes > self.limits.messages() - self.budget.held()
    }

    /// Whether a publication has left room to be made. What is charged to the budget meanwhile is
    /// made room for with the next: mostly it is given back before.
    pub(crate) fn owes_room(&self) -> bool {
        self.owes || !self.dying.is_empty()
    }

    pub(crate) fn make_room_for(&mut self, newest: Option<Slot>, work: usize) {
        let newest = newest.or_else(|| self.recent.iter().next());
        let mut left = work;
        self.bury(&mut left);
        while self.is_over() && left > 0 {
            left -= 1;
            if let Some(slot) = self.above_its_share(newest) {
                left = left.saturating_sub(self.evict(slot));
                continue;
            }
            // Every topic is down to its newest message: what is idle longest goes.
            let idle = self.by_use.iter().rev().map(|(_, slot)| *slot);
            let idle = idle.filter(|slot| Some(*slot) != newest).take(IDLE);
            let fair = self.fair_share();
            let gives = |topic: &Topic| !self.is_waited_for(topic) || !topic.is_empty();
            // What arrives would have to begin again: rather one without, if it is no more than fair.
            let arrives = |topic: &Topic| !topic.arriving.is_empty() && topic.cost() <= fair;
            let worth = |topic: &Topic| (!gives(topic), arrives(topic));
            let worth = |slot: &Slot| self.topic(*slot).map_or((true, true), worth);
            let Some(slot) = idle.min_by_key(worth) else {
                // Nothing is left but what arrives here, side by side: the oldest goes.
                let Some(newest) = newest else { break };
                if self.topic(newest).is_some_and(Topic::is_one) {
                    break;
                }
                left = left.saturating_sub(self.evict(newest));
                continue;
            };
            let held = |topic: &Topic| self.is_waited_for(topic) && !topic.is_empty();
            if self.topic(slot).is_some_and(held) {
                left = left.saturating_sub(self.evict(slot));
            } else {
                self.forget(slot);
                self.bury(&mut left);
            }
        }
        self.work += work - left;
        // Else there is room, or nothing to give up for it.
        self.owes = left == 0 && self.is_over();
    }

    // The topic furthest above its share. The newest message of a topic is kept as long as there
    // are others to give up, but for a large one that takes more than a fair share by itself, and
    // more than any topic that could give up others.
    fn above_its_share(&self, newest: Option<Slot>) -> Option<Slot> {
        let takes = |slot: Slot| self.topic(slot).map_or(0, Topic::cost);
        let spare = self.shares.largest();
        let big = self.shares.biggest(newest).filter(|big| {
            let most = spare.map_or(0, takes).max(self.fair_share());
            takes(*big) > most
        });
        big.or(spare)
    }

    // What a topic may take without taking it from others, bytes.
    fn fair_share(&self) -> usize {
        self.limits.messages() / self.by_name.len().max(1)
    }

    // Whether some subscription may not have had all of it.
    fn is_waited_for(&self, topic: &Topic) -> bool {
        self.subscriptions.reading.is_behind(topic.moved())
    }

    /// Makes room for one more topic.
    pub(crate) fn make_topic_room(&mut self) {
        while self.by_name.len() >= self.limits.topics {
            let idle = self.by_use.iter().rev().map(|(_, slot)| *slot).take(IDLE);
            // Rather one that nobody waits for; of those, rather one that holds nothing.
            let worth = |topic: &Topic| (self.is_waited_for(topic), !topic.is_empty());
            let Some(slot) = idle.min_by_key(|slot| self.topic(*slot).map(worth)) else {
                return;
            };
            self.forget(slot);
        }
    }

    // Gives the work that it took to wake those who waited for it.
    pub(crate) fn evict(&mut self, slot: Slot) -> usize {
        let reading = &self.subscriptions.reading;
        let Some(topic) = self.topics.get_mut(slot).and_then(Option::as_deref_mut) else {
            return 0;
        };
        let before = topic.cost();
        let mut left = topic.evict(Some(reading));
        if topic.log.first() == topic.log.next() && left.payload.is_none() {
            // The last of its messages has been asked for, and is kept for that: it goes as well,
            // or room would be looked for in one topic after the other, and none be made.
            left.payload = topic.evict_kept(true).and_then(|left| left.payload);
        }
        self.settle(slot, before);
        self.take_left(slot, left)
    }

    fn take_left(&mut self, slot: Slot, left: Left) -> usize {
        if let Some((key, count)) = left.payload {
            self.evicted_counts.put(key, count, self.position);
        }
        let waiting = left.arriving.into_iter().flatten();
        waiting.map(|waiting| self.rouse(slot, waiting)).sum()
    }

    /// Forgets a topic. Its counts stay in the ledger while they can; subscriptions that have not
    /// read all of it are told when they read.
    fn forget(&mut self, slot: Slot) {
        let Some(mut topic) = self.topics.get_mut(slot).and_then(Option::take) else {
            return;
        };
        if self.is_waited_for(&topic) {
            let bounds = (topic.log.first(), topic.log.next());
            let most = self.portions.forgotten;
            self.forgotten.push(most, topic.name.clone(), topic.epoch, bounds, topic.moved());
        }
        let topics = &mut self.topics;
        self.shares.set_big(slot, None);
        self.shares.remove(topic.place, |slot, place| set_place(topics, slot, place));
        self.recent.remove(slot);
        self.by_use.pop(&topic.name);
        self.by_name.remove(&topic.name);
        self.by_id.remove(&topic.id);
        self.free.push(slot);
        // Who waits there for what arrives is told as it is buried, and by this slot.
        topic.place = slot;
        self.dying.push_back(topic);
    }

    // Gives up what topics had that were forgotten.
    fn bury(&mut self, left: &mut usize) {
        while *left > 0
            && let Some(topic) = self.dying.front_mut()
        {
            *left -= 1;
            let (before, slot) = (topic.cost(), topic.place);
            if !topic.is_empty() {
                let gone = topic.evict(None);
                let stands = topic.cost() == before && topic.log.len() == 0;
                self.bytes = self.bytes + topic.cost() - before;
                debug_assert!(!stands, "a topic that is not empty, and gives up nothing");
                if !stands {
                    let woken = self.take_left(slot, gone);
                    *left = left.saturating_sub(woken);
                    continue;
                }
                // Never is everybody to wait for that.
            }
            let Some(topic) = self.dying.front_mut() else {
                return;
            };
            for ranked in topic.top.iter().rev() {
                // What only the list of the highest still knew; the highest are to stay longest.
                let key = Key::new(topic.key, &ranked.digest);
                self.evicted_counts.take(&key);
                self.evicted_counts.put(key, ranked.count, self.position);
                *left = left.saturating_sub(1);
            }
            self.bytes -= before;
            self.dying.pop_front();
        }
    }
}
