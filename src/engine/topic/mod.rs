//! One topic: its log, the payloads that the log points to, its producers and highest counts.

pub(crate) mod after;
#[cfg(any(test, fuzzing))]
mod audit;
pub(crate) mod body;
pub(crate) mod counts;
mod evict;
pub(crate) mod idempotency_keys;
mod latest;
pub(crate) mod log;
mod lookup;
mod marks;
mod payload_index;
pub(crate) mod payload_key;
mod payloads;
mod producer_places;
pub(crate) mod producers;
mod rate;
pub(crate) mod recent;
mod retained;
pub(crate) mod retention;
mod saved;
mod upload;
pub(crate) mod window;

pub(super) use evict::Evicted;
pub(super) use payloads::CachedPayload;

use super::cost::TOPIC_COST;
use super::limits::Limits;
use super::publication::{PublicationId, Receipt};
use super::record::{Change, Record};
use super::runs::TopicPast;
use crate::wire::{Digest, ProducerId};
use body::Arriving;
use counts::{Count, Ranked, Top};
use idempotency_keys::KeyedReceipts;
use log::{Entry, Log, SLOT_COST};
use lookup::LookedUp;
use marks::Marks;
use payload_index::PayloadIndex;
use payload_key::PayloadKey;
use producers::{Accepted, Producers};
use rate::Rate;
use retained::Retention;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use window::Verdict;

/// Number of aborted messages above the newest one that are not evictable. Beyond it they are, so
/// that a publisher that keeps aborting cannot pin memory.
const ABORTED: u64 = 64;

/// Bytes of log slots that an arriving message may pin at least, however little of it has arrived:
/// 256 KiB.
const PINNED: usize = 256 << 10;

/// A newest message above this size, 1 MiB, may be evicted for other topics.
const BIG: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Topic {
    name: Arc<str>,
    id: u64,
    past: TopicPast,
    epoch: u64,
    // A secret hash of the name, for the keys of payloads.
    key: u64,
    // The engine's position when the topic was created.
    created_at: u64,
    log: Log,
    producers: Producers,
    keys: KeyedReceipts,
    top: Top,
    // The newest publication of each payload in the cache. Their LRU has no list of its own. Its
    // order is that of the log, and of the look-ups by their numbers.
    payloads: PayloadIndex,
    // Look-ups by number, and the number of the newest look-up of a sequence.
    looked_up: BTreeMap<u64, LookedUp>,
    lookups: BTreeMap<u64, u64>,
    last_lookup: u64,
    // Counts of payloads whose newest publication was not the last one to complete, by the sequence
    // of the newest.
    overtaken: BTreeMap<u64, Count>,
    // The newest message that is complete, 0 for none, and those that arrive, in order. They may
    // have left the log.
    latest: u64,
    arriving: BTreeSet<u64>,
    // Bytes charged for the arriving messages, and their sequences by producer's number. No hash
    // table: one that grows would block all callers.
    arriving_bytes: usize,
    begun: BTreeMap<PublicationId, u64>,
    // While the oldest message arrives, complete messages below this sequence are evicted already.
    evicted_below: u64,
    // The beginnings of messages that have left the log and that some subscription has not received.
    marks: Marks,
    retention: Retention,
    rate: Rate,
    // Index in the heap of shares. Of a topic that was forgotten, the slot that it had.
    share: usize,
    // Cost of the log, and of payloads that are kept because they were looked up.
    bytes: usize,
    // Messages in the log when the engine counted them last.
    counted: u64,
}

