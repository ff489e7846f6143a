//! Keeping to the byte budget: evicting messages, and forgetting topics.

use crate::engine::Engine;
use crate::engine::accounts::set_share;
use crate::engine::ids::Slot;
use crate::engine::record::Change;
use crate::engine::restoring::most_topics;
use crate::engine::topic::{Evicted, Topic};

// Number of topics, the least recently used, from which one is chosen to be forgotten. Subscriptions
// may keep so many of them in memory.
const IDLE: usize = 64;

impl Engine {
    /// Makes room until the budget holds, or the portion of work is done. `newest` is the topic that
    /// was just published to: its new message stays, so that the subscriptions woken for it can
    /// read it.
    pub(crate) fn make_room(&mut self, newest: Slot) {
        if self.is_over_budget() || !self.forgotten_topics.is_empty() {
            self.make_room_for(Some(newest), self.portions.evictions);
        }
    }

    fn is_over_budget(&self) -> bool {
        self.bytes > self.limits.messages() - self.budget.held()
    }

    // Whether the budget is exceeded by a quarter.
    fn is_far_over_budget(&self) -> bool {
        self.bytes > self.limits.messages() + self.limits.messages() / 4
    }

    /// Returns whether a publication has deferred making room. For bytes that are charged to the
    /// budget meanwhile, the next publication makes room: mostly they are returned before that.
    pub(crate) fn owes_room(&self) -> bool {
        self.owes_room || !self.forgotten_topics.is_empty()
    }

    /// As [`make_room`](Self::make_room), with so much work.
    pub(crate) fn make_room_for(&mut self, newest: Option<Slot>, work: usize) {
        let newest = newest.or_else(|| self.recent.iter().next());
        let mut left = work;
        self.empty_forgotten(&mut left);
        while self.is_over_budget() && left > 0 {
            left -= 1;
            if let Some(slot) = self.above_its_share(newest) {
                left = left.saturating_sub(self.evict(slot));
                continue;
            }
            if self.restoring.is_some() && !self.is_far_over_budget() {
                // The records say which topics were forgotten.
                break;
            }
            // Each topic has only its newest message: the least recently used topic is forgotten.
            let idle = self.by_use.iter().rev().map(|(_, slot)| *slot);
            let idle = idle.filter(|slot| Some(*slot) != newest).take(IDLE);
            let fair = self.fair_share();
            let frees = |topic: &Topic| !self.is_unread(topic) || !topic.is_empty();
            // Publishers would have to send arriving messages again. So a topic without any is
            // chosen, unless this one takes more than a fair share.
            let arrives = |topic: &Topic| topic.has_arriving() && topic.cost() <= fair;
            let worth = |topic: &Topic| (!frees(topic), arrives(topic));
            let worth = |slot: &Slot| self.topic(*slot).map_or((true, true), worth);
            let Some(slot) = idle.min_by_key(worth) else {
                // Only messages of this topic are left, which arrive side by side: the oldest is
                // evicted.
                let Some(newest) = newest else { break };
                if self.topic(newest).is_some_and(Topic::is_one) {
                    break;
                }
                left = left.saturating_sub(self.evict(newest));
                continue;
            };
            let is_held = |topic: &Topic| self.is_unread(topic) && !topic.is_empty();
            if self.topic(slot).is_some_and(is_held) {
                left = left.saturating_sub(self.evict(slot));
            } else {
                self.forget(slot);
                self.empty_forgotten(&mut left);
            }
        }
        self.work += work - left;
        // If work is left, there is room, or nothing to evict.
        self.owes_room = left == 0 && self.is_over_budget();
    }

    // Returns the topic furthest above its share. The newest message of a topic is kept while other
    // topics have more to evict. The exception is a big one that takes more than a fair share, and
    // more than any topic that has others.
    fn above_its_share(&self, newest: Option<Slot>) -> Option<Slot> {
        let takes = |slot: Slot| self.topic(slot).map_or(0, Topic::cost);
        let largest = self.shares.largest();
        let big = self.shares.biggest(newest).filter(|big| {
            let most = largest.map_or(0, takes).max(self.fair_share());
            takes(*big) > most
        });
        big.or(largest)
    }

    // The bytes that a topic may take without taking them from others.
    fn fair_share(&self) -> usize {
        self.limits.messages() / self.by_name.len().max(1)
    }

    // Returns whether some subscription may not have received all of a topic.
    fn is_unread(&self, topic: &Topic) -> bool {
        self.subscriptions.positions.is_behind(topic.last_position())
    }

