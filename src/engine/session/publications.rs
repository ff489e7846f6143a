//! A session's publications: small ones, and those in chunks.

use super::action::Action;
use super::frames::{Channel, Publishing};
use super::replies::{receive, reject, unnumbered};
use super::upload::{BeginFields, IncomingUpload, UploadStep};
use super::{Alias, Session};
use crate::engine::Engine;
use crate::engine::ids::UploadId;
use crate::engine::publication::{Publication, PublicationId, Receipt};
use crate::engine::publish::upload::UploadError;
use crate::engine::replica::ReplyTo;
use crate::wire::{Code, DaemonFrame, Digest, ProducerId, Refusal};

// Whether a number is among those that were accepted: see `Engine::accepted`.
fn was_accepted(accepted: Option<(u64, u64)>, number: u64) -> bool {
    accepted.is_some_and(|(floor, seen)| match number.checked_sub(floor) {
        None | Some(0) => true,
        Some(ahead) => ahead <= 64 && seen >> (ahead - 1) & 1 == 1,
    })
}

impl Session {
    // Counts a publication that was not accepted before.
    fn count_accepted(&mut self, receipt: &Receipt, bytes: u64) {
        if !receipt.duplicate {
            self.accepted.0 += 1;
            self.accepted.1 += bytes;
        }
    }

    pub(super) fn publish(
        &mut self,
        (engine, now): (&mut Engine, u64),
        (channel, producer, why): (Channel, ProducerId, Option<&Refusal>),
        publishing: &Publishing,
        out: &mut Vec<u8>,
    ) -> Result<Option<Action>, Refusal> {
        let Publishing { alias, number, stamp, payload, digest } = publishing;
        let (alias, number) = (*alias, *number);
        let Alias { topic, refusal } = match self.alias(alias) {
            // The declaration has not arrived yet. Without an acknowledgement, the publication will
            // be sent again.
            Err(_) if channel == Channel::Datagram => return Ok(None),
            alias => alias?,
        };
        // A copy of a publication that was accepted is answered as usual, however fast it came.
        let again = |why: &&Refusal| {
            why.code == Code::RATE_LIMITED && was_accepted(engine.accepted(topic, producer), number)
        };
        if let Some(why) = why.filter(|why| !again(why)).or(refusal.as_deref()) {
            return Ok(Some(reject(alias, number, why, out)));
        }
        let publication = Publication {
            topic,
            payload,
            digest: *digest,
            stamp: *stamp,
            origin: Some(PublicationId { producer, number }),
        };
        let receipt = if number == 0 {
            Err(unnumbered())
        } else if engine.follows_log() {
            let datagram = channel == Channel::Datagram;
            let (session, size) = (self.id, payload.len() as u64);
            let reply_to = ReplyTo::Session { session, alias, number, size, datagram };
            match engine.propose(now, &publication, reply_to) {
                // It is answered when the log has it.
                Ok(None) => {
                    self.proposed += 1;
                    return Ok(None);
                }
                Ok(Some(receipt)) => Ok(receipt),
                Err(refusal) => Err(refusal),
            }
        } else {
            engine.publish(now, &publication)
        };
        // An acknowledgement covers the numbers of its bits only.
        let covered = |(floor, _): (u64, _)| number <= floor.saturating_add(64);
        let acknowledged =
            channel == Channel::Datagram && engine.accepted(topic, producer).is_some_and(covered);
        let outcome = receipt.map(|receipt| (receipt, payload.len() as u64));
        Ok(self.reply_to_publication((alias, number), acknowledged, outcome, out))
    }

    fn reply_to_publication(
        &mut self,
        (alias, number): (u32, u64),
        acknowledged: bool,
        outcome: Result<(Receipt, u64), Refusal>,
        out: &mut Vec<u8>,
    ) -> Option<Action> {
        match outcome {
            Ok((receipt, bytes)) => {
                self.count_accepted(&receipt, bytes);
                if acknowledged {
                    return Some(Action::Acknowledge { alias });
                }
                receive(alias, number, &receipt, out);
                None
            }
            Err(refusal) => Some(reject(alias, number, &refusal, out)),
        }
    }

