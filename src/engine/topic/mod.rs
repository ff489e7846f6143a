//! One topic: its log, the LRU of payloads that points into it, its producers and highest counts.

#[cfg(test)]
mod audit;
pub(crate) mod body;
pub(crate) mod counts;
mod evict;
pub(crate) mod idempotency_keys;
pub(crate) mod log;
pub(crate) mod marks;
pub(crate) mod payload_index;
pub(crate) mod producer_places;
pub(crate) mod producers;
pub(crate) mod recent;

pub(super) use evict::Left;

use super::memory::evicted_counts::Key;
use super::rope::Rope;
use crate::wire::{Digest, INLINE};
use body::{Body, ENTRY_COST};
use bytes::Bytes;
use counts::{Count, Ranked, Top};
use log::{Entry, Log, PublicationId};
use marks::Marks;
use payload_index::Payloads;
use producers::Producers;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a topic costs while it holds nothing. Bytes.
const TOPIC_COST: usize = 1024;

/// A payload that was asked for since its newest publication, and may so outlive it.
#[derive(Debug)]
struct LookedUp {
    sequence: u64,
    // Engine position of whatever was published next.
    before: u64,
    // Once it has left the log.
    kept: Option<Box<Entry>>,
}

/// Whether a publication found its payload in the cache.
pub(crate) struct CachedPayload {
    pub(crate) count: Count,
    // The bytes to share, when they are too long to be copied.
    body: Option<Bytes>,
    rope: Option<Arc<Rope>>,
}

impl CachedPayload {
    /// The payload to encode: the one cached, where that saves a second copy.
    pub(crate) fn body<'a>(&'a self, published: &'a Bytes) -> &'a Bytes {
        self.body.as_ref().unwrap_or(published)
    }

    /// The large payload, if it is cached, and so long.
    pub(crate) fn rope(&self, size: usize) -> Option<Arc<Rope>> {
        self.rope.clone().filter(|rope| rope.len() == size)
    }
}

/// Aborted messages above the newest one that do not count as something to give up: beyond it,
/// whoever aborts one after the other has them evicted.
const ABORTED: u64 = 64;

/// Bytes of places that one that arrives may pin at least, however little of it has come: 256 KiB.
const PINNED: usize = 256 << 10;

/// A newest message above this, 1 MiB, may have to give way to other topics.
const BIG: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) id: u64,
    pub(crate) epoch: u64,
    // Stands for the name in the ledger of counts.
    pub(crate) key: u64,
    // Engine position at which the topic began.
    pub(crate) born: u64,
    pub(crate) log: Log,
    pub(crate) producers: Producers,
    pub(crate) keys: idempotency_keys::KeyedReceipts,
    pub(crate) top: Top,
    // Newest publication of each payload in the cache. Their LRU has no list of its own: it is
    // the log, and among that, by the number of the look-up, what was asked for.
    payloads: Payloads,
    asked: BTreeMap<u64, LookedUp>,
    lookups: BTreeMap<u64, u64>,
    lookup: u64,
    // Counts of payloads whose newest publication was not the last to be complete, by the sequence
    // of the newest.
    overtaken: BTreeMap<u64, Count>,
    // The newest message that is complete, 0 for none, and those that arrive, in order. Perhaps
    // they have left the log.
    latest: u64,
    pub(crate) arriving: BTreeSet<u64>,
    // What these are charged; and which of them has a producer's number. No hash table: one that
    // grows under way would stall everyone.
    arriving_bytes: usize,
    begun: BTreeMap<PublicationId, u64>,
    // Complete messages below this have given up what they had, if one before them arrives.
    hollow: u64,
    // Where those begin that have left the log and that some subscription has not had.
    pub(crate) marks: Marks,
    // Place in the heap of shares; of one that was forgotten, the slot that it had.
    pub(crate) place: usize,
    // Cost of the log and of payloads that outlived it.
    bytes: usize,
}

impl Topic {
    pub(crate) fn new(name: Arc<str>, id: u64, epoch: u64, key: u64, born: u64) -> Self {
        Self {
            name,
            id,
            epoch,
            key,
            born,
            log: Log::new(),
            producers: Producers::new(),
            keys: idempotency_keys::KeyedReceipts::default(),
            top: Top::default(),
            payloads: Payloads::default(),
            asked: BTreeMap::new(),
            lookups: BTreeMap::new(),
            lookup: 0,
            overtaken: BTreeMap::new(),
            latest: 0,
            arriving: BTreeSet::new(),
            arriving_bytes: 0,
            begun: BTreeMap::new(),
            hollow: 0,
            marks: Marks::default(),
            place: 0,
            bytes: 0,
        }
    }

    /// Bytes charged for everything here.
    pub(crate) fn cost(&self) -> usize {
        let memory = self.producers.cost() + self.keys.cost();
        let memory = memory + self.marks.cost();
        TOPIC_COST + self.bytes + self.log.slack() + memory + self.top.cost()
    }

