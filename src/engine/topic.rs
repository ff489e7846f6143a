//! One topic: its log, the LRU of payloads that points into it, its producers and highest counts.

use super::SubscriptionId;
use super::counts::{Count, Ranked, Top};
use super::keys;
use super::ledger::Key;
use super::log::{Entry, Log, PLACE, allocated};
use super::producers::Producers;
use crate::wire::{Digest, Encoded, INLINE};
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap, hash_map};
use std::sync::Arc;

/// What a message costs beside its bytes: its place in the log. Bytes.
const ENTRY_COST: usize = PLACE;
/// What a payload costs beside its bytes: its share of the tables. Bytes.
const PAYLOAD_COST: usize = 128;
/// What a topic costs while it holds nothing. Bytes.
const TOPIC_COST: usize = 1024;

/// A payload that was asked for since its newest publication, and may so outlive it.
#[derive(Debug)]
struct Asked {
    sequence: u64,
    // Engine position of whatever was published next.
    before: u64,
    // Once it has left the log.
    kept: Option<Box<Entry>>,
}

/// Whether a publication found its payload in the cache.
pub(crate) struct Known {
    pub(crate) count: Count,
    // The bytes to share, when they are too long to be copied.
    body: Option<bytes::Bytes>,
}

impl Known {
    /// The payload to encode: the one cached, where that saves a second copy.
    pub(crate) fn body<'a>(&'a self, published: &'a bytes::Bytes) -> &'a bytes::Bytes {
        self.body.as_ref().unwrap_or(published)
    }
}

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
    pub(crate) keys: keys::Known,
    pub(crate) top: Top,
    // Newest publication of each payload in the cache. Their LRU has no list of its own: it is
    // the log, and among that, by the number of the look-up, what was asked for.
    payloads: HashMap<Key, u64, RandomState>,
    asked: BTreeMap<u64, Asked>,
    lookups: BTreeMap<u64, u64>,
    lookup: u64,
    // Subscriptions that have had everything: the next publication wakes them.
    pub(crate) waiting: Vec<SubscriptionId>,
    // Subscriptions that have not.
    pub(crate) behind: u32,
    // Subscriptions born up to here have been looked for.
    pub(crate) resolved: u64,
    // Place in the heap of shares.
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
            keys: keys::Known::default(),
            top: Top::default(),
            payloads: HashMap::default(),
            asked: BTreeMap::new(),
            lookups: BTreeMap::new(),
            lookup: 0,
            waiting: Vec::new(),
            behind: 0,
            resolved: 0,
            place: 0,
            bytes: 0,
        }
    }

    /// Bytes charged for everything here.
    pub(crate) fn cost(&self) -> usize {
        let memory = self.producers.cost() + self.keys.cost();
        TOPIC_COST + self.bytes + self.log.slack() + memory + self.top.cost()
    }

    /// Bytes that eviction may take here while other topics need room: all messages but the
    /// newest, which a quiet topic keeps as long as there is anything else to take.
    pub(crate) fn spare(&self) -> usize {
        self.bytes - self.log.newest().map_or(0, |entry| entry.cost)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    // The publication with this sequence, if its payload is cached.
    fn at(&self, sequence: u64) -> Option<&Entry> {
        self.log.get(sequence).or_else(|| {
            let asked = self.asked.get(self.lookups.get(&sequence)?)?;
            asked.kept.as_deref()
        })
    }

    fn key(&self, digest: &Digest) -> Key {
        Key::new(self.key, digest)
    }

    /// Looks a payload up for publication.
    pub(crate) fn known(&self, digest: &Digest) -> Option<Known> {
        let entry = self.peek(digest)?;
        let long = entry.encoded.size() > INLINE;
        Some(Known { count: entry.count, body: long.then(|| entry.encoded.payload()) })
    }

    /// Appends a message.
    pub(crate) fn push(&mut self, mut entry: Entry) {
        let sequence = self.log.next();
        entry.cost = own_cost(&entry.encoded) + shared_cost(&entry.encoded);
        self.bytes += entry.cost;
        if let Some(before) = self.payloads.insert(self.key(&entry.digest), sequence) {
            // The cost of the payload moves from its publication before to this one.
            if let Some(before) = self.log.get_mut(before) {
                self.bytes -= before.cost;
                before.cost = own_cost(&before.encoded);
                self.bytes += before.cost;
            }
            if let Some(kept) = self.answered(before).and_then(|asked| asked.kept) {
                self.bytes -= kept.cost;
            }
        }
        self.top.update(Ranked {
            digest: entry.digest,
            count: entry.count,
            sequence,
            size: entry.encoded.size() as u64,
        });
        self.log.push(entry);
    }

    /// Gives up whatever was used longest ago, the newest message last; the payload that left
    /// the cache, with its count.
    pub(crate) fn evict(&mut self) -> Option<(Digest, Count)> {
        let left = self.evict_kept().or_else(|| self.evict_oldest());
        if self.payloads.len() < self.payloads.capacity() / 8 {
            self.payloads.shrink_to(2 * self.payloads.len());
        }
        left
    }

    // A payload that outlived its publication goes when its last use is the longest ago, or when
    // the newest message is all that is left in the log.
    fn evict_kept(&mut self) -> Option<(Digest, Count)> {
        let oldest = self.log.oldest().map(|entry| entry.position);
        let last = self.log.len() <= 1;
        let mut asked = self.asked.iter().take(if last { 2 } else { 1 });
        let (lookup, _) = asked.find(|(_, asked)| {
            asked.kept.is_some() && (last || oldest.is_none_or(|position| asked.before <= position))
        })?;
        let kept = self.asked.remove(&{ *lookup })?;
        self.lookups.remove(&kept.sequence);
        let kept = kept.kept?;
        self.payloads.remove(&self.key(&kept.digest));
        self.bytes -= kept.cost;
        Some((kept.digest, kept.count))
    }

    fn evict_oldest(&mut self) -> Option<(Digest, Count)> {
        let sequence = self.log.first();
        let entry = self.log.pop_oldest()?;
        self.bytes -= entry.cost;
        let key = self.key(&entry.digest);
        let hash_map::Entry::Occupied(newest) = self.payloads.entry(key) else {
            return None;
        };
        if *newest.get() != sequence {
            return None;
        }
        if !self.lookups.is_empty()
            && let Some(lookup) = self.lookups.get(&sequence)
            && let Some(asked) = self.asked.get_mut(lookup)
        {
            self.bytes += entry.cost;
            asked.kept = Some(Box::new(entry));
            return None;
        }
        newest.remove();
        Some((entry.digest, entry.count))
    }

    /// The newest message with this payload, which is used so, before what is published next,
    /// at `before`.
    pub(crate) fn find(&mut self, digest: &Digest, before: u64) -> Option<(u64, &Entry)> {
        self.peek(digest)?;
        let sequence = *self.payloads.get(&self.key(digest))?;
        let kept = self.answered(sequence).and_then(|asked| asked.kept);
        self.lookup += 1;
        self.lookups.insert(sequence, self.lookup);
        let asked = Asked { sequence, before, kept };
        self.asked.insert(self.lookup, asked);
        self.at(sequence).map(|entry| (sequence, entry))
    }

    // Forgets that the payload was asked for.
    fn answered(&mut self, sequence: u64) -> Option<Asked> {
        self.asked.remove(&self.lookups.remove(&sequence)?)
    }

    /// The payload, without counting as a use.
    pub(crate) fn peek(&self, digest: &Digest) -> Option<&Entry> {
        let entry = self.at(*self.payloads.get(&self.key(digest))?);
        entry.filter(|entry| entry.digest == *digest)
    }
}

