//! One topic: its log, the LRU of payloads that points into it, its producers and highest counts.

use super::SubscriptionId;
use super::counts::{Count, Ranked, Top};
use super::log::{Entry, Log, PLACE};
use super::producers::Producers;
use crate::wire::{Digest, Encoded, INLINE};
use foldhash::fast::RandomState;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// What a message costs beside its bytes: its place in the log and one allocation. Bytes.
const ENTRY_COST: usize = PLACE + 16;
/// What a payload costs beside its bytes: its node and its share of the table. Bytes.
const PAYLOAD_COST: usize = size_of::<(Digest, Payload)>() + 64;
/// What a topic costs while it holds nothing. Bytes.
const TOPIC_COST: usize = 1024;
/// No bound to speak of, and not equal to [`NonZeroUsize::MAX`].
const UNBOUNDED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(usize::MAX / 2);

/// A payload of the cache. Its bytes are in the log, at its newest publication, unless they
/// outlived that because somebody asked for them.
#[derive(Debug)]
struct Payload {
    newest: u64,
    // Engine position of its last publication, or of whatever is published next after it was
    // looked up. The LRU is in this order.
    used: u64,
    count: Count,
    kept: Option<Box<(u64, Entry)>>,
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
    pub(crate) top: Top,
    payloads: LruCache<Digest, Payload, RandomState>,
    // Most payloads since the table was last made smaller.
    table: usize,
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
            top: Top::default(),
            payloads: LruCache::unbounded_with_hasher(RandomState::default()),
            table: 0,
            waiting: Vec::new(),
            behind: 0,
            resolved: 0,
            place: 0,
            bytes: 0,
        }
    }

    /// Bytes charged for everything here.
    pub(crate) fn cost(&self) -> usize {
        TOPIC_COST + self.bytes + self.log.slack() + self.producers.cost() + self.top.cost()
    }

    /// Bytes that eviction may take here while other topics need room: all messages but the
    /// newest, which a quiet topic keeps as long as there is anything else to take.
    pub(crate) fn spare(&self) -> usize {
        self.bytes - self.log.newest().map_or(0, |entry| entry.cost)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Looks a payload up for publication: it becomes the one used last.
    pub(crate) fn known(&mut self, digest: &Digest) -> Option<Known> {
        let payload = self.payloads.get(digest)?;
        let entry = match &payload.kept {
            Some(kept) => Some(&kept.1),
            None => self.log.get(payload.newest),
        };
        let body = entry.filter(|entry| entry.encoded.size() > INLINE);
        Some(Known {
            count: payload.count,
            body: body.map(|entry| entry.encoded.payload()),
        })
    }

    /// Appends a message.
    pub(crate) fn push(&mut self, mut entry: Entry, count: Count) {
        let sequence = self.log.next();
        entry.cost = own_cost(&entry.encoded) + shared_cost(&entry.encoded);
        if let Some(payload) = self.payloads.get_mut(&entry.digest) {
            // The cost of the payload moves from its publication before to this one.
            if let Some(kept) = payload.kept.take() {
                self.bytes -= kept.1.cost;
            } else if let Some(before) = self.log.get_mut(payload.newest) {
                self.bytes -= before.cost;
                before.cost = own_cost(&before.encoded);
                self.bytes += before.cost;
            }
            payload.newest = sequence;
            payload.used = entry.position;
            payload.count = count;
        } else {
            let payload = Payload {
                newest: sequence,
                used: entry.position,
                count,
                kept: None,
            };
            self.payloads.put(entry.digest, payload);
            self.table = self.table.max(self.payloads.len());
        }
        self.top.update(Ranked {
            digest: entry.digest,
            count,
            sequence,
            size: entry.encoded.size() as u64,
        });
        self.bytes += entry.cost;
        self.log.push(entry);
    }

    /// Gives up whatever was used longest ago, the newest message last; the payload that left
    /// the cache, with its count.
    pub(crate) fn evict(&mut self) -> Option<(Digest, Count)> {
        let left = self.evict_kept().or_else(|| self.evict_oldest());
        if self.payloads.len() < self.table / 8 {
            self.table = self.payloads.len();
            // To change the capacity is what gives the memory of the table back.
            let other = match self.payloads.cap() {
                NonZeroUsize::MAX => UNBOUNDED,
                _ => NonZeroUsize::MAX,
            };
            self.payloads.resize(other);
        }
        left
    }

    // A payload that outlived its publication goes when its last use is the longest ago, or when
    // the newest message is all that is left in the log.
    fn evict_kept(&mut self) -> Option<(Digest, Count)> {
        let last = self.log.first() + 1 >= self.log.next();
        let most = if last { 2 } else { 1 };
        let oldest = self.log.oldest().map(|entry| entry.position);
        let mut payloads = self.payloads.iter().rev().take(most);
        let (digest, cost) = payloads.find_map(|(digest, payload)| {
            let kept = payload.kept.as_ref()?;
            let first = last || oldest.is_none_or(|position| payload.used <= position);
            first.then_some((*digest, kept.1.cost))
        })?;
        self.bytes -= cost;
        self.payloads
            .pop(&digest)
            .map(|payload| (digest, payload.count))
    }

    fn evict_oldest(&mut self) -> Option<(Digest, Count)> {
        let sequence = self.log.first();
        let entry = self.log.pop_oldest()?;
        self.bytes -= entry.cost;
        let payload = self.payloads.peek_mut(&entry.digest)?;
        if payload.newest != sequence {
            return None;
        }
        if payload.used > entry.position {
            self.bytes += entry.cost;
            payload.kept = Some(Box::new((sequence, entry)));
            return None;
        }
        self.payloads
            .pop(&entry.digest)
            .map(|payload| (entry.digest, payload.count))
    }

    /// The newest message with this payload, which is used so, before what is published next,
    /// at `before`.
    pub(crate) fn find(&mut self, digest: &Digest, before: u64) -> Option<(u64, &Entry)> {
        let payload = self.payloads.get_mut(digest)?;
        payload.used = before;
        match &payload.kept {
            Some(kept) => Some((kept.0, &kept.1)),
            None => self
                .log
                .get(payload.newest)
                .map(|entry| (payload.newest, entry)),
        }
    }

    /// The payload, without counting as a use.
    pub(crate) fn peek(&self, digest: &Digest) -> Option<&Entry> {
        let payload = self.payloads.peek(digest)?;
        match &payload.kept {
            Some(kept) => Some(&kept.1),
            None => self.log.get(payload.newest),
        }
    }

    /// Since when a cached payload is counted.
    pub(crate) fn since(&self, digest: &Digest) -> u64 {
        let payload = self.payloads.peek(digest);
        payload.map_or(0, |payload| payload.count.since)
    }
}