    /// Bytes that eviction may take here while other topics need room: all messages but the
    /// newest, which a quiet topic keeps as long as there is anything else to take, and those that
    /// arrive, whose publishers would have to begin again. And what its newest message takes, if
    /// that is much, with its position.
    pub(crate) fn gives(&self) -> (usize, Option<(usize, u64)>) {
        let newest = self.newest();
        let above = (self.log.next() - newest).saturating_sub(1);
        let mut spare = self.bytes - self.arriving_bytes;
        let entry = self.log.get(newest);
        if above <= ABORTED
            && let Some(entry) = entry
        {
            let own = if entry.body.is_complete() { entry.cost } else { 0 };
            spare = spare.saturating_sub(own + above as usize * ENTRY_COST);
        }
        // Places above one that arrives stay as long as that. But if they come to more than what
        // arrives, that is to go too.
        if let Some(first) = self.arriving.first() {
            let places = (self.log.next() - first) as usize;
            let pinned = places.saturating_sub(self.arriving.len()) * ENTRY_COST;
            if pinned <= self.arriving_bytes.max(PINNED) {
                spare = spare.saturating_sub(pinned);
            }
        }
        let big = entry.filter(|entry| entry.cost > BIG);
        (spare, big.map(|entry| (entry.cost, entry.position)))
    }

    /// Position of its last message; 0 is none.
    pub(crate) fn moved(&self) -> u64 {
        self.log.moved()
    }

    // Sequence of the newest message that is complete or arrives: above it are aborted ones only.
    fn newest(&self) -> u64 {
        self.latest.max(self.arriving.last().copied().unwrap_or(0))
    }

    /// Sequence of the newest message that is complete.
    pub(crate) fn latest(&self) -> Option<u64> {
        Some(self.latest).filter(|latest| *latest >= self.log.first())
    }

    /// Where someone begins who wants the newest message there is: with the newest that is
    /// complete, or else with the newest that arrives, or else with the next.
    pub(crate) fn begin_latest(&self) -> u64 {
        let arriving = self.arriving.last().copied();
        self.latest().or(arriving).unwrap_or(self.log.next())
    }

    /// As [`begin_latest`](Self::begin_latest), of the messages below a sequence.
    pub(crate) fn begin_latest_before(&self, edge: u64) -> u64 {
        let latest = self.begin_latest();
        if latest < edge || edge >= self.log.next() {
            return latest;
        }
        let is_complete =
            |at: &u64| self.log.get(*at).is_some_and(|entry| entry.body.is_complete());
        let mut below = (self.log.first()..edge).rev();
        let found = below.by_ref().take(ABORTED as usize).find(is_complete);
        found.unwrap_or(match below.next() {
            // It may be further back than is looked for: rather all than nothing.
            Some(_) => self.log.first(),
            // None is complete: the newest that arrives, also below aborted ones.
            None => {
                let arriving = self.arriving.range(..edge).next_back().copied();
                arriving.unwrap_or(edge.saturating_sub(1).max(1))
            }
        })
    }