fn own_cost(encoded: &Encoded) -> usize {
    ENTRY_COST + allocated(encoded.pieces().0.len())
}

fn shared_cost(encoded: &Encoded) -> usize {
    match encoded.pieces().1.len() {
        0 => PAYLOAD_COST,
        body => PAYLOAD_COST + allocated(body),
    }
}

#[cfg(test)]
impl Topic {
    /// Payloads in the cache, used last first.
    pub(crate) fn payloads(&self) -> Vec<Digest> {
        let used = |sequence: &u64| match self.lookups.get(sequence) {
            // After a publication, and before the next.
            Some(lookup) => (self.asked[lookup].before - 1, *lookup),
            None => (self.at(*sequence).unwrap().position, 0),
        };
        let mut all: Vec<_> = self.payloads.values().collect();
        all.sort_unstable_by_key(|sequence| std::cmp::Reverse(used(sequence)));
        let digest = |sequence: &u64| self.at(*sequence).unwrap().digest;
        all.into_iter().map(digest).collect()
    }

    /// Payloads that the table has room for.
    pub(crate) fn table(&self) -> usize {
        self.payloads.capacity()
    }

    /// Recounts the bytes, and looks for payloads without bytes and messages without payload.
    pub(crate) fn audit(&self) {
        let entries = || (self.log.first()..self.log.next()).filter_map(|at| self.log.get(at));
        let kept = || self.asked.values().filter_map(|asked| asked.kept.as_deref());
        let bytes: usize = entries().chain(kept()).map(|entry| entry.cost).sum();
        assert_eq!(self.bytes, bytes);
        let cached = |entry: &Entry| self.payloads.contains_key(&self.key(&entry.digest));
        assert!(entries().chain(kept()).all(cached));
        for entry in entries() {
            // Only its newest publication pays for the payload.
            let newest = self.peek(&entry.digest).map(|newest| newest.position);
            let own = own_cost(&entry.encoded);
            let shared = shared_cost(&entry.encoded);
            let is_newest = newest == Some(entry.position);
            assert_eq!(entry.cost, if is_newest { own + shared } else { own });
        }
        for (key, sequence) in &self.payloads {
            let entry = self.at(*sequence).expect("a payload without bytes");
            assert_eq!(self.key(&entry.digest), *key);
        }
        assert_eq!(self.asked.len(), self.lookups.len());
        for (sequence, lookup) in &self.lookups {
            let asked = &self.asked[lookup];
            assert_eq!(asked.sequence, *sequence);
            assert_eq!(asked.kept.is_some(), self.log.get(*sequence).is_none());
        }
    }
}