fn own_cost(encoded: &Encoded) -> usize {
    ENTRY_COST + encoded.pieces().0.len()
}

fn shared_cost(encoded: &Encoded) -> usize {
    match encoded.pieces().1.len() {
        0 => PAYLOAD_COST,
        body => PAYLOAD_COST + body + 16,
    }
}

#[cfg(test)]
impl Topic {
    /// Payloads in the cache, used last first.
    pub(crate) fn payloads(&self) -> Vec<Digest> {
        self.payloads.iter().map(|(digest, _)| *digest).collect()
    }

    /// Recounts the bytes, and looks for payloads without bytes and messages without payload.
    pub(crate) fn audit(&self) {
        let entries = || (self.log.first()..self.log.next()).filter_map(|at| self.log.get(at));
        let mut bytes: usize = entries().map(|entry| entry.cost).sum();
        for entry in entries() {
            assert!(self.payloads.contains(&entry.digest));
        }
        for (digest, payload) in &self.payloads {
            let entry = match &payload.kept {
                Some(kept) => {
                    bytes += kept.1.cost;
                    assert!(self.log.get(kept.0).is_none());
                    &kept.1
                }
                None => self.log.get(payload.newest).unwrap(),
            };
            assert_eq!(entry.digest, *digest);
            assert_eq!(
                entry.cost,
                own_cost(&entry.encoded) + shared_cost(&entry.encoded)
            );
        }
        assert_eq!(self.bytes, bytes);
    }
}
