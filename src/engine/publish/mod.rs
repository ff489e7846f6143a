//! Accept once → count → cache → wake whoever stands at the head.

pub(crate) mod upload;

use super::memory::evicted_counts::{EvictedCounts, Key};
use super::payload::{Parts, Payload};
use super::topic::body::Body;
use super::topic::counts::Count;
use super::topic::log::{Entry, PublicationId};
use super::topic::producers::{Accepted, Verdict};
use super::topic::{CachedPayload, Topic};
use super::{Engine, Limits, Slot};
use crate::wire::{Code, Digest, Refusal, check_topic, encode_message};
use std::collections::VecDeque;

/// What a publisher hands over.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Opaque bytes. Up to [`INLINE`](crate::wire::INLINE) they are copied, once for everybody;
    /// longer ones are shared.
    pub payload: &'a Payload,
    /// [`Digest::of`] the payload, made by the caller so that nobody waits for the hashing.
    pub digest: Digest,
    /// The publisher's clock, µs since 1970; 0 is none.
    pub stamp: u64,
    /// Who published it and under which number, or under which [key](super::Keys); with none,
    /// every call counts.
    pub origin: Option<PublicationId>,
}

/// A publication was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its sequence in the topic; 0 in a repeated receipt whose message has left the cache. It is
    /// always there while the message is cached and its number is less than the
    /// [window](Limits::window) behind the newest of its producer; of older numbers it may be 0
    /// too, if the producer's numbers come far out of order or its messages stand far apart. That
    /// of a key is kept with the key.
    pub sequence: u64,
    /// Times the payload was published to the topic, that time included; 0 as above.
    pub count: u64,
    /// 0: the count covers everything since the topic began. Else µs since 1970: the counting
    /// of this payload began then, and what was before may have been forgotten.
    pub since: u64,
    /// Digest of the payload.
    pub digest: Digest,
    /// Whether it had been accepted before, and so was not counted again.
    pub duplicate: bool,
}

/// Blocks and messages that are looked at in one unit of work: each takes some 10 ns.
const LOOKED: usize = 8;

impl Engine {
    /// Accepts a publication, once. Refused are bad topics, payloads above the limit and numbers
    /// out of the window.
    pub fn publish(&mut self, now: u64, publication: &Publication<'_>) -> Result<Receipt, Refusal> {
        let Publication { topic, payload, digest, stamp, origin } = *publication;
        if payload.len() > self.limits.payload {
            return Err(self.too_large(payload.len()));
        }
        let slot = self.published_to(topic)?;
        if let Some(origin) = origin
            && let Some(receipt) = self.seen(slot, origin, digest)?
        {
            return Ok(receipt);
        }
        self.position += 1;
        self.work += 1;
        let position = self.position;
        let (limits, evicted_counts) = (self.limits, &mut self.evicted_counts);
        let Some(topic) = self.topics[slot].as_deref_mut() else {
            unreachable!("the tables of names point to topics");
        };
        let before = topic.cost();
        let (count, known) = count(topic, (evicted_counts, &mut self.dying), now, &digest);
        let sequence = topic.log.next();
        let body = match payload.parts() {
            Parts::Large(rope) => {
                let cached = known.and_then(|known| known.rope(rope.len()));
                Body::Large { rope: cached.unwrap_or_else(|| rope.clone()), upload: 0 }
            }
            Parts::Small(payload) => {
                let body = known.as_ref().map_or(payload, |known| known.body(payload));
                Body::Small(encode_message(topic.id, sequence, count.count, stamp, body))
            }
        };
        let cost = 0;
        let entry = Entry { position, accepted: now, origin, stamp, count, digest, body, cost };
        topic.push(entry);
        let receipt = accept(topic, &limits, origin, sequence, count, digest);
        self.settle(slot, before);
        self.make_room(slot);
        self.stir(slot, position);
        Ok(receipt)
    }

    // The topic, which may begin so.
    pub(super) fn published_to(&mut self, topic: &str) -> Result<Slot, Refusal> {
        if let Some(slot) = self.by_use.get(topic) {
            return Ok(*slot);
        }
        check_topic(topic).map_err(crate::wire::NameError::of_topic)?;
        Ok(self.create(topic))
    }

