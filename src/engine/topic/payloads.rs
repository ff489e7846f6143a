//! The payloads in a topic's cache: each is kept once, at its newest publication.

use super::Topic;
use super::body::Body;
use super::counts::{Count, Ranked};
use super::log::Entry;
use super::lookup::LookedUp;
use super::retention::Gone;
use crate::engine::rope::Rope;
use crate::wire::{Digest, INLINE};
use bytes::Bytes;
use std::sync::Arc;

/// A payload of a publication that the cache already has.
pub(crate) struct CachedPayload {
    pub(crate) count: Count,
    // The bytes to share, if they are too long to be copied.
    body: Option<Bytes>,
    rope: Option<Arc<Rope>>,
}

impl CachedPayload {
    /// Returns the payload to encode: the cached one, if that saves a second copy.
    pub(crate) fn body<'a>(&'a self, published: &'a Bytes) -> &'a Bytes {
        self.body.as_ref().unwrap_or(published)
    }

    /// Returns the large payload, if the cached one has this size.
    pub(crate) fn rope(&self, size: usize) -> Option<Arc<Rope>> {
        self.rope.clone().filter(|rope| rope.len() == size)
    }
}

impl Topic {
    /// Returns the message with this sequence, if its payload is cached.
    pub(crate) fn cached(&self, sequence: u64) -> Option<&Entry> {
        let logged = self.log.get(sequence);
        logged.filter(|entry| !matches!(entry.body, Body::Evicted { .. })).or_else(|| {
            let looked_up = self.looked_up.get(self.lookups.get(&sequence)?)?;
            looked_up.kept.as_deref()
        })
    }

    /// Returns the cached payload for a publication.
    pub(crate) fn cached_payload(&self, digest: &Digest) -> Option<CachedPayload> {
        let sequence = *self.payloads.get(&self.payload_key(digest))?;
        let entry = self.cached(sequence).filter(|entry| entry.digest == *digest)?;
        let (body, rope) = match &entry.body {
            Body::Small(encoded) if encoded.size() > INLINE => (Some(encoded.payload()), None),
            Body::Large { rope, .. } => (None, Some(rope.clone())),
            _ => (None, None),
        };
        Some(CachedPayload { count: self.count_of(sequence, entry.count), body, rope })
    }

    /// Looks a payload up: returns the newest message with it. That counts as a use of the payload,
    /// after which the engine's next position is `before`.
    pub(crate) fn look_up(&mut self, digest: &Digest, before: u64) -> Option<(u64, &Entry)> {
        self.peek(digest)?;
        let sequence = *self.payloads.get(&self.payload_key(digest))?;
        if !self.keeps_looked_up() {
            return self.cached(sequence).map(|entry| (sequence, entry));
        }
        let kept = self.forget_lookup(sequence).and_then(|looked_up| looked_up.kept);
        self.last_lookup += 1;
        self.lookups.insert(sequence, self.last_lookup);
        let looked_up = LookedUp { sequence, before, kept };
        self.looked_up.insert(self.last_lookup, looked_up);
        self.cached(sequence).map(|entry| (sequence, entry))
    }

    /// Returns the sequence of the newest message with a payload, if that can be looked up.
    pub(crate) fn find(&self, digest: &Digest, now: u64) -> Option<(u64, Option<Gone>)> {
        self.peek(digest)?;
        let sequence = *self.payloads.get(&self.payload_key(digest))?;
        Some((sequence, self.why_gone(sequence, now)))
    }

    /// Returns the newest message with a payload. That does not count as a use.
    pub(crate) fn peek(&self, digest: &Digest) -> Option<&Entry> {
        let entry = self.cached(*self.payloads.get(&self.payload_key(digest))?);
        entry.filter(|entry| entry.digest == *digest)
    }

    /// Removes a payload's count, for the topic of the same name that was created after this one
    /// was forgotten.
    pub(crate) fn take_count(&mut self, digest: &Digest) -> Option<Count> {
        let ranked = self.top.remove(digest);
        let key = self.payload_key(digest);
        let cached = self.payloads.get(&key).copied().and_then(|sequence| {
            let count = self.cached(sequence).filter(|entry| entry.digest == *digest)?.count;
            self.payloads.remove(&key);
            let lookup = self.lookups.get(&sequence);
            if lookup.is_some_and(|lookup| self.looked_up[lookup].kept.is_none()) {
                self.forget_lookup(sequence);
            }
            Some(self.take_count_of(sequence, count))
        });
        cached.or(ranked)
    }

    pub(super) fn forget_lookup(&mut self, sequence: u64) -> Option<LookedUp> {
        self.looked_up.remove(&self.lookups.remove(&sequence)?)
    }

    // The count of a payload whose newest publication is `sequence`, and has this count.
    pub(super) fn count_of(&self, sequence: u64, count: Count) -> Count {
        if self.overtaken.is_empty() {
            return count;
        }
        self.overtaken.get(&sequence).copied().unwrap_or(count)
    }

    pub(super) fn take_count_of(&mut self, sequence: u64, count: Count) -> Count {
        if self.overtaken.is_empty() {
            return count;
        }
        self.overtaken.remove(&sequence).unwrap_or(count)
    }

    // Enters a complete message in the tables, and returns what is charged for it.
    pub(super) fn enter(&mut self, sequence: u64, entry: &Entry) -> usize {
        let cost = (entry.own_cost(), entry.body.shared_cost());
        self.enter_payload(sequence, entry.digest, entry.count, entry.body.size(), cost)
    }

    // As above. The charge is the message's own cost, and the cost of its payload if it is the newest
    // publication of that.
    pub(super) fn enter_payload(
        &mut self,
        sequence: u64,
        digest: Digest,
        count: Count,
        size: usize,
        cost: (usize, usize),
    ) -> usize {
        let (cost, newest) = self.index_payload(sequence, (digest, count), cost);
        self.top.update(Ranked { digest, count, sequence: newest, size: size as u64 });
        cost
    }

    // Enters a complete message in the index. Returns what is charged for it, and the newest
    // publication of its payload.
    pub(super) fn index_payload(
        &mut self,
        sequence: u64,
        (digest, count): (Digest, Count),
        (own, shared): (usize, usize),
    ) -> (usize, u64) {
        let mut cost = own + shared;
        let mut newest = sequence;
        let key = self.payload_key(&digest);
        match self.payloads.insert(key, sequence) {
            None => {}
            Some(before) if before > sequence => {
                self.payloads.insert(key, before);
                newest = before;
                self.overtaken.insert(newest, count);
                cost = own;
            }
            Some(before) => {
                self.take_count_of(before, count);
                // The cost of the payload moves from the publication before to this one.
                if let Some(before) = self.log.get_mut(before) {
                    self.bytes -= before.cost;
                    before.cost = before.own_cost();
                    self.bytes += before.cost;
                }
                if let Some(kept) = self.forget_lookup(before).and_then(|before| before.kept) {
                    self.bytes -= kept.cost;
                }
            }
        }
        if sequence > self.latest {
            // As the newest, the message before was not evicted.
            self.evicted_below = self.evicted_below.min(self.latest);
            self.latest = sequence;
        }
        (cost, newest)
    }
}
