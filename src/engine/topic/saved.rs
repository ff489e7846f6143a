//! The parts of a topic that a snapshot reads, and puts back.

use super::Topic;
use super::body::Body;
use super::counts::{Count, Ranked};
use super::log::Entry;
use super::producers::Accepted;
use super::window::SavedWindow;
use crate::engine::limits::Limits;
use crate::engine::publication::Receipt;
use crate::wire::{Digest, ProducerId};
use std::collections::BTreeMap;
use std::ops::Bound;

impl Topic {
    /// Returns the position of the last message that has left the log; 0 is none.
    pub(crate) fn evicted_through(&self) -> u64 {
        self.log.evicted_through()
    }

    /// Returns the producers, the least recently used first.
    pub(crate) fn windows(&self) -> Vec<SavedWindow> {
        self.producers.windows()
    }

    /// Returns the idempotency keys, the least recently used first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&ProducerId, &Receipt)> {
        self.keys.iter()
    }

    /// Returns the counts of payloads whose newest publication was not the last one to complete.
    pub(crate) fn overtaken(&self) -> &BTreeMap<u64, Count> {
        &self.overtaken
    }

    /// Returns the sequences of the messages that arrive.
    pub(crate) fn arriving(&self) -> Vec<u64> {
        self.arriving.iter().copied().collect()
    }

    /// Returns the look-ups after one of them; and digest and count of the payloads that they keep
    /// after their messages.
    pub(crate) fn kept_after(
        &self,
        after: u64,
    ) -> impl Iterator<Item = (u64, Digest, Option<Count>)> {
        let rest = self.looked_up.range((Bound::Excluded(after), Bound::Unbounded));
        rest.map(|(lookup, looked_up)| match &looked_up.kept {
            Some(kept) => {
                let count = self.count_of(looked_up.sequence, kept.count);
                (*lookup, kept.digest, Some(count))
            }
            None => (*lookup, Digest([0; 32]), None),
        })
    }

    /// Sets the sequence of the next message of an empty log.
    pub(crate) fn start_at(&mut self, next: u64, evicted_through: u64) {
        self.log.start_at(next, evicted_through);
        self.retention.starts_at(next);
    }

    pub(crate) fn put_window(&mut self, window: &SavedWindow, limits: &Limits) {
        self.producers.put_window(window, limits.window.into(), limits.producers);
    }

    pub(crate) fn put_key(&mut self, key: ProducerId, receipt: Receipt, limits: &Limits) {
        self.keys.put(key, receipt, limits.producers);
    }

    /// Appends a message as it was. The list of the most counted payloads does not change.
    pub(crate) fn put_entry(&mut self, limits: &Limits, mut entry: Entry) {
        let sequence = self.log.next();
        match entry.body {
            Body::Arriving(_) => return self.push_arriving(entry),
            Body::Aborted { .. } | Body::Evicted { .. } => entry.cost = entry.own_cost(),
            Body::Small(_) | Body::Large { .. } => {
                let cost = (entry.own_cost(), entry.body.shared_cost());
                let payload = (entry.digest, entry.count);
                (entry.cost, _) = self.index_payload(sequence, payload, cost);
                self.retention.completed(sequence, entry.body.size());
                if let Some(origin) = entry.origin.filter(|origin| !origin.is_key()) {
                    let oldest = self.log.first();
                    let accepted = Accepted { number: origin.number, sequence, oldest };
                    self.producers.enter_place(origin.producer, accepted, limits.window.into());
                }
            }
        }
        self.bytes += entry.cost;
        self.log.push(entry);
        self.keep_newest();
    }

    pub(crate) fn put_top(&mut self, ranked: impl Iterator<Item = Ranked>) {
        ranked.for_each(|ranked| self.top.update(ranked));
    }

    pub(crate) fn put_overtaken(&mut self, sequence: u64, count: Count) {
        if self.log.get(sequence).is_some_and(|entry| entry.body.is_complete()) {
            self.overtaken.insert(sequence, count);
        }
    }

    /// Applies the count of a payload of so many bytes. `sequence` is its last publication to
    /// complete. Returns whether the payload is cached.
    pub(crate) fn put_count(
        &mut self,
        sequence: u64,
        digest: Digest,
        count: Count,
        size: u64,
    ) -> bool {
        let newest = self.payloads.get(&self.payload_key(&digest)).copied();
        let newest = newest.filter(|newest| self.cached(*newest).is_some());
        if let Some(newest) = newest.filter(|newest| *newest != sequence) {
            self.overtaken.insert(newest, count);
        }
        let ranked = Ranked { digest, count, sequence: newest.unwrap_or(sequence), size };
        self.top.update(ranked);
        newest.is_some()
    }
}
