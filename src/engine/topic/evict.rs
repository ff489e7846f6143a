//! Eviction from one topic, when room is needed.

use super::Topic;
use super::body::{Body, Waiters};
use super::counts::Count;
use super::log::Entry;
use super::payload_key::PayloadKey;
use crate::engine::positions::ReaderPositions;
use crate::wire::Digest;

/// Number of messages that one eviction looks at, among those that arrive or were aborted: 10 ns
/// each.
const LOOKED: u64 = 16;

/// The result of one eviction. It may have found nothing yet.
#[derive(Debug, Default)]
pub(crate) struct Evicted {
    /// The payload that has left the cache, and its count.
    pub(crate) payload: Option<(PayloadKey, Count)>,
    /// The subscriptions that waited for a message that was still arriving.
    pub(crate) waiters: Option<[Waiters; 2]>,
}

impl Topic {
    /// Evicts the message or payload that was used least recently.
    ///
    /// The newest message is last. A message that arrives is evicted only if there is nothing else,
    /// because its publisher would have to begin again. The topic remembers evicted messages that a
    /// subscription at one of the `positions` has not received.
    pub(in crate::engine) fn evict(&mut self, positions: Option<&ReaderPositions>) -> Evicted {
        match self.evict_kept(false) {
            Some(evicted) => evicted,
            None if self.arriving.first() == Some(&self.log.first()) => match self.evict_body() {
                Some(evicted) => evicted,
                None => match self.evict_kept(true) {
                    Some(evicted) => evicted,
                    None => self.evict_oldest(positions),
                },
            },
            None => self.evict_oldest(positions),
        }
    }

    /// Evicts a payload that has outlived its publication, if its last use is the oldest of all, or
    /// if the newest message is the only one in the log. `any` evicts one in any case.
    pub(crate) fn evict_kept(&mut self, any: bool) -> Option<Evicted> {
        if self.looked_up.is_empty() {
            return None;
        }
        let oldest = self.log.oldest().map(|entry| entry.position);
        let last = any || self.newest() <= self.log.first();
        let mut looked_up = self.looked_up.iter().take(if last { 2 } else { 1 });
        let (lookup, _) = looked_up.find(|(_, looked_up)| {
            let is_oldest = oldest.is_none_or(|position| looked_up.before <= position);
            looked_up.kept.is_some() && (last || is_oldest)
        })?;
        let looked_up = self.looked_up.remove(&{ *lookup })?;
        self.lookups.remove(&looked_up.sequence);
        let (sequence, kept) = (looked_up.sequence, looked_up.kept?);
        let key = self.payload_key(&kept.digest);
        self.bytes -= kept.cost;
        // Its count may have moved to a topic of the same name that was created later.
        Some(self.remove_payload(sequence, key, kept.count))
    }

    // While the oldest message arrives, evicts the body of the next complete one. Its slot stays in
    // the log. The search looks at a few messages at a time.
    fn evict_body(&mut self) -> Option<Evicted> {
        self.evicted_below = self.evicted_below.max(self.log.first());
        let stays = [self.newest(), self.latest];
        let end = self.evicted_below + LOOKED;
        while self.evicted_below < self.log.next() {
            let sequence = self.evicted_below;
            if sequence == end {
                return Some(Evicted::default());
            }
            self.evicted_below += 1;
            if stays.contains(&sequence) {
                continue;
            }
            let Some(entry) = self.log.get_mut(sequence).filter(|entry| entry.body.is_complete())
            else {
                continue;
            };
            let upload = match entry.body {
                Body::Large { upload, .. } => upload,
                _ => 0,
            };
            let mut slot = Entry {
                position: entry.position,
                accepted: entry.accepted,
                origin: None,
                stamp: 0,
                count: Count { count: 0, since: 0 },
                digest: Digest([0; 32]),
                body: Body::Evicted { upload },
                cost: 0,
            };
            slot.cost = slot.own_cost();
            self.bytes += slot.cost;
            let entry = std::mem::replace(entry, slot);
            self.bytes -= entry.cost;
            self.retention.left(sequence, entry.body.size());
            return Some(self.keep_or_remove(sequence, entry));
        }
        None
    }

    pub(super) fn evict_oldest(&mut self, positions: Option<&ReaderPositions>) -> Evicted {
        let (sequence, from) = (self.log.first(), self.log.evicted_through());
        let Some(entry) = self.log.oldest() else {
            return Evicted::default();
        };
        let Entry { position, origin, cost, .. } = *entry;
        let complete = (self.payload_key(&entry.digest), entry.count);
        let complete = Some(complete).filter(|_| entry.body.is_complete());
        let size = entry.body.size();
        if let Some(positions) = positions.filter(|positions| positions.any(from, position)) {
            let needed = |from, to| positions.any(from, to);
            self.marks.push((from, position), sequence, needed);
        }
        self.bytes -= cost;
        if complete.is_some() {
            self.retention.left(sequence, size);
        }
        self.retention.begins_after(sequence);
        if let Some(origin) = origin {
            self.producers.message_evicted(origin.producer, sequence + 1, self.log.len() - 1);
        }
        if let Some((key, count)) = complete
            && !self.lookups.contains_key(&sequence)
        {
            self.log.drop_oldest();
            return self.remove_payload(sequence, key, count);
        }
        let Some(mut entry) = self.log.pop_oldest() else {
            return Evicted::default();
        };
        if complete.is_some() {
            return self.keep_or_remove(sequence, entry);
        }
        let waiters = entry.body.arriving_mut().map(|arriving| {
            self.arriving_bytes -= cost;
            self.arriving.remove(&sequence);
            arriving.take_waiters()
        });
        if let Some(origin) = origin {
            self.begun.remove(&origin);
        }
        Evicted { payload: None, waiters }
    }

    // A complete message has left the log. Its payload is kept if it was looked up.
    fn keep_or_remove(&mut self, sequence: u64, entry: Entry) -> Evicted {
        let key = self.payload_key(&entry.digest);
        if let Some(lookup) = self.lookups.get(&sequence)
            && let Some(looked_up) = self.looked_up.get_mut(lookup)
            && self.payloads.get(&key) == Some(&sequence)
        {
            self.bytes += entry.cost;
            looked_up.kept = Some(Box::new(entry));
            return Evicted::default();
        }
        // Its look-up would stay in front of those that keep a payload, for ever.
        self.forget_lookup(sequence);
        self.remove_payload(sequence, key, entry.count)
    }

    // Removes a payload from the index, if this was its newest publication.
    fn remove_payload(&mut self, sequence: u64, key: PayloadKey, count: Count) -> Evicted {
        if !self.payloads.remove_at(&key, sequence) {
            return Evicted::default();
        }
        let count = self.take_count_of(sequence, count);
        Evicted { payload: Some((key, count)), waiters: None }
    }
}
