//! Uploads: publications that are relayed while they arrive. Begin, append, end, or abort.
//!
//! An upload takes its sequence and position when it begins, so that subscriptions at the head
//! receive it at once. It is accepted (counted, cached, its number taken) when it ends. Until then
//! it is only in the log, and look-ups do not find it. An aborted upload keeps its slot in the log,
//! as a gap.

use super::count;
use crate::engine::Engine;
use crate::engine::ids::{Slot, UploadId};
use crate::engine::publication::{PublicationId, Receipt};
use crate::engine::record::{Change, Place, Record, Total};
use crate::engine::topic::Topic;
use crate::engine::topic::body::{Arriving, Body, Waiters};
use crate::engine::topic::counts::Count;
use crate::engine::topic::log::Entry;
use crate::wire::{Code, Digest, Refusal};
use bytes::Bytes;
use std::sync::Arc;

/// The fields that a publisher sends before the payload.
#[derive(Debug, Clone, Copy)]
pub struct UploadRequest<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Length of the payload, bytes.
    pub size: u64,
    /// The publisher's clock, µs since 1970; 0 is none.
    pub stamp: u64,
    /// As in [`Publication`](crate::engine::Publication).
    pub origin: Option<PublicationId>,
}

/// The outcome of an [`UploadRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginOutcome {
    /// The upload has begun.
    Arriving(UploadId),
    /// The publication was accepted before. If the message has left the cache, the digest is all
    /// zeros.
    Duplicate(Receipt),
}

/// An upload was aborted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// Its producer has begun it again, perhaps in another session. That upload is answered.
    #[error("the producer has begun the upload again")]
    Superseded,
    /// Tell the publisher.
    #[error("{0}")]
    Refused(#[source] Refusal),
}

impl Engine {
    /// Begins the upload of a large payload; smaller ones are [published](Self::publish).
    ///
    /// # Errors
    ///
    /// The topic is malformed, the payload is above the limit, the number is below the window, or the
    /// topic's rule refuses it.
    pub fn begin(
        &mut self,
        now: u64,
        request: &UploadRequest<'_>,
    ) -> Result<BeginOutcome, Refusal> {
        if self.follows_log() {
            return self.propose_begin(now, request);
        }
        self.now = now;
        let UploadRequest { topic, size, stamp, origin } = *request;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > self.limits.payload {
            return Err(self.too_large(size));
        }
        let slot = self.topic_for_publish(topic)?;
        if let Some(origin) = origin {
            if let Some(receipt) = self.find_receipt(slot, origin, Digest([0; 32]))? {
                self.figures.duplicates += 1;
                return Ok(BeginOutcome::Duplicate(receipt));
            }
            // Uploads under one key arrive side by side. The first that is complete is accepted, and
            // all of them get its receipt.
            if !origin.is_key() {
                self.supersede(slot, origin);
            }
        }
        self.may_publish()?;
        self.may_publish_by_rule(now, slot, size)?;
        self.position += 1;
        self.work += 1;
        let place = Place { position: self.position, accepted: now, stamp, origin };
        let upload = self.arrive(slot, &place, size);
        upload.map(BeginOutcome::Arriving).ok_or_else(evicted)
    }

    /// Appends a message that begins to arrive.
    pub(in crate::engine) fn arrive(
        &mut self,
        slot: Slot,
        place: &Place,
        size: usize,
    ) -> Option<UploadId> {
        let Place { position, accepted, stamp, origin } = *place;
        let arriving = Box::new(Arriving::new(size));
        let entry = Entry {
            position,
            accepted,
            origin,
            stamp,
            count: Count { count: 0, since: 0 },
            digest: Digest([0; 32]),
            body: Body::Arriving(arriving),
            cost: 0,
        };
        let upload = self.change(slot, |topic| {
            let upload = UploadId { topic: topic.id(), sequence: topic.next_sequence() };
            topic.push_arriving(entry);
            upload
        });
        self.record(slot, |topic| {
            let change = Change::Begun { place: *place, size: size as u64 };
            topic.record(topic.next_sequence() - 1, change)
        });
        self.make_room(slot);
        self.drop_some(slot);
        self.wake_for_message(slot, position);
        upload
    }

