//! Applying what a sequencer has decided.

use super::entry::{AbortedUpload, Decision, LogChange, LogEntry, LogPlace, Ordered};
use crate::engine::Engine;
use crate::engine::ids::{Slot, UploadId};
use crate::engine::publication::{PublicationId, Receipt};
use crate::engine::publish::{count, stale};
use crate::engine::record::Place;
use crate::wire::{Digest, Refusal};

/// Positions that one entry has, 1,024: its own message has the first. Messages of the daemon's own
/// topics, which are in no log, have those between one entry and the next.
pub(super) const POSITIONS: u64 = 1 << 10;

/// The highest number of an entry, 2^41: positions up to it are integers in JavaScript. At 30,000
/// entries a second it is reached in two years.
pub const MAX_NUMBER: u64 = 1 << 41;

/// The outcome of an entry, for whoever has proposed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The publication was accepted, now or before.
    Accepted(Receipt),
    /// It was refused.
    Refused(Refusal),
    /// It has begun to arrive.
    Begun(UploadId),
    /// There is nothing to tell.
    Nothing,
}

impl Engine {
    /// Applies the next entry of the log, as its sequencer has ordered it.
    ///
    /// An engine that applies entries accepts no publications in any other way, but to the daemon's
    /// own topics.
    pub fn apply(&mut self, entry: &LogEntry, ordered: &Ordered) -> Applied {
        let LogEntry { number, time, change } = entry;
        self.now = *time;
        for AbortedUpload { topic, sequence, superseded } in &ordered.aborted {
            if let Some(slot) = self.by_id.get(topic).copied() {
                self.abort_entry(slot, *sequence, *superseded);
            }
        }
        let position = number.saturating_mul(POSITIONS);
        self.position = self.position.max(position);
        let place = |stamp: &u64, origin: &Option<PublicationId>| Place {
            position,
            accepted: *time,
            stamp: *stamp,
            origin: *origin,
        };
        match (&ordered.decision, change) {
            (Decision::Accept(at), LogChange::Publish { origin, stamp, digest, payload, .. }) => {
                let Some(slot) = self.slot_in_log(at) else { return Applied::Nothing };
                self.note_published(slot, *time, payload.len());
                let receipt = self.accept(slot, &place(stamp, origin), None, *digest, payload);
                Applied::Accepted(receipt)
            }
            (Decision::Begin(at), LogChange::Begin { origin, stamp, size, .. }) => {
                let Some(slot) = self.slot_in_log(at) else { return Applied::Nothing };
                let size = usize::try_from(*size).unwrap_or(usize::MAX);
                let upload = self.arrive(slot, &place(stamp, origin), size);
                upload.map_or(Applied::Nothing, Applied::Begun)
            }
            (Decision::Append { topic, sequence }, LogChange::Chunk { bytes, .. }) => {
                // The cache may have had no room for the rest.
                let upload = UploadId { topic: *topic, sequence: *sequence };
                if let Ok(slot) = self.slot_of_upload(upload) {
                    let _ = self.append_chunk(slot, upload, bytes.clone());
                }
                Applied::Nothing
            }
            (Decision::End { at, head }, LogChange::End { digest, .. }) => {
                Applied::Accepted(self.end_in_log(at, head, *time, *digest))
            }
            (Decision::Duplicate { topic, sequence, digest: first }, change) => {
                let (origin, digest) = match change {
                    LogChange::Publish { origin, digest, .. }
                    | LogChange::End { origin, digest, .. } => (*origin, *digest),
                    LogChange::Begin { origin, .. } => (*origin, Digest([0; 32])),
                    _ => return Applied::Nothing,
                };
                let digest = first.unwrap_or(digest);
                Applied::Accepted(self.receipt_in_log((*topic, *sequence), origin, digest))
            }
            (
                Decision::Stale,
                LogChange::Publish { origin, .. }
                | LogChange::Begin { origin, .. }
                | LogChange::End { origin, .. },
            ) => {
                let number = origin.map_or(0, |origin| origin.number);
                Applied::Refused(stale(number, self.limits.window))
            }
            _ => Applied::Nothing,
        }
    }

    // Returns a topic that is ready for the message with a sequence. This engine may have forgotten
    // the topic, or some of its messages, for lack of room.
    fn slot_in_log(&mut self, at: &LogPlace) -> Option<Slot> {
        let slot = self.slot_as(at.topic, &at.name, at.topic.saturating_mul(POSITIONS))?;
        let next = self.topic(slot)?.next_sequence();
        debug_assert!(next <= at.sequence, "a sequence is given once");
        if next < at.sequence {
            // The position of the message before is exact: subscriptions that had that one miss
            // nothing.
            self.skip_to(slot, at.sequence, at.before.saturating_mul(POSITIONS) + 1);
        }
        self.by_use.promote(&*at.name);
        Some(slot)
    }

    fn end_in_log(&mut self, at: &LogPlace, head: &LogPlace, now: u64, digest: Digest) -> Receipt {
        let slot = self.by_id.get(&at.topic).copied();
        let entry = slot.and_then(|slot| self.topic(slot)?.entry(at.sequence));
        let size = entry.filter(|entry| entry.body.is_arriving()).map(|entry| entry.body.size());
        if let Some((slot, size)) = slot.zip(size)
            && let Some(receipt) = self.complete(now, slot, at.sequence, digest, None)
        {
            self.note_published(slot, now, size);
            return receipt;
        }
        // This cache had no room for all its bytes. It counts nevertheless.
        let slot = slot.or_else(|| self.slot_in_log(head));
        let receipt = slot.and_then(|slot| self.count_in_log(slot, at.sequence, now, digest));
        receipt.unwrap_or(Receipt {
            sequence: at.sequence,
            count: 0,
            since: 0,
            digest,
            duplicate: false,
        })
    }

    // Counts a publication whose payload is not cached here.
    fn count_in_log(
        &mut self,
        slot: Slot,
        sequence: u64,
        now: u64,
        digest: Digest,
    ) -> Option<Receipt> {
        let tables = (&mut self.evicted_counts, &mut self.forgotten_topics);
        let topic = self.topics.get_mut(slot).and_then(Option::as_deref_mut)?;
        let before = topic.cost();
        let (count, _) = count(topic, tables, now, &digest);
        let receipt = topic.accept(&self.limits, None, sequence, count, digest);
        if !topic.put_count(sequence, digest, count, 0) {
            let key = topic.payload_key(&digest);
            self.evicted_counts.put(key, count, self.position);
        }
        self.settle(slot, before);
        Some(receipt)
    }

    // Returns the receipt of a publication that was accepted before, as far as it is known here.
    fn receipt_in_log(
        &mut self,
        (topic, sequence): (u64, u64),
        origin: Option<PublicationId>,
        digest: Digest,
    ) -> Receipt {
        self.figures.duplicates += 1;
        let slot = self.by_id.get(&topic).copied();
        let found = slot
            .zip(origin)
            .and_then(|(slot, origin)| self.find_receipt(slot, origin, digest).ok().flatten());
        let found = found.filter(|found| sequence == 0 || found.sequence == sequence);
        let duplicate = true;
        found.unwrap_or(Receipt { sequence, count: 0, since: 0, digest, duplicate })
    }
}
