//! Messages that arrive in parts: they are in the log from their beginning on.

use super::Topic;
use super::log::Entry;
use crate::engine::publication::PublicationId;

impl Topic {
    /// Appends a message that arrives.
    pub(crate) fn push_arriving(&mut self, mut entry: Entry) {
        entry.cost = entry.own_cost();
        self.bytes += entry.cost;
        self.arriving_bytes += entry.cost;
        self.arriving.insert(self.log.next());
        if let Some(origin) = entry.origin {
            self.begun.insert(origin, self.log.next());
        }
        self.log.push(entry);
    }

    /// Changes a message that arrives. Returns nothing if the message does not.
    pub(crate) fn change_arriving<T>(
        &mut self,
        sequence: u64,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let entry = self.log.get_mut(sequence)?;
        entry.body.arriving_mut()?;
        let origin = entry.origin;
        let result = change(entry);
        self.bytes -= entry.cost;
        self.arriving_bytes -= entry.cost;
        entry.cost = entry.own_cost();
        self.bytes += entry.cost;
        if entry.body.arriving_mut().is_some() {
            self.arriving_bytes += entry.cost;
            return Some(result);
        }
        self.arriving.remove(&sequence);
        if let Some(origin) = origin {
            self.begun.remove(&origin);
        }
        Some(result)
    }

    /// Returns the sequence of a publication that arrives.
    pub(crate) fn begun(&self, origin: &PublicationId) -> Option<u64> {
        self.begun.get(origin).copied()
    }

    /// Enters a message that has become complete in the tables: from now on it can be looked up.
    pub(crate) fn complete(&mut self, sequence: u64) {
        let Some(entry) = self.log.get(sequence) else {
            return;
        };
        // Eviction takes the oldest first, so that the newest publication of a payload is last.
        self.evicted_below = self.evicted_below.min(sequence);
        // Copied from the log, so that both can be changed.
        let (digest, count, size) = (entry.digest, entry.count, entry.body.size());
        let (own, shared) = (entry.own_cost(), entry.body.shared_cost());
        let cost = self.enter_payload(sequence, digest, count, size, (own, shared));
        if let Some(entry) = self.log.get_mut(sequence) {
            self.bytes = self.bytes - entry.cost + cost;
            entry.cost = cost;
        }
        self.retention.completed(sequence, size);
        self.keep_newest();
    }
}
