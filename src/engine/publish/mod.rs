//! Publishing: accept once, count, cache, wake.

pub(crate) mod upload;

use super::Engine;
use super::ids::Slot;
use super::memory::evicted_counts::EvictedCounts;
use super::payload::{Parts, Payload};
use super::publication::{Publication, PublicationId, Receipt};
use super::record::{Change, Place, Total};
use super::topic::body::Body;
use super::topic::counts::Count;
use super::topic::log::Entry;
use super::topic::window::Verdict;
use super::topic::{CachedPayload, Topic};
use crate::wire::{
    Code, Digest, Refusal, check_readable_topic, check_topic, encode_message, is_reserved,
};
use std::collections::VecDeque;

/// Number of blocks and messages that are looked at in one unit of work: each takes some 10 ns.
const LOOKED: usize = 8;

impl Engine {
    /// Accepts a publication, once.
    ///
    /// # Errors
    ///
    /// The topic is malformed, the payload is above the limit, the number is below the window, or the
    /// topic's rule refuses it.
    pub fn publish(&mut self, now: u64, publication: &Publication<'_>) -> Result<Receipt, Refusal> {
        self.now = now;
        let Publication { topic, payload, .. } = *publication;
        self.may_accept()?;
        if payload.len() > self.limits.payload {
            return Err(self.too_large(payload.len()));
        }
        let slot = self.topic_for_publish(topic)?;
        self.publish_to(slot, now, publication)
    }

    // If a log decides, publications are proposed to it.
    fn may_accept(&self) -> Result<(), Refusal> {
        if self.follows_log() {
            let reason = "this daemon is one of several, which decide together: publish with \
                          Daemon::publish_kept";
            return Err(Refusal::new(Code::UNSUPPORTED, reason));
        }
        Ok(())
    }

    /// Publishes to one of the daemon's own topics, below `$weir`. It is a publication like any other.
    ///
    /// # Errors
    ///
    /// As of [`publish`](Self::publish).
    pub fn publish_own(
        &mut self,
        now: u64,
        publication: &Publication<'_>,
    ) -> Result<Receipt, Refusal> {
        self.now = now;
        let topic = publication.topic;
        check_readable_topic(topic).map_err(crate::wire::NameError::of_topic)?;
        if !self.has_own_position() {
            return Err(Refusal::new(
                Code::UNAVAILABLE,
                "the log that this daemon follows stands still",
            ));
        }
        let slot = match self.by_use.get(topic) {
            Some(slot) => *slot,
            None => self.create(topic),
        };
        self.publish_to(slot, now, publication)
    }

    fn publish_to(
        &mut self,
        slot: Slot,
        now: u64,
        publication: &Publication<'_>,
    ) -> Result<Receipt, Refusal> {
        let Publication { payload, digest, stamp, origin, .. } = *publication;
        if let Some(origin) = origin
            && let Some(receipt) = self.find_receipt(slot, origin, digest)?
        {
            self.figures.duplicates += 1;
            return Ok(receipt);
        }
        self.may_publish()?;
        self.may_publish_by_rule(now, slot, payload.len())?;
        self.note_published(slot, now, payload.len());
        self.position += 1;
        let place = Place { position: self.position, accepted: now, stamp, origin };
        Ok(self.accept(slot, &place, None, digest, payload))
    }

    /// Counts a message that is accepted, for the figures.
    pub(super) fn note_published(&mut self, slot: Slot, now: u64, size: usize) {
        self.work += 1;
        self.figures.messages += 1;
        self.figures.bytes += size as u64;
        if let Some(topic) = self.topics.get_mut(slot).and_then(Option::as_deref_mut) {
            topic.count_published(now, size);
        }
    }

    /// Appends a publication to its topic. Its count is the next one, if it is not given.
    pub(super) fn accept(
        &mut self,
        slot: Slot,
        place: &Place,
        given: Option<Count>,
        digest: Digest,
        payload: &Payload,
    ) -> Receipt {
        let Place { position, accepted, stamp, origin } = *place;
        let limits = self.limits;
        let tables = (&mut self.evicted_counts, &mut self.forgotten_topics);
        let Some(topic) = self.topics[slot].as_deref_mut() else {
            unreachable!("the tables of names point to topics");
        };
        let before = topic.cost();
        let (next, cached) = count(topic, tables, accepted, &digest);
        let count = given.unwrap_or(next);
        let sequence = topic.next_sequence();
        let body = match payload.parts() {
            Parts::Large(rope) => {
                let cached = cached.and_then(|cached| cached.rope(rope.len()));
                Body::Large { rope: cached.unwrap_or_else(|| rope.clone()), upload: 0 }
            }
            Parts::Small(payload) => {
                let body = cached.as_ref().map_or(payload, |cached| cached.body(payload));
                Body::Small(encode_message(topic.id(), sequence, count.count, stamp, body))
            }
        };
        self.records.push(|| {
            let Count { count, since } = count;
            let total = Total { digest, count, since };
            topic.record(sequence, Change::Published { place: *place, total, payload: body.kept() })
        });
        let cost = 0;
        let entry = Entry { position, accepted, origin, stamp, count, digest, body, cost };
        topic.push(entry);
        let receipt = topic.accept(&limits, origin, sequence, count, digest);
        self.settle(slot, before);
        self.make_room(slot);
        self.drop_some(slot);
        self.wake_for_message(slot, position);
        receipt
    }