    // The receipt of a publication that was accepted before.
    pub(super) fn seen(
        &mut self,
        slot: Slot,
        origin: PublicationId,
        digest: Digest,
    ) -> Result<Option<Receipt>, Refusal> {
        let window = self.limits.window;
        let Some(topic) = self.topics[slot].as_deref_mut() else {
            return Ok(None);
        };
        if origin.is_key() {
            let known = topic.keys.get(origin.producer);
            return Ok(known.map(|receipt| Receipt { duplicate: true, ..receipt }));
        }
        match topic.producers.judge(origin.producer, origin.number) {
            Verdict::Fresh => return Ok(None),
            Verdict::Duplicate => {}
            Verdict::Stale => {
                return Err(Refusal::new(
                    Code::STALE,
                    format!(
                        "publication {} is {window} or more behind this producer's newest: \
                         whether it was counted can no longer be told",
                        origin.number
                    ),
                ));
            }
        }
        let (places, looked) = topic.producers.find(origin.producer, origin.number);
        let mut entries = 0;
        let found = places.into_iter().flatten().rev().find_map(|at| {
            entries += 1;
            topic.log.get(at).filter(|entry| is(entry, origin)).map(|entry| (at, entry))
        });
        self.work += 1 + (looked + entries) / LOOKED;
        let mut receipt = Receipt { sequence: 0, count: 0, since: 0, digest, duplicate: true };
        if let Some((sequence, entry)) = found {
            receipt = Receipt {
                sequence,
                count: entry.count.count,
                since: entry.count.since,
                digest: entry.digest,
                duplicate: true,
            };
        }
        Ok(Some(receipt))
    }

    pub(crate) fn too_large(&self, size: usize) -> Refusal {
        Refusal::new(
            Code::PAYLOAD_TOO_LARGE,
            format!(
                "a payload of {size} bytes is above the daemon's limit of {} bytes (limits.payload)",
                self.limits.payload
            ),
        )
    }
}

fn is(entry: &Entry, origin: PublicationId) -> bool {
    entry.origin == Some(origin) && entry.body.is_complete()
}

/// The count that a payload has with one more publication, and what is known of it.
pub(super) fn count(
    topic: &mut Topic,
    (evicted_counts, dying): (&mut EvictedCounts, &mut VecDeque<Box<Topic>>),
    now: u64,
    digest: &Digest,
) -> (Count, Option<CachedPayload>) {
    let known = topic.known(digest);
    let count = known
        .as_ref()
        .map(|known| known.count)
        .or_else(|| evicted_counts.take(&Key::new(topic.key, digest)));
    // The topic may have been forgotten, and have begun again before all that it had is in the ledger.
    let count = if dying.is_empty() {
        count
    } else {
        let before = dying.iter_mut().rev().filter(|dying| dying.key == topic.key);
        before.fold(count, |count, dying| {
            let known = dying.bequeath(digest);
            count.or(known)
        })
    };
    let complete = evicted_counts.covers(topic.born);
    let count = match count {
        None if !complete => topic.top.find(digest),
        count => count,
    };
    let count = match count {
        Some(Count { count, since }) => Count { count: count + 1, since },
        None => Count { count: 1, since: if complete { 0 } else { now.max(1) } },
    };
    (count, known)
}

/// Remembers that a publication was accepted.
pub(super) fn accept(
    topic: &mut Topic,
    limits: &Limits,
    origin: Option<PublicationId>,
    sequence: u64,
    Count { count, since }: Count,
    digest: Digest,
) -> Receipt {
    let receipt = Receipt { sequence, count, since, digest, duplicate: false };
    let (window, most) = (u64::from(limits.window), limits.producers);
    match origin {
        Some(key) if key.is_key() => topic.keys.put(key.producer, receipt, most),
        Some(PublicationId { producer, number }) => {
            let accepted = Accepted { number, sequence, oldest: topic.log.first() };
            topic.producers.accept(producer, accepted, window, most);
        }
        None => {}
    }
    receipt
}
