//! Creating and changing topics, with the accounts that follow from it.

use super::Engine;
use super::ids::Slot;
use super::topic::Topic;
use std::sync::Arc;

impl Engine {
    // Creates a topic. If there are too many, the least recently used one is forgotten.
    pub(super) fn create(&mut self, name: &str) -> Slot {
        self.make_topic_room();
        let id = self.next_topic;
        self.next_topic += 1;
        self.create_as(id, name.into(), self.position + 1)
    }

    pub(super) fn create_as(&mut self, id: u64, name: Arc<str>, created_at: u64) -> Slot {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(name.as_bytes());
        let key = crate::wire::Digest(*hasher.finalize().as_bytes()).hint();
        let epoch = self.runs.epoch(id);
        let mut topic = Box::new(Topic::new(name.clone(), id, epoch, key, created_at));
        topic.set_rule(self.rules.of(&name), self.limits.held_by_topic());
        self.work += self.rules.all().len() / 4;
        self.bytes += topic.cost();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.topics.push(None);
            self.topics.len() - 1
        });
        self.topics[slot] = Some(topic);
        self.by_use.put(name.clone(), slot);
        self.by_name.insert(name, slot);
        self.by_id.insert(id, slot);
        let topics = &mut self.topics;
        self.shares.insert(slot, |slot, share| set_share(topics, slot, share));
        slot
    }

    // Changes a topic, and keeps the accounts.
    pub(super) fn change<T>(
        &mut self,
        slot: Slot,
        change: impl FnOnce(&mut Topic) -> T,
    ) -> Option<T> {
        let topic = self.topics.get_mut(slot)?.as_deref_mut()?;
        let before = topic.cost();
        let result = change(topic);
        self.settle(slot, before);
        Some(result)
    }

    // Updates the accounts of a topic that has changed: its messages, its cost, and its evictable
    // bytes.
    pub(super) fn settle(&mut self, slot: Slot, before: usize) {
        let Some(topic) = self.topics.get_mut(slot).and_then(Option::as_deref_mut) else {
            return;
        };
        let cached = &mut self.figures.cached_messages;
        *cached = *cached + topic.messages() - topic.count_messages();
        let (share, (evictable, big)) = (topic.share(), topic.evictable());
        self.bytes = self.bytes + topic.cost() - before;
        self.shares.set_big(slot, big);
        let topics = &mut self.topics;
        self.shares.update(share, evictable, |slot, share| set_share(topics, slot, share));
        self.schedule(slot);
    }
}

pub(super) fn set_share(topics: &mut [Option<Box<Topic>>], slot: Slot, share: usize) {
    if let Some(topic) = &mut topics[slot] {
        topic.set_share(share);
    }
}
