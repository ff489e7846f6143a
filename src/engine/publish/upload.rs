//! A publication that is relayed while it arrives: begin, append, end, or abort.
//!
//! Its sequence and its position are given when it begins, so that whoever stands at the head gets
//! it at once. It is accepted (counted, cached, its number taken) when it ends. Until then nothing
//! finds it that does not stand before it in the log; and when it is aborted, its place stays, as a
//! gap.

use super::{accept, count};
use crate::engine::topic::body::{Arriving, Body, Waiting};
use crate::engine::topic::counts::Count;
use crate::engine::topic::log::{Entry, PublicationId};
use crate::engine::{Engine, Receipt, Slot};
use crate::wire::{Code, Digest, Refusal};
use bytes::Bytes;
use std::sync::Arc;

/// What a publisher says before it sends a payload.
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

/// A publication that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UploadId {
    topic: u64,
    sequence: u64,
}

/// What became of an [`UploadRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginOutcome {
    /// It arrives.
    Arriving(UploadId),
    /// It was accepted before. If the message has left the cache, the digest is all zeros.
    Duplicate(Receipt),
}

/// A publication will not be completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadError {
    /// Its producer has begun it again, on another session perhaps: that one is answered.
    Superseded,
    /// Tell the publisher.
    Refused(Refusal),
}

impl Engine {
    /// Begins a publication of a large payload; smaller ones are [published](Self::publish). Refused
    /// are bad topics, payloads above the limit and numbers out of the window.
    pub fn begin(
        &mut self,
        now: u64,
        opening: &UploadRequest<'_>,
    ) -> Result<BeginOutcome, Refusal> {
        let UploadRequest { topic, size, stamp, origin } = *opening;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > self.limits.payload {
            return Err(self.too_large(size));
        }
        let slot = self.published_to(topic)?;
        if let Some(origin) = origin {
            if let Some(receipt) = self.seen(slot, origin, Digest([0; 32]))? {
                return Ok(BeginOutcome::Duplicate(receipt));
            }
            // Under a key, whichever is complete first is the one: all get its receipt.
            if !origin.is_key() {
                self.supersede(slot, origin);
            }
        }
        self.position += 1;
        self.work += 1;
        let position = self.position;
        let entry = Entry {
            position,
            accepted: now,
            origin,
            stamp,
            count: Count { count: 0, since: 0 },
            digest: Digest([0; 32]),
            body: Body::Arriving(Box::new(Arriving::new(size))),
            cost: 0,
        };
        let upload = self.change(slot, |topic| {
            let upload = UploadId { topic: topic.id, sequence: topic.log.next() };
            topic.push_arriving(entry);
            upload
        });
        self.make_room(slot);
        self.stir(slot, position);
        upload.map(BeginOutcome::Arriving).ok_or_else(gone)
    }

    // Whoever begins a publication again has given up the first attempt, and may be the only one
    // to know it.
    fn supersede(&mut self, slot: Slot, origin: PublicationId) {
        let before = self.topic(slot).and_then(|topic| topic.begun(&origin));
        if let Some(sequence) = before {
            self.abort_entry(slot, sequence, true);
        }
    }

    /// Takes the next bytes of a payload, a [`CHUNK`](crate::wire::CHUNK) at most, and wakes whoever
    /// has had all before. What is refused has been aborted.
    pub fn append(&mut self, upload: UploadId, chunk: Bytes) -> Result<(), UploadError> {
        let slot = self.arriving(upload)?;
        let appended = self.change(slot, |topic| {
            topic.arrive(upload.sequence, |entry| {
                let arriving = entry.body.arriving()?;
                if chunk.is_empty() || arriving.rope.len() + chunk.len() > arriving.size {
                    return None;
                }
                arriving.rope.push(chunk);
                Some([std::mem::take(&mut arriving.waiting)])
            })
        });
        let Some(waiting) = appended.flatten().flatten() else {
            self.abort_entry(slot, upload.sequence, false);
            return Err(UploadError::Refused(malformed(
                "more of a payload than its begin had said",
            )));
        };
        self.rouse_all(slot, waiting);
        if let Some(name) = self.topic(slot).map(|topic| topic.name.clone()) {
            // It is in use.
            self.by_use.promote(&name);
        }
        self.make_room(slot);
        self.arriving(upload).map(drop)
    }