    fn record(&mut self, slot: Slot, record: impl FnOnce(&Topic) -> Record) {
        if let Some(topic) = self.topics.get(slot).and_then(Option::as_deref) {
            self.records.push(|| record(topic));
        }
    }

    // A producer that begins a publication again has abandoned its first attempt. The daemon may not
    // have noticed that yet.
    fn supersede(&mut self, slot: Slot, origin: PublicationId) {
        let before = self.topic(slot).and_then(|topic| topic.begun(&origin));
        if let Some(sequence) = before {
            self.abort_entry(slot, sequence, true);
        }
    }

    /// Appends the next bytes of a payload, at most a [`CHUNK`](crate::wire::CHUNK), and wakes the
    /// subscriptions that have received all bytes before them.
    ///
    /// # Errors
    ///
    /// The upload was aborted: its bytes are more than it had announced, the cache had no room for
    /// them, or publications are [refused](Self::refuse_publications).
    pub fn append(&mut self, upload: UploadId, chunk: Bytes) -> Result<(), UploadError> {
        if upload.is_proposed() {
            return self.propose_chunk(upload, chunk);
        }
        let slot = self.slot_of_upload(upload)?;
        if let Err(refusal) = self.may_publish() {
            // Its bytes would wait for the journal, beside those of all others that have begun.
            self.abort_entry(slot, upload.sequence, false);
            return Err(UploadError::Refused(refusal));
        }
        self.append_chunk(slot, upload, chunk)
    }

    /// The same, whether or not publications are refused.
    pub(in crate::engine) fn append_chunk(
        &mut self,
        slot: Slot,
        upload: UploadId,
        chunk: Bytes,
    ) -> Result<(), UploadError> {
        let bytes = chunk.clone();
        let appended = self.change(slot, |topic| {
            topic.change_arriving(upload.sequence, |entry| {
                let arriving = entry.body.arriving_mut()?;
                let offset = arriving.rope.len();
                if chunk.is_empty() || offset + chunk.len() > arriving.size {
                    return None;
                }
                arriving.rope.push(chunk);
                Some((offset as u64, [std::mem::take(&mut arriving.chunk_waiters)]))
            })
        });
        let Some((offset, waiters)) = appended.flatten().flatten() else {
            self.abort_entry(slot, upload.sequence, false);
            return Err(UploadError::Refused(malformed(
                "more of a payload than its begin had announced",
            )));
        };
        self.record(slot, |topic| topic.record(upload.sequence, Change::Chunk { offset, bytes }));
        self.wake_lists(slot, waiters);
        if let Some(name) = self.topic(slot).map(|topic| topic.name().clone()) {
            // The topic is in use.
            self.by_use.promote(&name);
        }
        self.make_room(slot);
        self.slot_of_upload(upload).map(drop)
    }

    /// Ends an upload whose payload is complete: accepts the publication, once. If it was accepted
    /// in another way meanwhile, returns the receipt of that, and aborts the upload.
    ///
    /// # Errors
    ///
    /// The upload was aborted: its bytes are fewer than it had announced, or the cache had no room
    /// for it. One that is [proposed](UploadId::is_proposed) ends with
    /// [`propose_end`](Self::propose_end).
    pub fn end(
        &mut self,
        now: u64,
        upload: UploadId,
        digest: Digest,
    ) -> Result<Receipt, UploadError> {
        self.now = now;
        let slot = self.slot_of_upload(upload)?;
        let sequence = upload.sequence;
        let entry = self.topic(slot).and_then(|topic| topic.entry(sequence));
        let origin = entry.and_then(|entry| entry.origin);
        let size = entry.map_or(0, |entry| entry.body.size());
        let complete = entry.is_some_and(|entry| {
            entry.body.rope().is_some_and(|rope| rope.len() == entry.body.size())
        });
        let before = match origin {
            _ if !complete => Err(malformed("less of a payload than its begin had announced")),
            Some(origin) => self.find_receipt(slot, origin, digest),
            None => Ok(None),
        };
        let before = match before {
            Ok(None) => self.may_publish().map(|()| None),
            before => before,
        };
        match before {
            Ok(None) => {}
            Ok(Some(receipt)) => {
                self.figures.duplicates += 1;
                self.abort_entry(slot, sequence, false);
                return Ok(receipt);
            }
            Err(refusal) => {
                self.abort_entry(slot, sequence, false);
                return Err(UploadError::Refused(refusal));
            }
        }
        let receipt = self
            .complete(now, slot, sequence, digest, None)
            .ok_or_else(|| UploadError::Refused(evicted()))?;
        self.note_published(slot, now, size);
        Ok(receipt)
    }

