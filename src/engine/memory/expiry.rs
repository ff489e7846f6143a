//! Dropping what a topic's rule does not keep: messages whose time has passed, and those that newer
//! ones have replaced.
//!
//! No message has a timer. Reads and look-ups ignore what has expired. A publication drops a few of
//! the oldest messages of its topic, and [`Engine::expire`] those of topics without publications.

use crate::engine::Engine;
use crate::engine::ids::Slot;

/// Number of messages that a publication drops at most: more than the one that it adds, so that
/// those of a busy topic do not add up.
const DROPPED: usize = 4;

impl Engine {
    /// Returns whether rules need the time.
    pub fn needs_time(&self) -> bool {
        self.needs_time
    }

    /// Tells the engine the time, µs since 1970.
    pub fn tell_time(&mut self, now: u64) {
        self.now = now;
    }

    /// Drops messages whose time has come, a portion of them. Returns whether there are more. Then
    /// release the lock for others, and call again.
    pub fn expire(&mut self, now: u64) -> bool {
        self.now = now;
        let mut left = self.portions.evictions;
        while left > 0
            && let Some(slot) = self.due()
        {
            left -= 1;
            left = left.saturating_sub(self.drop_due(slot, left));
            self.reschedule(slot);
        }
        self.work += self.portions.evictions - left;
        self.due().is_some()
    }

    // The topic that is due first.
    fn due(&self) -> Option<Slot> {
        let (due, slot) = self.schedule.first()?;
        (*due <= self.now).then_some(*slot)
    }

    /// Drops a few messages of a topic that has a new one.
    pub(in crate::engine) fn drop_some(&mut self, slot: Slot) {
        self.work += self.drop_due(slot, DROPPED);
    }

    // Drops messages of a topic. Returns the work.
    fn drop_due(&mut self, slot: Slot, most: usize) -> usize {
        let (now, mut work) = (self.now, 0);
        while work < most {
            let positions = &self.subscriptions.positions;
            let Some(topic) = self.topics.get_mut(slot).and_then(Option::as_deref_mut) else {
                break;
            };
            let before = topic.cost();
            let Some(evicted) = topic.drop_due(now, positions) else {
                break;
            };
            self.figures.evicted_by_rule += 1;
            self.settle(slot, before);
            work += 1 + self.take_evicted(slot, evicted);
        }
        work
    }

    /// Sees to it that a topic is looked at in time. It may be looked at earlier, which does no harm,
    /// so that most publications change nothing here.
    pub(in crate::engine) fn schedule(&mut self, slot: Slot) {
        let Some(topic) = self.topics.get_mut(slot).and_then(Option::as_deref_mut) else {
            return;
        };
        let before = topic.scheduled();
        if let Some(due) = topic.due().filter(|due| *due < before) {
            topic.set_scheduled(due);
            self.schedule.remove(&(before, slot));
            self.schedule.insert((due, slot));
        }
    }

    fn reschedule(&mut self, slot: Slot) {
        if let Some(topic) = self.topics.get_mut(slot).and_then(Option::as_deref_mut) {
            self.schedule.remove(&(topic.scheduled(), slot));
            topic.set_scheduled(u64::MAX);
            self.schedule(slot);
        }
    }
}