    /// The newest message that was complete when what stands from `edge` on had not begun, and so many
    /// uploads were complete; unless it has left the log, or is far back.
    pub(crate) fn latest_of(&self, edge: u64, uploads: u64) -> Option<u64> {
        let was_complete =
            |at: &u64| self.log.get(*at).is_some_and(|entry| entry.body.was_complete(uploads));
        let latest = self.latest().filter(|latest| *latest < edge).filter(was_complete);
        latest.or_else(|| (self.log.first()..edge).rev().take(ABORTED as usize).find(was_complete))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether it holds its newest message alone.
    pub(crate) fn is_one(&self) -> bool {
        self.log.len() <= 1 && self.asked.values().all(|asked| asked.kept.is_none())
    }

    /// The publication with this sequence, if its payload is cached.
    pub(crate) fn at(&self, sequence: u64) -> Option<&Entry> {
        let logged = self.log.get(sequence);
        logged.filter(|entry| !matches!(entry.body, Body::Evicted { .. })).or_else(|| {
            let asked = self.asked.get(self.lookups.get(&sequence)?)?;
            asked.kept.as_deref()
        })
    }

    fn key(&self, digest: &Digest) -> Key {
        Key::new(self.key, digest)
    }

    /// Looks a payload up for publication.
    pub(crate) fn known(&self, digest: &Digest) -> Option<CachedPayload> {
        let sequence = *self.payloads.get(&self.key(digest))?;
        let entry = self.at(sequence).filter(|entry| entry.digest == *digest)?;
        let (body, rope) = match &entry.body {
            Body::Small(encoded) if encoded.size() > INLINE => (Some(encoded.payload()), None),
            Body::Large { rope, .. } => (None, Some(rope.clone())),
            _ => (None, None),
        };
        Some(CachedPayload { count: self.count_of(sequence, entry.count), body, rope })
    }

    // How often a payload was published, of which this is the newest publication.
    fn count_of(&self, sequence: u64, count: Count) -> Count {
        if self.overtaken.is_empty() {
            return count;
        }
        self.overtaken.get(&sequence).copied().unwrap_or(count)
    }

    fn take_count_of(&mut self, sequence: u64, count: Count) -> Count {
        if self.overtaken.is_empty() {
            return count;
        }
        self.overtaken.remove(&sequence).unwrap_or(count)
    }

    /// Appends a message that is complete.
    pub(crate) fn push(&mut self, mut entry: Entry) {
        let sequence = self.log.next();
        entry.cost = self.enter(sequence, &entry);
        self.bytes += entry.cost;
        self.log.push(entry);
    }

    /// Appends a message that arrives.
    pub(crate) fn push_arriving(&mut self, mut entry: Entry) {
        entry.cost = entry.body.own_cost();
        self.bytes += entry.cost;
        self.arriving_bytes += entry.cost;
        self.arriving.insert(self.log.next());
        if let Some(origin) = entry.origin {
            self.begun.insert(origin, self.log.next());
        }
        self.log.push(entry);
    }

    /// Changes a message that arrives, if this is one.
    pub(crate) fn arrive<T>(
        &mut self,
        sequence: u64,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let entry = self.log.get_mut(sequence)?;
        entry.body.arriving()?;
        let origin = entry.origin;
        let result = change(entry);
        self.bytes -= entry.cost;
        self.arriving_bytes -= entry.cost;
        entry.cost = entry.body.own_cost();
        self.bytes += entry.cost;
        if entry.body.arriving().is_some() {
            self.arriving_bytes += entry.cost;
            return Some(result);
        }
        self.arriving.remove(&sequence);
        if let Some(origin) = origin {
            self.begun.remove(&origin);
        }
        Some(result)
    }

    /// The message of a publication that arrives.
    pub(crate) fn begun(&self, origin: &PublicationId) -> Option<u64> {
        self.begun.get(origin).copied()
    }

    /// A message that has arrived is found from now on, and counts.
    pub(crate) fn complete(&mut self, sequence: u64) {
        let Some(entry) = self.log.get(sequence) else {
            return;
        };
        // Oldest first: so the newest publication of a payload is the last to give it up.
        self.hollow = self.hollow.min(sequence);
        // Out of the log, so that both can be changed.
        let (digest, count, size) = (entry.digest, entry.count, entry.body.size());
        let (own, shared) = (entry.body.own_cost(), entry.body.shared_cost());
        let cost = self.enter_payload(sequence, digest, count, size, (own, shared));
        if let Some(entry) = self.log.get_mut(sequence) {
            self.bytes = self.bytes - entry.cost + cost;
            entry.cost = cost;
        }
    }

    fn enter(&mut self, sequence: u64, entry: &Entry) -> usize {
        let cost = (entry.body.own_cost(), entry.body.shared_cost());
        self.enter_payload(sequence, entry.digest, entry.count, entry.body.size(), cost)
    }

    // Enters a complete message in the tables. Gives what is charged for it: its own cost, and
    // that of its payload if it is the newest publication of it.
    fn enter_payload(
        &mut self,
        sequence: u64,
        digest: Digest,
        count: Count,
        size: usize,
        (own, shared): (usize, usize),
    ) -> usize {
        let mut cost = own + shared;
        let mut newest = sequence;
        let key = Key::new(self.key, &digest);
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
                // The cost of the payload moves from its publication before to this one.
                if let Some(before) = self.log.get_mut(before) {
                    self.bytes -= before.cost;
                    before.cost = before.body.own_cost();
                    self.bytes += before.cost;
                }
                if let Some(kept) = self.answered(before).and_then(|asked| asked.kept) {
                    self.bytes -= kept.cost;
                }
            }
        }
        if sequence > self.latest {
            // It was passed over as the newest.
            self.hollow = self.hollow.min(self.latest);
            self.latest = sequence;
        }
        self.top.update(Ranked { digest, count, sequence: newest, size: size as u64 });
        cost
    }

    /// The newest message with this payload, which is used so, before what is published next,
    /// at `before`.
    pub(crate) fn find(&mut self, digest: &Digest, before: u64) -> Option<(u64, &Entry)> {
        self.peek(digest)?;
        let sequence = *self.payloads.get(&self.key(digest))?;
        let kept = self.answered(sequence).and_then(|asked| asked.kept);
        self.lookup += 1;
        self.lookups.insert(sequence, self.lookup);
        let asked = LookedUp { sequence, before, kept };
        self.asked.insert(self.lookup, asked);
        self.at(sequence).map(|entry| (sequence, entry))
    }

    // Forgets that the payload was asked for.
    fn answered(&mut self, sequence: u64) -> Option<LookedUp> {
        self.asked.remove(&self.lookups.remove(&sequence)?)
    }

    /// The payload, without counting as a use.
    pub(crate) fn peek(&self, digest: &Digest) -> Option<&Entry> {
        let entry = self.at(*self.payloads.get(&self.key(digest))?);
        entry.filter(|entry| entry.digest == *digest)
    }
}
