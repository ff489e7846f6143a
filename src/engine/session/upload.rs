//! The publication that a peer is sending in chunks, on one stream or on the one channel.

use super::Session;
use super::action::Action;
use super::frames::{Channel, Publishing};
use crate::engine::publish::upload::{BeginOutcome, UploadError, UploadId, UploadRequest};
use crate::engine::{Budget, Charge, Engine, PublicationId, Receipt};
use crate::wire::{CHUNK, Code, DaemonFrame, Digest, LARGE, ProducerId, Refusal};
use bytes::Bytes;

/// What has come of a publication on one stream. There is one for each stream that a peer
/// publishes on, and one for its control stream.
#[derive(Debug, Default)]
pub struct IncomingUpload {
    open: Option<CurrentUpload>,
    // How many have begun.
    begun: u64,
}

#[derive(Debug)]
struct CurrentUpload {
    alias: u32,
    number: u64,
    stamp: u64,
    size: u64,
    came: u64,
    to: UploadTarget,
}

#[derive(Debug)]
enum UploadTarget {
    /// It is relayed.
    Relay(UploadId),
    /// It is not large: published when it is complete.
    Buffer(Buffer),
    /// It was answered before its end: the rest is dropped.
    Discard,
}

/// Of a small publication's chunks, what costs nothing: 1 KiB. There is one for each stream.
const FREE: usize = 1 << 10;

/// The chunks of a small publication, put together. Nothing is set aside for those that have not
/// come, and what has is charged.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    charge: Option<Charge>,
}

impl Buffer {
    const fn new() -> Self {
        Self { bytes: Vec::new(), charge: None }
    }