    // Returns the topic that is published to, and creates it if it is new.
    pub(super) fn topic_for_publish(&mut self, topic: &str) -> Result<Slot, Refusal> {
        // The daemon's own topics may be there.
        if !is_reserved(topic)
            && let Some(slot) = self.by_use.get(topic)
        {
            return Ok(*slot);
        }
        check_topic(topic).map_err(crate::wire::NameError::of_topic)?;
        Ok(self.create(topic))
    }

    // Returns the receipt of a publication that was accepted before.
    pub(super) fn find_receipt(
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
            let receipt = topic.receipt_of_key(origin.producer);
            return Ok(receipt.map(|receipt| Receipt { duplicate: true, ..receipt }));
        }
        match topic.judge(origin) {
            Verdict::Fresh => return Ok(None),
            Verdict::Duplicate => {}
            Verdict::Stale => return Err(stale(origin.number, window)),
        }
        let (sequences, looked) = topic.sequences_of(origin);
        let mut entries = 0;
        let found = sequences.into_iter().flatten().rev().find_map(|at| {
            entries += 1;
            topic.entry(at).filter(|entry| is(entry, origin)).map(|entry| (at, entry))
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

    // Refuses a publication that the topic's rule does not allow. It is called once for each, because
    // it takes a token.
    pub(super) fn may_publish_by_rule(
        &mut self,
        now: u64,
        slot: Slot,
        size: usize,
    ) -> Result<(), Refusal> {
        let Some(topic) = self.topics[slot].as_deref_mut() else {
            return Ok(());
        };
        let rule = topic.rule();
        if let Some(most) = rule.payload().filter(|most| size > *most) {
            let reason = format!(
                "a payload of {size} bytes is above the limit of {} of {most} bytes (topics.payload)",
                topic.name()
            );
            return Err(Refusal::new(Code::PAYLOAD_TOO_LARGE, reason));
        }
        if let Some(rate) = rule.rate.filter(|rate| !topic.tokens_mut().take(now, *rate)) {
            let reason = format!(
                "{} takes {rate} messages a second from all publishers together (topics.rate): \
                 publish it again later",
                topic.name()
            );
            return Err(Refusal::new(Code::RATE_LIMITED, reason));
        }
        Ok(())
    }

    /// Returns the largest payload that a topic takes, bytes.
    pub(super) fn largest_payload(&self, topic: &str) -> usize {
        let rule = match self.slot(topic).and_then(|slot| self.topic(slot)) {
            Some(topic) => topic.rule(),
            None => self.rules.of(topic),
        };
        rule.payload().map_or(self.limits.payload, |most| most.min(self.limits.payload))
    }

    pub(super) fn too_large(&self, size: usize) -> Refusal {
        Refusal::new(
            Code::PAYLOAD_TOO_LARGE,
            format!(
                "a payload of {size} bytes is above the daemon's limit of {} bytes (limits.payload)",
                self.limits.payload
            ),
        )
    }
}

pub(super) fn stale(number: u64, window: u32) -> Refusal {
    Refusal::new(
        Code::STALE,
        format!(
            "publication {number} is {window} or more behind this producer's newest: whether it was \
             counted can no longer be told"
        ),
    )
}

fn is(entry: &Entry, origin: PublicationId) -> bool {
    entry.origin == Some(origin) && entry.body.is_complete()
}

/// Returns the count of a payload with one more publication, and the payload if it is cached.
pub(super) fn count(
    topic: &mut Topic,
    (evicted_counts, forgotten): (&mut EvictedCounts, &mut VecDeque<Box<Topic>>),
    now: u64,
    digest: &Digest,
) -> (Count, Option<CachedPayload>) {
    let cached = topic.cached_payload(digest);
    let count = cached
        .as_ref()
        .map(|cached| cached.count)
        .or_else(|| evicted_counts.take(&topic.payload_key(digest)));
    // The topic may have been forgotten and created again before all its counts were moved to the
    // evicted ones.
    let count = if forgotten.is_empty() {
        count
    } else {
        let before = forgotten.iter_mut().rev().filter(|before| before.has_name_of(topic));
        before.fold(count, |count, before| {
            let taken = before.take_count(digest);
            count.or(taken)
        })
    };
    let complete = evicted_counts.covers(topic.created_at());
    let count = match count {
        None if !complete => topic.top_count(digest),
        count => count,
    };
    let count = match count {
        Some(Count { count, since }) => Count { count: count.saturating_add(1), since },
        None => Count { count: 1, since: if complete { 0 } else { now.max(1) } },
    };
    (count, cached)
}
