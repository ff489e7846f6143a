//! The publication that a peer sends in chunks, on one stream or on its one channel.
//!
//! An [`IncomingUpload`] knows the engine and not the session. It returns [`UploadStep`]s, which
//! the session turns into replies.

use super::frames::Publishing;
use super::replies::unnumbered;
use crate::engine::Engine;
use crate::engine::budget::{Budget, Charge};
use crate::engine::ids::UploadId;
use crate::engine::publication::{PublicationId, Receipt};
use crate::engine::publish::upload::{BeginOutcome, UploadError, UploadRequest};
use crate::wire::{CHUNK, Code, Digest, LARGE, Refusal};
use bytes::Bytes;

/// The part of a publication that has arrived on one stream. There is one for each stream on which
/// a peer publishes, and one for its control stream.
#[derive(Debug, Default)]
pub struct IncomingUpload {
    current: Option<CurrentUpload>,
    // Number of publications that have begun.
    begun: u64,
}

/// The fields of a [`Begin`](crate::wire::ClientFrame::Begin).
#[derive(Debug, Clone, Copy)]
pub(super) struct BeginFields {
    pub(super) alias: u32,
    pub(super) number: u64,
    pub(super) stamp: u64,
    pub(super) size: u64,
}

#[derive(Debug)]
struct CurrentUpload {
    fields: BeginFields,
    // Number of bytes that have arrived.
    received: u64,
    target: UploadTarget,
}

#[derive(Debug)]
enum UploadTarget {
    /// It is relayed while it arrives.
    Relay(UploadId),
    /// It is not large: it is published when it is complete.
    Buffer(Buffer),
    /// It was answered before its end: the rest is dropped.
    Discard,
}

/// The session's part of a step.
pub(super) enum UploadStep {
    /// Nothing.
    Continue,
    /// Remember the upload: it ends with the session.
    Relaying(UploadId),
    /// Publish this: a small publication is complete.
    Publish(Publishing),
    /// Propose to the log that the upload has ended. The log's decision is the answer.
    ProposeEnd { fields: BeginFields, upload: UploadId, digest: Digest },
    /// Answer the publication, and forget its upload.
    Answer {
        fields: BeginFields,
        upload: Option<UploadId>,
        outcome: Result<Receipt, UploadError>,
        /// Whether the publication ends with this, and not before its end.
        at_end: bool,
    },
}

/// Bytes of a small publication's chunks that are not charged, 1 KiB: there is one for each stream.
const FREE: usize = 1 << 10;

/// The chunks of a small publication, joined. Nothing is reserved for chunks that have not arrived,
/// and those that have are charged.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    charge: Option<Charge>,
}

impl Buffer {
    const fn new() -> Self {
        Self { bytes: Vec::new(), charge: None }
    }

    /// Appends a chunk of a payload of `size` bytes. Returns whether there was room for it.
    fn append(&mut self, budget: &Budget, chunk: &[u8], size: usize) -> bool {
        let needed = self.bytes.len() + chunk.len();
        if needed > self.bytes.capacity() {
            // The buffer doubles, so that each byte is copied a few times at most.
            let room = needed.max(2 * self.bytes.capacity()).min(size);
            if room > FREE && !budget.charge(&mut self.charge, room) {
                return false;
            }
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
        true
    }
}

impl IncomingUpload {
    /// Returns the number of the publication that is not complete, among those of this stream, and
    /// how many of its bytes have arrived. None if there is none, or if its rest is dropped.
    pub fn progress(&self) -> Option<(u64, u64)> {
        let current = self.current.as_ref().filter(|current| current.is_wanted())?;
        Some((self.begun, current.received))
    }

    pub(super) fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// Refuses a begin before the end of the publication before it.
    pub(super) fn may_begin(&self) -> Result<(), Refusal> {
        if self.current.as_ref().is_some_and(CurrentUpload::is_wanted) {
            return Err(unexpected("a begin before the end of the publication before it"));
        }
        Ok(())
    }

    /// Begins a publication to a topic.
    pub(super) fn begin(
        &mut self,
        engine: &mut Engine,
        now: u64,
        topic: &str,
        origin: PublicationId,
        fields: BeginFields,
    ) -> UploadStep {
        let BeginFields { number, stamp, size, .. } = fields;
        let request = UploadRequest { topic, size, stamp, origin: Some(origin) };
        let small = size <= LARGE as u64 && size <= engine.largest_payload(topic) as u64;
        let begun = match number {
            0 => Err(unnumbered()),
            _ if small => Ok(None),
            _ => engine.begin(now, &request).map(Some),
        };
        let answer = |outcome| {
            let step = UploadStep::Answer { fields, upload: None, outcome, at_end: false };
            (UploadTarget::Discard, step)
        };
        let (target, step) = match begun {
            Ok(None) => (UploadTarget::Buffer(Buffer::new()), UploadStep::Continue),
            Ok(Some(BeginOutcome::Arriving(upload))) => {
                (UploadTarget::Relay(upload), UploadStep::Relaying(upload))
            }
            Ok(Some(BeginOutcome::Duplicate(receipt))) => answer(Ok(receipt)),
            Err(refusal) => answer(Err(UploadError::Refused(refusal))),
        };
        self.begun += 1;
        self.current = Some(CurrentUpload { fields, received: 0, target });
        step
    }

