//! Proposing publications to the log, in place of accepting them.

use super::apply::{MAX_NUMBER, POSITIONS};
use super::entry::{LogChange, LogUpload};
use super::proposal::{Proposal, ProposedUpload, ReplyTo};
use crate::engine::Engine;
use crate::engine::ids::UploadId;
use crate::engine::publication::{Publication, PublicationId, Receipt};
use crate::engine::publish::upload::{BeginOutcome, UploadError, UploadRequest};
use crate::wire::{Code, Digest, Refusal, check_topic, is_reserved};
use bytes::Bytes;
use std::sync::Arc;

/// The first id of the daemon's own topics, which are in no log. It is above the number of every
/// entry, and so above the id of every topic in the log.
const OWN_TOPICS: u64 = 2 * MAX_NUMBER;

/// In place of the topic's id, in the id of an upload that is proposed.
const PROPOSED: u64 = 0;

impl Engine {
    /// Lets a log decide from now on: publications are [proposed](Self::propose), and
    /// [entries](super::LogEntry) of the log are [applied](Self::apply). The engine has to be new.
    /// Entries up to `last` are not applied: what they have counted is not known here.
    ///
    /// `own` is a random number, by which the epochs of the daemon's own topics differ from those of
    /// other daemons.
    pub fn follow_log(&mut self, last: u64, own: u32) {
        self.proposals = Some(Box::default());
        if last > 0 {
            self.position = last.saturating_mul(POSITIONS);
            self.evicted_counts.note_dropped(self.position);
        }
        self.next_topic = OWN_TOPICS + (u64::from(own) << 8);
    }

    /// Returns whether half of the positions are used that the daemon's own topics have until the next
    /// entry. Then an entry is needed, even if it means nothing.
    pub fn needs_entry(&self) -> bool {
        self.follows_log() && self.position % POSITIONS >= POSITIONS / 2
    }

    // Whether a message of the daemon's own topics may have the next position.
    pub(in crate::engine) fn has_own_position(&self) -> bool {
        !self.follows_log() || self.position % POSITIONS < POSITIONS - 1
    }

    /// Returns whether a log decides.
    pub fn follows_log(&self) -> bool {
        self.proposals.is_some()
    }

    /// Proposes a publication: [take](Self::take_proposals) it after the call, and hand it to the log.
    /// Returns the receipt at once if this engine knows that it was accepted before.
    ///
    /// # Errors
    ///
    /// As of [`publish`](Self::publish).
    pub fn propose(
        &mut self,
        now: u64,
        publication: &Publication<'_>,
        reply_to: ReplyTo,
    ) -> Result<Option<Receipt>, Refusal> {
        self.now = now;
        let Publication { topic, payload, digest, stamp, origin } = *publication;
        if payload.len() > self.limits.payload {
            return Err(self.too_large(payload.len()));
        }
        if let Some(receipt) = self.known_receipt(topic, origin, digest)? {
            return Ok(Some(receipt));
        }
        self.may_propose(now, topic, payload.len())?;
        let (topic, payload): (Arc<str>, _) = (topic.into(), payload.clone());
        self.add_proposal(reply_to, LogChange::Publish { topic, origin, stamp, digest, payload });
        Ok(None)
    }

    // Returns the receipt of a publication that this engine knows to be accepted.
    fn known_receipt(
        &mut self,
        topic: &str,
        origin: Option<PublicationId>,
        digest: Digest,
    ) -> Result<Option<Receipt>, Refusal> {
        let slot = self.slot(topic).filter(|_| !is_reserved(topic));
        let Some((slot, origin)) = slot.zip(origin) else { return Ok(None) };
        let receipt = self.find_receipt(slot, origin, digest)?;
        self.figures.duplicates += u64::from(receipt.is_some());
        Ok(receipt)
    }

    // Checks what this engine can judge without the log.
    fn may_propose(&mut self, now: u64, topic: &str, size: usize) -> Result<(), Refusal> {
        self.may_publish()?;
        if let Some(slot) = self.slot(topic).filter(|_| !is_reserved(topic)) {
            return self.may_publish_by_rule(now, slot, size);
        }
        check_topic(topic).map_err(crate::wire::NameError::of_topic)?;
        let most = self.largest_payload(topic);
        if size > most {
            let reason = format!(
                "a payload of {size} bytes is above the limit of {topic} of {most} bytes \
                 (topics.payload)"
            );
            return Err(Refusal::new(Code::PAYLOAD_TOO_LARGE, reason));
        }
        Ok(())
    }

