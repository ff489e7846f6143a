//! One topic: its log, the LRU of payloads that points into it, its producers and highest counts.

use super::SubscriptionId;
use super::counts::{Count, Ranked, Top};
use super::log::{Entry, Log};
use super::producers::Producers;
use crate::wire::{Digest, Encoded, INLINE};
use foldhash::fast::RandomState;
use lru::LruCache;
use std::sync::Arc;

/// What a message costs beside its bytes: its place in the log and one allocation. Bytes.
const ENTRY_COST: usize = size_of::<Option<Entry>>() + 16;
/// What a payload costs beside its bytes: its node and its share of the table. Bytes.
const PAYLOAD_COST: usize = size_of::<(Digest, Payload)>() + 64;
/// What a topic costs while it holds nothing. Bytes.
const TOPIC_COST: usize = 1024;

/// A payload of the cache. Its bytes are in the log, at its newest publication, unless they
/// outlived that because somebody asked for them.
#[derive(Debug)]
struct Payload {
    newest: u64,
    // Engine position of its last use: publication or look-up. The LRU is in this order.
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
            waiting: Vec::new(),
            behind: 0,
            resolved: 0,
            place: 0,
            bytes: 0,
        }
    }

    /// Bytes charged for everything here.
    pub(crate) fn cost(&self) -> usize {
        TOPIC_COST + self.bytes + self.producers.cost() + self.top.cost()
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
        let own = own_cost(&entry.encoded);
        let shared = PAYLOAD_COST + shared_cost(&entry.encoded);
        match self.payloads.get_mut(&entry.digest) {
            Some(payload) => {
                // The cost of the payload moves from its publication before to this one.
                match payload.kept.take() {
                    Some(kept) => self.bytes -= kept.1.cost,
                    None => {
                        if let Some(before) = self.log.get_mut(payload.newest) {
                            before.cost -= shared;
                            self.bytes -= shared;
                        }
                    }
                }
                payload.newest = sequence;
                payload.used = entry.position;
                payload.count = count;
            }
            None => {
                let payload = Payload {
                    newest: sequence,
                    used: entry.position,
                    count,
                    kept: None,
                };
                self.payloads.put(entry.digest, payload);
            }
        }
        self.top.update(Ranked {
            digest: entry.digest,
            count,
            sequence,
            size: entry.encoded.size() as u64,
        });
        entry.cost = own + shared;
        self.bytes += entry.cost;
        self.log.push(entry);
    }

    /// Gives up whatever was used longest ago; the payload that left the cache, with its count.
    pub(crate) fn evict(&mut self) -> Option<(Digest, Count)> {
        let oldest = self.log.oldest().map(|entry| entry.position);
        // A payload that outlived its publication goes when its last use is the longest ago.
        if let Some((
            _,
            Payload {
                used,
                kept: Some(kept),
                ..
            },
        )) = self.payloads.peek_lru()
            && oldest.is_none_or(|position| *used < position)
        {
            self.bytes -= kept.1.cost;
            return self
                .payloads
                .pop_lru()
                .map(|(digest, payload)| (digest, payload.count));
        }
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

    /// The newest message with this payload, and that it was asked for at `position`.
    pub(crate) fn find(&mut self, digest: &Digest, position: u64) -> Option<(u64, &Entry)> {
        let payload = self.payloads.get_mut(digest)?;
        payload.used = position;
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

    /// Payloads in the cache, used last first.
    #[cfg(test)]
    pub(crate) fn payloads(&self) -> Vec<Digest> {
        self.payloads.iter().map(|(digest, _)| *digest).collect()
    }
}

fn own_cost(encoded: &Encoded) -> usize {
    ENTRY_COST + encoded.pieces().0.len()
}

fn shared_cost(encoded: &Encoded) -> usize {
    match encoded.pieces().1.len() {
        0 => 0,
        body => body + 16,
    }
}