    /// Answers a publication that was proposed to a log, which has decided about it. The engine is
    /// needed for one that came in a datagram.
    pub fn answer_proposal(
        &mut self,
        engine: Option<&Engine>,
        (alias, number, size, datagram): (u32, u64, u64, bool),
        outcome: Result<Receipt, Refusal>,
        out: &mut Vec<u8>,
    ) -> Option<Action> {
        self.proposed = self.proposed.saturating_sub(1);
        let topic = self.aliases.get(&alias).map(|alias| &*alias.topic);
        let of = engine.zip(self.producer.zip(topic));
        let accepted = of.and_then(|(engine, (producer, topic))| engine.accepted(topic, producer));
        let covered = accepted.is_some_and(|(floor, _)| number <= floor.saturating_add(64));
        let outcome = outcome.map(|receipt| (receipt, size));
        self.reply_to_publication((alias, number), datagram && covered, outcome, out)
    }

    /// Appends an acknowledgement of an alias' publications, for a datagram.
    pub fn acknowledge(&self, engine: &Engine, alias: u32, out: &mut Vec<u8>) {
        let accepted = self.producer.zip(self.aliases.get(&alias));
        let accepted = accepted.and_then(|(producer, of)| engine.accepted(&of.topic, producer));
        if let Some((floor, seen)) = accepted {
            DaemonFrame::Acknowledge { alias, floor, seen }.encode(out);
        }
    }

    // Does the session's part of an upload's step.
    pub(super) fn upload_step(
        &mut self,
        (engine, now): (&mut Engine, u64),
        (channel, producer): (Channel, ProducerId),
        step: UploadStep,
        out: &mut Vec<u8>,
    ) -> Result<Option<Action>, Refusal> {
        match step {
            UploadStep::Publish(publishing) => {
                self.publish((engine, now), (channel, producer, None), &publishing, out)
            }
            UploadStep::ProposeEnd { fields, upload, digest } => {
                Ok(self.propose_end(engine, fields, upload, digest, out))
            }
            step => Ok(self.upload_reply(step, out)),
        }
    }

    fn propose_end(
        &mut self,
        engine: &mut Engine,
        fields: BeginFields,
        upload: UploadId,
        digest: Digest,
        out: &mut Vec<u8>,
    ) -> Option<Action> {
        let BeginFields { alias, number, size, .. } = fields;
        let session = self.id;
        let reply_to = ReplyTo::Session { session, alias, number, size, datagram: false };
        match engine.propose_end(upload, digest, reply_to) {
            Ok(()) => {
                self.forget_upload(Some(upload));
                self.proposed += 1;
                None
            }
            Err(error) => {
                let (upload, outcome) = (Some(upload), Err(error));
                let step = UploadStep::Answer { fields, upload, outcome, at_end: true };
                self.upload_reply(step, out)
            }
        }
    }

    fn upload_reply(&mut self, step: UploadStep, out: &mut Vec<u8>) -> Option<Action> {
        let (fields, upload, outcome, at_end) = match step {
            UploadStep::Continue | UploadStep::Publish(_) | UploadStep::ProposeEnd { .. } => {
                return None;
            }
            UploadStep::Relaying(upload) => {
                self.uploads.push(upload);
                return None;
            }
            UploadStep::Answer { fields, upload, outcome, at_end } => {
                (fields, upload, outcome, at_end)
            }
        };
        self.forget_upload(upload);
        let refused = match &outcome {
            Ok(receipt) => {
                self.count_accepted(receipt, fields.size);
                receive(fields.alias, fields.number, receipt, out);
                None
            }
            // The second attempt is answered.
            Err(UploadError::Superseded) => None,
            Err(UploadError::Refused(refusal)) => {
                reject(fields.alias, fields.number, refusal, out);
                Some(refusal.code)
            }
        };
        if at_end {
            refused.map(|code| Action::Refused { code })
        } else {
            Some(Action::StopReading { code: refused.unwrap_or(Code::DONE) })
        }
    }

    fn forget_upload(&mut self, upload: Option<UploadId>) {
        if let Some(upload) = upload {
            self.uploads.retain(|other| *other != upload);
        }
    }

    /// Refuses a publication in chunks before its end, because it stalled, was too slow, or found no
    /// room; and tells the peer.
    pub fn refuse_upload(
        &mut self,
        engine: &mut Engine,
        incoming: &mut IncomingUpload,
        why: &Refusal,
        out: &mut Vec<u8>,
    ) -> Option<Action> {
        let step = incoming.refuse(engine, why);
        self.upload_reply(step, out)
    }

    /// Aborts a publication that is not complete, because its stream has ended.
    pub fn upload_reset(&mut self, engine: &mut Engine, incoming: &mut IncomingUpload) {
        let upload = incoming.reset(engine);
        self.forget_upload(upload);
    }
}