    /// The payload is complete: accepts the publication, once. What is refused has been aborted, and
    /// so has what was accepted meanwhile by another way, whose receipt is given then.
    pub fn end(
        &mut self,
        now: u64,
        upload: UploadId,
        digest: Digest,
    ) -> Result<Receipt, UploadError> {
        let slot = self.arriving(upload)?;
        let sequence = upload.sequence;
        let entry = self.topic(slot).and_then(|topic| topic.log.get(sequence));
        let origin = entry.and_then(|entry| entry.origin);
        let whole = entry.is_some_and(|entry| {
            entry.body.rope().is_some_and(|rope| rope.len() == entry.body.size())
        });
        let seen = match origin {
            _ if !whole => Err(malformed("less of a payload than its begin had said")),
            Some(origin) => self.seen(slot, origin, digest),
            None => Ok(None),
        };
        match seen {
            Ok(None) => {}
            Ok(Some(receipt)) => {
                self.abort_entry(slot, sequence, false);
                return Ok(receipt);
            }
            Err(refusal) => {
                self.abort_entry(slot, sequence, false);
                return Err(UploadError::Refused(refusal));
            }
        }
        self.uploads += 1;
        let upload = self.uploads;
        let (limits, tables) = (self.limits, (&mut self.evicted_counts, &mut self.dying));
        let Some(topic) = self.topics[slot].as_deref_mut() else {
            return Err(UploadError::Refused(gone()));
        };
        let before = topic.cost();
        let (count, known) = count(topic, tables, now, &digest);
        let arrived = topic.arrive(sequence, |entry| {
            let arriving = entry.body.arriving()?;
            let waiting = arriving.take_all();
            let rope = known.and_then(|known| known.rope(arriving.size));
            let rope = rope.unwrap_or_else(|| Arc::new(std::mem::take(&mut arriving.rope)));
            let body = Body::Large { rope, upload };
            (entry.count, entry.digest, entry.body) = (count, digest, body);
            Some(waiting)
        });
        topic.complete(sequence);
        let receipt = accept(topic, &limits, origin, sequence, count, digest);
        self.work += 1;
        self.settle(slot, before);
        if let Some(waiting) = arrived.flatten() {
            self.rouse_all(slot, waiting);
        }
        self.make_room(slot);
        Ok(receipt)
    }

    fn rouse_all(&mut self, slot: Slot, waiting: impl IntoIterator<Item = Waiting>) {
        for waiting in waiting {
            self.work += self.rouse(slot, waiting);
        }
    }

    /// Gives a publication up that arrives; one that does not any more is left alone.
    pub fn abort(&mut self, upload: UploadId) {
        if let Ok(slot) = self.arriving(upload) {
            self.abort_entry(slot, upload.sequence, false);
        }
    }

    fn abort_entry(&mut self, slot: Slot, sequence: u64, superseded: bool) {
        let aborted = self.change(slot, |topic| {
            topic.arrive(sequence, |entry| {
                let waiting = entry.body.arriving()?.take_all();
                (entry.origin, entry.body) = (None, Body::Aborted { superseded });
                Some(waiting)
            })
        });
        if let Some(waiting) = aborted.flatten().flatten() {
            self.rouse_all(slot, waiting);
        }
    }

    // Where it arrives.
    fn arriving(&self, upload: UploadId) -> Result<Slot, UploadError> {
        let slot = self.by_id.get(&upload.topic).copied();
        let entry = slot.and_then(|slot| self.topic(slot)?.log.get(upload.sequence));
        match (slot, entry.map(|entry| &entry.body)) {
            (Some(slot), Some(Body::Arriving(_))) => Ok(slot),
            (_, Some(Body::Aborted { superseded: true })) => Err(UploadError::Superseded),
            _ => Err(UploadError::Refused(gone())),
        }
    }
}

fn gone() -> Refusal {
    Refusal::new(
        Code::OVERLOADED,
        "the cache had no room for the rest of the payload: publish it again later",
    )
}

fn malformed(reason: &'static str) -> Refusal {
    Refusal::new(Code::MALFORMED, reason)
}