    /// Begins a publication that is refused: its rest is dropped.
    pub(super) fn begin_refused(&mut self, fields: BeginFields, why: &Refusal) -> UploadStep {
        self.begun += 1;
        self.current = Some(CurrentUpload { fields, received: 0, target: UploadTarget::Discard });
        let outcome = Err(UploadError::Refused(why.clone()));
        UploadStep::Answer { fields, upload: None, outcome, at_end: false }
    }

    /// Appends a chunk.
    pub(super) fn chunk(
        &mut self,
        engine: &mut Engine,
        chunk: Bytes,
    ) -> Result<UploadStep, Refusal> {
        let Some(current) = &mut self.current else {
            return Err(unexpected("a chunk of no publication: it begins with a begin"));
        };
        if chunk.is_empty() || chunk.len() > CHUNK {
            return Err(malformed(format!("a chunk has 1 to {CHUNK} bytes, not {}", chunk.len())));
        }
        let (fields, length) = (current.fields, chunk.len() as u64);
        let (upload, error) = match &mut current.target {
            UploadTarget::Discard => return Ok(UploadStep::Continue),
            _ if current.received + length > fields.size => {
                return Err(malformed(format!(
                    "more than the {} bytes that were begun",
                    fields.size
                )));
            }
            UploadTarget::Buffer(buffer) => {
                if buffer.append(engine.budget(), &chunk, fields.size as usize) {
                    current.received += length;
                    return Ok(UploadStep::Continue);
                }
                (None, UploadError::Refused(no_room()))
            }
            UploadTarget::Relay(upload) => match engine.append(*upload, chunk) {
                Ok(()) => {
                    current.received += length;
                    return Ok(UploadStep::Continue);
                }
                Err(error) => (Some(*upload), error),
            },
        };
        current.target = UploadTarget::Discard;
        Ok(UploadStep::Answer { fields, upload, outcome: Err(error), at_end: false })
    }

    /// Ends the publication. `claimed` is the digest that the publisher sent, and `computed` that of
    /// the bytes that have arrived.
    pub(super) fn end(
        &mut self,
        engine: &mut Engine,
        now: u64,
        (claimed, computed): (Digest, Option<Digest>),
    ) -> Result<UploadStep, Refusal> {
        let Some(CurrentUpload { fields, received, target }) = self.current.take() else {
            return Err(unexpected("an end of no publication: it begins with a begin"));
        };
        let BeginFields { alias, number, stamp, size } = fields;
        if let UploadTarget::Discard = target {
            return Ok(UploadStep::Continue);
        }
        if received != size {
            return Err(malformed(format!("{received} bytes, and {size} were begun")));
        }
        let answer = |upload, outcome| UploadStep::Answer { fields, upload, outcome, at_end: true };
        if computed != Some(claimed) {
            let refusal = malformed("the digest is not that of the bytes that came".into());
            return Ok(answer(target.abort(engine), Err(UploadError::Refused(refusal))));
        }
        Ok(match target {
            UploadTarget::Relay(upload) if upload.is_proposed() => {
                UploadStep::ProposeEnd { fields, upload, digest: claimed }
            }
            UploadTarget::Relay(upload) => answer(Some(upload), engine.end(now, upload, claimed)),
            UploadTarget::Buffer(buffer) => {
                let (payload, digest) = (Bytes::from(buffer.bytes).into(), claimed);
                UploadStep::Publish(Publishing { alias, number, stamp, payload, digest })
            }
            UploadTarget::Discard => UploadStep::Continue,
        })
    }

    /// Refuses the publication before its end: it stalled, was too slow, or found no room.
    pub(super) fn refuse(&mut self, engine: &mut Engine, why: &Refusal) -> UploadStep {
        let Some(current) = self.current.as_mut().filter(|current| current.is_wanted()) else {
            return UploadStep::Continue;
        };
        let upload = std::mem::replace(&mut current.target, UploadTarget::Discard).abort(engine);
        let outcome = Err(UploadError::Refused(why.clone()));
        UploadStep::Answer { fields: current.fields, upload, outcome, at_end: false }
    }

    /// Aborts the publication, because its stream was reset. Returns its upload.
    pub(super) fn reset(&mut self, engine: &mut Engine) -> Option<UploadId> {
        self.current.take()?.target.abort(engine)
    }
}

impl CurrentUpload {
    fn is_wanted(&self) -> bool {
        !matches!(self.target, UploadTarget::Discard)
    }
}

impl UploadTarget {
    // Aborts the upload, and returns it.
    fn abort(self, engine: &mut Engine) -> Option<UploadId> {
        let Self::Relay(upload) = self else {
            return None;
        };
        engine.abort(upload);
        Some(upload)
    }
}

fn unexpected(reason: &'static str) -> Refusal {
    Refusal::new(Code::UNEXPECTED, reason)
}

fn malformed(reason: String) -> Refusal {
    Refusal::new(Code::MALFORMED, reason)
}

/// The budget has no room for what peers make the daemon hold.
pub(crate) fn no_room() -> Refusal {
    Refusal::new(
        Code::OVERLOADED,
        "there is no room for what peers have begun to send (a quarter of cache.bytes): publish it \
         again later",
    )
}