impl Topic {
    pub(crate) fn new(name: Arc<str>, id: u64, epoch: u64, key: u64, created_at: u64) -> Self {
        Self {
            name,
            id,
            past: TopicPast::new(id),
            epoch,
            key,
            created_at,
            log: Log::new(),
            producers: Producers::new(),
            keys: KeyedReceipts::default(),
            top: Top::default(),
            payloads: PayloadIndex::default(),
            looked_up: BTreeMap::new(),
            lookups: BTreeMap::new(),
            last_lookup: 0,
            overtaken: BTreeMap::new(),
            latest: 0,
            arriving: BTreeSet::new(),
            arriving_bytes: 0,
            begun: BTreeMap::new(),
            evicted_below: 0,
            marks: Marks::default(),
            retention: Retention::new(),
            rate: Rate::default(),
            share: 0,
            bytes: 0,
            counted: 0,
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the daemon-wide id.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Returns the topic in the earlier runs.
    pub(crate) fn past(&self) -> &TopicPast {
        &self.past
    }

    pub(crate) fn past_mut(&mut self) -> &mut TopicPast {
        &mut self.past
    }

    /// Notes that a run has ended: what was arriving is not kept.
    pub(crate) fn end_run(&mut self, run: u64) {
        let next = self.arriving.first().copied().unwrap_or(self.log.next());
        self.past.end(run, next.min(self.log.next()));
    }

    /// Returns the record of a change.
    pub(crate) fn record(&self, sequence: u64, change: Change) -> Record {
        Record { topic: self.id, name: self.name.clone(), sequence, change }
    }

    /// Returns the engine's position when the topic was created.
    pub(crate) fn created_at(&self) -> u64 {
        self.created_at
    }

    /// Returns the index in the heap of shares. Of a topic that was forgotten, it is the slot that
    /// the topic had.
    pub(crate) fn share(&self) -> usize {
        self.share
    }

    pub(crate) fn set_share(&mut self, share: usize) {
        self.share = share;
    }

    /// Returns the sequence of the oldest message in the log.
    pub(crate) fn first_sequence(&self) -> u64 {
        self.log.first()
    }

    /// Returns the sequence that the next message will have.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.log.next()
    }

    /// Returns the number of messages in the log.
    pub(crate) fn messages(&self) -> u64 {
        self.log.len()
    }

    /// Returns the number of messages at the last call, and notes the number of now.
    pub(crate) fn count_messages(&mut self) -> u64 {
        std::mem::replace(&mut self.counted, self.log.len())
    }

    /// Counts a message that a publisher has sent, for [`per_second`](Self::per_second).
    pub(crate) fn count_published(&mut self, now: u64, bytes: usize) {
        self.rate.add(now, bytes);
    }

    /// Returns the messages and bytes that are published per second.
    pub(crate) fn per_second(&self, now: u64) -> (f64, f64) {
        self.rate.per_second(now)
    }

    /// Returns the number of distinct payloads in the cache.
    pub(crate) fn distinct_payloads(&self) -> usize {
        self.payloads.len()
    }

    /// Returns the position of the last message, which may have left the log; 0 is none.
    pub(crate) fn last_position(&self) -> u64 {
        self.log.last_position()
    }

    /// Returns the position of the message before a sequence; 0 if there is none.
    pub(crate) fn position_before(&self, sequence: u64) -> u64 {
        let before = self.log.get(sequence - 1);
        before.map_or(self.log.evicted_through(), |entry| entry.position)
    }

    /// Returns a message in the log.
    pub(crate) fn entry(&self, sequence: u64) -> Option<&Entry> {
        self.log.get(sequence)
    }

    /// Returns a message in the log, if it still arrives.
    pub(crate) fn arriving_mut(&mut self, sequence: u64) -> Option<&mut Arriving> {
        self.log.get_mut(sequence)?.body.arriving_mut()
    }

    pub(crate) fn has_arriving(&self) -> bool {
        !self.arriving.is_empty()
    }

    /// Returns the bytes charged for the whole topic.
    pub(crate) fn cost(&self) -> usize {
        let memory = self.producers.cost() + self.keys.cost();
        let memory = memory + self.marks.cost() + self.past.cost();
        TOPIC_COST + self.bytes + self.log.slack() + memory + self.top.cost()
    }

    /// Returns whether it has no messages and no payloads.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Returns whether it holds nothing but its newest message.
    pub(crate) fn is_one(&self) -> bool {
        self.log.len() <= 1 && self.looked_up.values().all(|looked_up| looked_up.kept.is_none())
    }

    /// Returns the bytes that eviction may take here while other topics need room; and, if the
    /// newest message is big, its cost and position.
    ///
    /// The newest message is not evictable: a quiet topic keeps it for as long as other topics have
    /// more. Messages that arrive are not, because their publishers would have to begin again. Log
    /// slots that those pin are not, up to a limit.
    pub(crate) fn evictable(&self) -> (usize, Option<(usize, u64)>) {
        let newest = self.newest();
        let above = (self.log.next() - newest).saturating_sub(1);
        let mut bytes = self.bytes - self.arriving_bytes;
        let entry = self.log.get(newest);
        if above <= ABORTED
            && let Some(entry) = entry
        {
            let own = if entry.body.is_complete() { entry.cost } else { 0 };
            bytes = bytes.saturating_sub(own + above as usize * SLOT_COST);
        }
        if let Some(first) = self.arriving.first() {
            let slots = (self.log.next() - first) as usize;
            let pinned = slots.saturating_sub(self.arriving.len()) * SLOT_COST;
            if pinned <= self.arriving_bytes.max(PINNED) {
                bytes = bytes.saturating_sub(pinned);
            }
        }
        let big = entry.filter(|entry| entry.cost > BIG);
        (bytes, big.map(|entry| (entry.cost, entry.position)))
    }

    /// Returns the secret key of a payload in the tables of counts.
    pub(crate) fn payload_key(&self, digest: &Digest) -> PayloadKey {
        PayloadKey::new(self.key, digest)
    }

    /// Returns whether two topics have one name.
    pub(crate) fn has_name_of(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// Appends a message that is complete.
    pub(crate) fn push(&mut self, mut entry: Entry) {
        let sequence = self.log.next();
        entry.cost = self.enter(sequence, &entry);
        self.bytes += entry.cost;
        self.retention.completed(sequence, entry.body.size());
        self.log.push(entry);
        self.keep_newest();
    }

    /// Returns the most counted payloads, highest count first.
    pub(crate) fn top(&self) -> impl DoubleEndedIterator<Item = &Ranked> {
        self.top.iter()
    }

    /// Returns the count of a payload, if it is one of the most counted.
    pub(crate) fn top_count(&self, digest: &Digest) -> Option<Count> {
        self.top.find(digest)
    }

    /// Returns whether the topic has accepted a number of a producer.
    pub(crate) fn judge(&mut self, id: PublicationId) -> Verdict {
        self.producers.judge(id.producer, id.number)
    }

    /// Forgets the producer of a number that was accepted before: the engine that made a record of
    /// it had forgotten it.
    pub(crate) fn renew_producer(&mut self, origin: Option<PublicationId>) {
        let numbered = origin.filter(|origin| !origin.is_key());
        if let Some(PublicationId { producer, number }) = numbered
            && self.producers.judge(producer, number) != Verdict::Fresh
        {
            self.producers.remove(producer);
        }
    }

    /// Returns the receipt of an idempotency key.
    pub(crate) fn receipt_of_key(&mut self, key: ProducerId) -> Option<Receipt> {
        self.keys.get(key)
    }

    /// Returns which numbers of a producer were accepted: see [`Producers::accepted`].
    pub(crate) fn accepted(&self, producer: ProducerId) -> Option<(u64, u64)> {
        self.producers.accepted(producer)
    }

    /// Returns the sequences among which an accepted number is: see [`Producers::find`].
    pub(crate) fn sequences_of(&self, id: PublicationId) -> (Option<RangeInclusive<u64>>, usize) {
        self.producers.find(id.producer, id.number)
    }

    /// Remembers that a publication was accepted, and returns its receipt.
    pub(crate) fn accept(
        &mut self,
        limits: &Limits,
        origin: Option<PublicationId>,
        sequence: u64,
        Count { count, since }: Count,
        digest: Digest,
    ) -> Receipt {
        let receipt = Receipt { sequence, count, since, digest, duplicate: false };
        let (window, most) = (u64::from(limits.window), limits.producers);
        match origin {
            Some(key) if key.is_key() => self.keys.put(key.producer, receipt, most),
            Some(PublicationId { producer, number }) => {
                let accepted = Accepted { number, sequence, oldest: self.log.first() };
                self.producers.accept(producer, accepted, window, most);
            }
            None => {}
        }
        receipt
    }
}