    /// Makes room for one more topic.
    pub(crate) fn make_topic_room(&mut self) {
        let most = self.limits.topics;
        let most = if self.restoring.is_some() { most_topics(most) } else { most };
        while self.by_name.len() >= most {
            let idle = self.by_use.iter().rev().map(|(_, slot)| *slot).take(IDLE);
            // Rather a topic that was read completely; among those, rather one without messages.
            let worth = |topic: &Topic| (self.is_unread(topic), !topic.is_empty());
            let Some(slot) = idle.min_by_key(|slot| self.topic(*slot).map(worth)) else {
                return;
            };
            self.forget(slot);
        }
    }

    /// Evicts one message or payload of a topic. Returns the work of waking its waiters.
    pub(crate) fn evict(&mut self, slot: Slot) -> usize {
        let positions = &self.subscriptions.positions;
        let Some(topic) = self.topics.get_mut(slot).and_then(Option::as_deref_mut) else {
            return 0;
        };
        let before = topic.cost();
        let mut evicted = topic.evict(Some(positions));
        if topic.messages() == 0 && evicted.payload.is_none() {
            // The last message was looked up, so that its payload is kept. It is evicted as well.
            // Else one topic after the other would be chosen, and no room be made.
            evicted.payload = topic.evict_kept(true).and_then(|evicted| evicted.payload);
        }
        self.figures.evicted_for_room += u64::from(topic.cost() < before);
        self.settle(slot, before);
        self.take_evicted(slot, evicted)
    }

    pub(super) fn take_evicted(&mut self, slot: Slot, evicted: Evicted) -> usize {
        if let Some((key, count)) = evicted.payload {
            self.evicted_counts.put(key, count, self.position);
        }
        let waiters = evicted.waiters.into_iter().flatten();
        waiters.map(|waiters| self.wake_waiters(slot, waiters)).sum()
    }

    // Forgets a topic. Its counts are kept among the evicted ones. Subscriptions that have not
    // received all of it end with their next read.
    pub(in crate::engine) fn forget(&mut self, slot: Slot) {
        let Some(mut topic) = self.topics.get_mut(slot).and_then(Option::take) else {
            return;
        };
        let messages = topic.count_messages();
        self.figures.cached_messages -= messages;
        self.figures.evicted_with_topic += messages;
        self.figures.forgotten_topics += 1;
        if self.is_unread(&topic) {
            self.forgotten.push(self.portions.forgotten, &topic);
        }
        self.records.push(|| topic.record(0, Change::Forgotten));
        let topics = &mut self.topics;
        self.shares.set_big(slot, None);
        self.shares.remove(topic.share(), |slot, share| set_share(topics, slot, share));
        self.schedule.remove(&(topic.scheduled(), slot));
        self.recent.remove(slot);
        self.by_use.pop(topic.name());
        self.by_name.remove(topic.name());
        self.by_id.remove(&topic.id());
        self.free.push(slot);
        // Waiters of its messages are woken while it is emptied. They know the topic by this slot.
        topic.set_share(slot);
        self.forgotten_topics.push_back(topic);
    }

    // Empties topics that were forgotten.
    pub(in crate::engine) fn empty_forgotten(&mut self, left: &mut usize) {
        while *left > 0
            && let Some(topic) = self.forgotten_topics.front_mut()
        {
            *left -= 1;
            let (before, slot) = (topic.cost(), topic.share());
            if !topic.is_empty() {
                let evicted = topic.evict(None);
                let is_stuck = topic.cost() == before && topic.messages() == 0;
                self.bytes = self.bytes + topic.cost() - before;
                debug_assert!(!is_stuck, "a topic that is not empty, and evicts nothing");
                if !is_stuck {
                    let woken = self.take_evicted(slot, evicted);
                    *left = left.saturating_sub(woken);
                    continue;
                }
                // In release builds it is dropped as it is, so that the loop ends.
            }
            let Some(topic) = self.forgotten_topics.front_mut() else {
                return;
            };
            // Counts that only the list of the most counted payloads had. The highest are put last,
            // so that they stay longest.
            for ranked in topic.top().rev() {
                let key = topic.payload_key(&ranked.digest);
                self.evicted_counts.take(&key);
                self.evicted_counts.put(key, ranked.count, self.position);
                *left = left.saturating_sub(1);
            }
            self.bytes -= before;
            self.forgotten_topics.pop_front();
        }
    }
}