    /// As [`begin`](Self::begin), where a log decides.
    pub(in crate::engine) fn propose_begin(
        &mut self,
        now: u64,
        request: &UploadRequest<'_>,
    ) -> Result<BeginOutcome, Refusal> {
        self.now = now;
        let UploadRequest { topic, size, stamp, origin } = *request;
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        if length > self.limits.payload {
            return Err(self.too_large(length));
        }
        if let Some(receipt) = self.known_receipt(topic, origin, Digest([0; 32]))? {
            return Ok(BeginOutcome::Duplicate(receipt));
        }
        self.may_propose(now, topic, length)?;
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        let Some(proposals) = &mut self.proposals else {
            return Err(overloaded());
        };
        let Some(number) = proposals.next_upload() else {
            return Err(overloaded());
        };
        hasher.update(b"\0upload\0").update(&number.to_le_bytes());
        let mut name = LogUpload([0; 16]);
        name.0.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        let topic: Arc<str> = topic.into();
        let upload = ProposedUpload { name, topic: topic.clone(), origin, size, received: 0 };
        proposals.begin(number, upload);
        let change = LogChange::Begin { upload: name, topic, origin, stamp, size };
        self.add_proposal(ReplyTo::Nobody, change);
        Ok(BeginOutcome::Arriving(UploadId { topic: PROPOSED, sequence: number }))
    }

    /// As [`append`](Self::append), for an upload that is proposed.
    pub(in crate::engine) fn propose_chunk(
        &mut self,
        upload: UploadId,
        bytes: Bytes,
    ) -> Result<(), UploadError> {
        if let Err(refusal) = self.may_publish() {
            self.propose_abort(upload);
            return Err(UploadError::Refused(refusal));
        }
        let proposals = self.proposals.as_mut();
        let open = proposals.and_then(|proposals| proposals.upload(upload.sequence));
        let open = open.ok_or(UploadError::Superseded)?;
        let offset = open.received;
        open.received += bytes.len() as u64;
        if bytes.is_empty() || open.received > open.size {
            self.propose_abort(upload);
            let reason = "more of a payload than its begin had announced";
            return Err(UploadError::Refused(Refusal::new(Code::MALFORMED, reason)));
        }
        let (name, topic) = (open.name, open.topic.clone());
        self.add_proposal(ReplyTo::Nobody, LogChange::Chunk { upload: name, topic, offset, bytes });
        Ok(())
    }

    /// Proposes that an upload which was proposed has ended. The log's decision about that is the
    /// receipt.
    ///
    /// # Errors
    ///
    /// As of [`end`](Self::end).
    pub fn propose_end(
        &mut self,
        upload: UploadId,
        digest: Digest,
        reply_to: ReplyTo,
    ) -> Result<(), UploadError> {
        if let Err(refusal) = self.may_publish() {
            self.propose_abort(upload);
            return Err(UploadError::Refused(refusal));
        }
        let open = self.take_upload(upload).ok_or(UploadError::Superseded)?;
        let ProposedUpload { name, topic, origin, size, received } = open;
        if received != size {
            self.add_proposal(ReplyTo::Nobody, LogChange::Abort { upload: name, topic });
            let reason = "less of a payload than its begin had announced";
            return Err(UploadError::Refused(Refusal::new(Code::MALFORMED, reason)));
        }
        self.add_proposal(reply_to, LogChange::End { upload: name, topic, origin, digest });
        Ok(())
    }

    /// As [`abort`](Self::abort), for an upload that is proposed.
    pub(in crate::engine) fn propose_abort(&mut self, upload: UploadId) {
        if let Some(ProposedUpload { name, topic, .. }) = self.take_upload(upload) {
            self.add_proposal(ReplyTo::Nobody, LogChange::Abort { upload: name, topic });
        }
    }

    fn take_upload(&mut self, upload: UploadId) -> Option<ProposedUpload> {
        self.proposals.as_mut()?.take_upload(upload.sequence)
    }

    fn add_proposal(&mut self, reply_to: ReplyTo, change: LogChange) {
        self.work += 1;
        if let Some(proposals) = &mut self.proposals {
            proposals.push(reply_to, change);
        }
    }

    /// Returns whether there are proposals to take.
    pub fn has_proposals(&self) -> bool {
        self.proposals.as_ref().is_some_and(|proposals| !proposals.is_empty())
    }

    /// Moves the proposals that were made since the last call to `out`.
    pub fn take_proposals(&mut self, out: &mut Vec<Proposal>) {
        if let Some(proposals) = &mut self.proposals {
            proposals.take(out);
        }
    }
}

impl UploadId {
    /// Returns whether it is proposed to a log, which decides about it.
    pub fn is_proposed(&self) -> bool {
        self.topic == PROPOSED
    }
}

fn overloaded() -> Refusal {
    Refusal::new(
        Code::OVERLOADED,
        "too many large payloads arrive at the same time: publish it again later",
    )
}