    /// Whether there is room for a chunk of `size` bytes in all; if not, it was not taken.
    fn take(&mut self, budget: &Budget, chunk: &[u8], size: usize) -> bool {
        let needed = self.bytes.len() + chunk.len();
        if needed > self.bytes.capacity() {
            // So that few of them are copied, and none often.
            let room = needed.max(2 * self.bytes.capacity()).min(size);
            if room > FREE {
                let charged = match &mut self.charge {
                    Some(charge) => charge.resize(room),
                    None => {
                        self.charge = budget.take(room);
                        self.charge.is_some()
                    }
                };
                if !charged {
                    return false;
                }
            }
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
        true
    }
}

impl IncomingUpload {
    /// Of a publication that is not complete: which one of this intake's it is, and how many bytes
    /// have come. None if there is none, or if nobody waits for its rest.
    pub fn progress(&self) -> Option<(u64, u64)> {
        let open = self.open.as_ref()?;
        (!matches!(open.to, UploadTarget::Discard)).then_some((self.begun, open.came))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

/// What stands in a [`Begin`](crate::wire::ClientFrame::Begin).
pub(crate) struct Beginning {
    pub(crate) alias: u32,
    pub(crate) number: u64,
    pub(crate) stamp: u64,
    pub(crate) size: u64,
}

fn unexpected(reason: &'static str) -> Refusal {
    Refusal::new(Code::UNEXPECTED, reason)
}

fn malformed(reason: String) -> Refusal {
    Refusal::new(Code::MALFORMED, reason)
}

impl Session {
    pub(crate) fn begin_publication(
        &mut self,
        engine: &mut Engine,
        now: u64,
        (intake, producer): (&mut IncomingUpload, ProducerId),
        beginning: &Beginning,
        out: &mut Vec<u8>,
    ) -> Result<Option<Action>, Refusal> {
        if intake.open.as_ref().is_some_and(|open| !matches!(open.to, UploadTarget::Discard)) {
            return Err(unexpected("a begin before the end of the publication before it"));
        }
        let Beginning { alias, number, stamp, size } = *beginning;
        let topic = self.alias(alias)?;
        let origin = Some(PublicationId { producer, number });
        let opening = UploadRequest { topic, size, stamp, origin };
        let small = size <= LARGE as u64 && size <= engine.limits().payload as u64;
        let begun = match number {
            0 => Err(super::unnumbered()),
            _ if small => Ok(None),
            _ => engine.begin(now, &opening).map(Some),
        };
        let (to, answered) = match begun {
            Ok(None) => (UploadTarget::Buffer(Buffer::new()), None),
            Ok(Some(BeginOutcome::Arriving(upload))) => {
                self.uploads.push(upload);
                (UploadTarget::Relay(upload), None)
            }
            Ok(Some(BeginOutcome::Duplicate(receipt))) => {
                receive(alias, number, &receipt, out);
                (UploadTarget::Discard, Some(Code::DONE))
            }
            Err(refusal) => {
                reject(alias, number, &refusal, out);
                (UploadTarget::Discard, Some(refusal.code))
            }
        };
        intake.begun += 1;
        intake.open = Some(CurrentUpload { alias, number, stamp, size, came: 0, to });
        Ok(answered.map(|code| Action::Enough { code }))
    }

    pub(crate) fn take_chunk(
        &mut self,
        engine: &mut Engine,
        intake: &mut IncomingUpload,
        chunk: Bytes,
        out: &mut Vec<u8>,
    ) -> Result<Option<Action>, Refusal> {
        let Some(open) = &mut intake.open else {
            return Err(unexpected("a chunk of no publication: it begins with a begin"));
        };
        if chunk.is_empty() || chunk.len() > CHUNK {
            return Err(malformed(format!("a chunk has 1 to {CHUNK} bytes, not {}", chunk.len())));
        }
        let failed = match &mut open.to {
            UploadTarget::Discard => return Ok(None),
            _ if open.came + chunk.len() as u64 > open.size => {
                return Err(malformed(format!(
                    "more than the {} bytes that were begun",
                    open.size
                )));
            }
            UploadTarget::Buffer(buffer) => {
                if buffer.take(engine.budget(), &chunk, open.size as usize) {
                    open.came += chunk.len() as u64;
                    return Ok(None);
                }
                UploadError::Refused(no_room())
            }
            UploadTarget::Relay(upload) => {
                let (upload, length) = (*upload, chunk.len() as u64);
                match engine.append(upload, chunk) {
                    Ok(()) => {
                        open.came += length;
                        return Ok(None);
                    }
                    Err(failed) => {
                        self.uploads.retain(|other| *other != upload);
                        failed
                    }
                }
            }
        };
        open.to = UploadTarget::Discard;
        Ok(Some(fail(open.alias, open.number, &failed, out)))
    }

    pub(crate) fn end_publication(
        &mut self,
        engine: &mut Engine,
        now: u64,
        (channel, intake, producer): (Channel, &mut IncomingUpload, ProducerId),
        (claimed, found): (Digest, Option<Digest>),
        out: &mut Vec<u8>,
    ) -> Result<Option<Action>, Refusal> {
        let Some(CurrentUpload { alias, number, stamp, size, came, to }) = intake.open.take()
        else {
            return Err(unexpected("an end of no publication: it begins with a begin"));
        };
        if let UploadTarget::Discard = to {
            return Ok(None);
        }
        if came != size {
            return Err(malformed(format!("{came} bytes, and {size} were begun")));
        }
        if found != Some(claimed) {
            self.drop_upload(engine, &to);
            let refusal = malformed("the digest is not that of the bytes that came".into());
            reject(alias, number, &refusal, out);
            return Ok(None);
        }
        match to {
            UploadTarget::Relay(upload) => {
                self.uploads.retain(|other| *other != upload);
                match engine.end(now, upload, claimed) {
                    Ok(receipt) => receive(alias, number, &receipt, out),
                    Err(failed) => drop(fail(alias, number, &failed, out)),
                }
                Ok(None)
            }
            UploadTarget::Buffer(buffer) => {
                let (payload, digest) = (Bytes::from(buffer.bytes).into(), claimed);
                let publishing = Publishing { alias, number, stamp, payload, digest };
                self.publish(engine, now, producer, channel, &publishing, out)
            }
            UploadTarget::Discard => Ok(None),
        }
    }

    /// A publication stood still, came too slowly, or found no room: it is given up, and the peer
    /// told why.
    pub fn give_up(
        &mut self,
        engine: &mut Engine,
        intake: &mut IncomingUpload,
        why: &Refusal,
        out: &mut Vec<u8>,
    ) -> Option<Action> {
        let open = intake.open.as_mut()?;
        let to = std::mem::replace(&mut open.to, UploadTarget::Discard);
        if let UploadTarget::Discard = to {
            return None;
        }
        self.drop_upload(engine, &to);
        reject(open.alias, open.number, why, out);
        Some(Action::Enough { code: why.code })
    }

    /// The stream is at its end: what was not complete is given up.
    pub fn broke_off(&mut self, engine: &mut Engine, intake: &mut IncomingUpload) {
        if let Some(open) = intake.open.take() {
            self.drop_upload(engine, &open.to);
        }
    }

    fn drop_upload(&mut self, engine: &mut Engine, to: &UploadTarget) {
        if let UploadTarget::Relay(upload) = to {
            self.uploads.retain(|other| other != upload);
            engine.abort(*upload);
        }
    }
}

/// There is no room for what peers make the daemon hold.
pub(crate) fn no_room() -> Refusal {
    Refusal::new(
        Code::OVERLOADED,
        "there is no room for what peers have begun to send (a quarter of cache.bytes): publish it \
         again later",
    )
}

pub(crate) fn receive(alias: u32, number: u64, receipt: &Receipt, out: &mut Vec<u8>) {
    let Receipt { sequence, count, since, digest, duplicate } = *receipt;
    DaemonFrame::Receipt { alias, number, sequence, count, since, digest, duplicate }.encode(out);
}

pub(crate) fn reject(alias: u32, number: u64, refusal: &Refusal, out: &mut Vec<u8>) {
    let Refusal { code, reason } = refusal;
    DaemonFrame::Rejected { alias, number, code: *code, reason }.encode(out);
}

fn fail(alias: u32, number: u64, failed: &UploadError, out: &mut Vec<u8>) -> Action {
    match failed {
        // The second attempt is answered.
        UploadError::Superseded => Action::Enough { code: Code::DONE },
        UploadError::Refused(refusal) => {
            reject(alias, number, refusal, out);
            Action::Enough { code: refusal.code }
        }
    }
}