    /// Accepts a message that has arrived. Its count is the next one, if it is not given.
    pub(in crate::engine) fn complete(
        &mut self,
        now: u64,
        slot: Slot,
        sequence: u64,
        digest: Digest,
        given: Option<Count>,
    ) -> Option<Receipt> {
        self.completed_uploads += 1;
        let upload = self.completed_uploads;
        let limits = self.limits;
        let tables = (&mut self.evicted_counts, &mut self.forgotten_topics);
        let topic = self.topics.get_mut(slot).and_then(Option::as_deref_mut)?;
        let cost = topic.cost();
        let entry = topic.entry(sequence);
        let origin = entry.and_then(|entry| entry.origin);
        let size = entry.map_or(0, |entry| entry.body.size() as u64);
        let (next, cached) = count(topic, tables, now, &digest);
        let count = given.unwrap_or(next);
        let waiters = topic.change_arriving(sequence, |entry| {
            let arriving = entry.body.arriving_mut()?;
            let waiters = arriving.take_waiters();
            let rope = cached.and_then(|cached| cached.rope(arriving.size));
            let rope = rope.unwrap_or_else(|| Arc::new(std::mem::take(&mut arriving.rope)));
            let body = Body::Large { rope, upload };
            (entry.count, entry.digest, entry.body) = (count, digest, body);
            entry.accepted = now;
            Some(waiters)
        });
        topic.complete(sequence);
        let receipt = topic.accept(&limits, origin, sequence, count, digest);
        self.records.push(|| {
            let Count { count, since } = count;
            let total = Total { digest, count, since };
            topic.record(sequence, Change::Ended { now, origin, total, size })
        });
        self.work += 1;
        self.settle(slot, cost);
        if let Some(waiters) = waiters.flatten() {
            self.wake_lists(slot, waiters);
        }
        self.make_room(slot);
        self.drop_some(slot);
        Some(receipt)
    }

    fn wake_lists(&mut self, slot: Slot, lists: impl IntoIterator<Item = Waiters>) {
        for waiters in lists {
            self.work += self.wake_waiters(slot, waiters);
        }
    }

    /// Aborts an upload. One that has ended is left alone.
    pub fn abort(&mut self, upload: UploadId) {
        if upload.is_proposed() {
            return self.propose_abort(upload);
        }
        if let Ok(slot) = self.slot_of_upload(upload) {
            self.abort_entry(slot, upload.sequence, false);
        }
    }

    pub(in crate::engine) fn abort_entry(&mut self, slot: Slot, sequence: u64, superseded: bool) {
        let aborted = self.change(slot, |topic| {
            topic.change_arriving(sequence, |entry| {
                let waiters = entry.body.arriving_mut()?.take_waiters();
                (entry.origin, entry.body) = (None, Body::Aborted { superseded });
                Some(waiters)
            })
        });
        if let Some(waiters) = aborted.flatten().flatten() {
            self.figures.aborted += 1;
            self.record(slot, |topic| topic.record(sequence, Change::Aborted));
            self.wake_lists(slot, waiters);
        }
    }

    /// Returns the topic of an upload that still arrives.
    pub(in crate::engine) fn slot_of_upload(&self, upload: UploadId) -> Result<Slot, UploadError> {
        let slot = self.by_id.get(&upload.topic).copied();
        let entry = slot.and_then(|slot| self.topic(slot)?.entry(upload.sequence));
        match (slot, entry.map(|entry| &entry.body)) {
            (Some(slot), Some(Body::Arriving(_))) => Ok(slot),
            (_, Some(Body::Aborted { superseded: true })) => Err(UploadError::Superseded),
            _ => Err(UploadError::Refused(evicted())),
        }
    }
}

fn evicted() -> Refusal {
    Refusal::new(
        Code::OVERLOADED,
        "the cache had no room for the rest of the payload: publish it again later",
    )
}

fn malformed(reason: &'static str) -> Refusal {
    Refusal::new(Code::MALFORMED, reason)
}
