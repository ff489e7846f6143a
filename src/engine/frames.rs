//! Between frames and the engine: what a session takes in, and what it sends of the log.

use super::Item;
use crate::wire::{ClientFrame, Code, DaemonFrame, DecodeError, Digest, Refusal};
use bytes::Bytes;

/// Where a frame came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The control stream: every frame may stand there.
    Control,
    /// Another stream of the client's: publications only.
    Publish,
    /// A datagram: publications, which are acknowledged rather than answered, and repairs.
    Datagram,
}

/// A frame, decoded, and hashed if it is a publication: what needs no engine and no lock.
#[derive(Debug)]
pub enum Prepared<'a> {
    /// A publication.
    Publish(Publishing),
    /// Anything else.
    Other(ClientFrame<'a>),
}

/// A publication as it came from the peer.
#[derive(Debug, Clone)]
pub struct Publishing {
    pub(super) alias: u32,
    pub(super) number: u64,
    pub(super) stamp: u64,
    pub(super) payload: Bytes,
    pub(super) digest: Digest,
}

impl<'a> Prepared<'a> {
    /// Decodes the bytes of one frame, without its length.
    pub fn new(frame: &'a Bytes) -> Result<Self, Refusal> {
        Ok(match ClientFrame::decode(frame).map_err(malformed)? {
            ClientFrame::Publish { alias, number, stamp, payload } => Self::Publish(Publishing {
                alias,
                number,
                stamp,
                digest: Digest::of(payload),
                payload: frame.slice_ref(payload),
            }),
            other => Self::Other(other),
        })
    }
}

fn malformed(error: DecodeError) -> Refusal {
    Refusal::new(Code::MALFORMED, error.to_string())
}

/// Appends an item's frame. Messages are encoded already: see [`MessageRef::encoded`].
///
/// [`MessageRef::encoded`]: super::MessageRef::encoded
pub fn encode_item(item: &Item<'_>, out: &mut Vec<u8>) {
    match item {
        Item::Topic { id, epoch, next, name } => {
            DaemonFrame::Topic { id: *id, epoch: *epoch, next: *next, name }.encode(out);
        }
        Item::Gap { id, first, last, cause, .. } => {
            DaemonFrame::Gap { topic: *id, first: *first, last: *last, cause: *cause }.encode(out);
        }
        Item::Message(message) => {
            let (head, body) = message.encoded().pieces();
            out.extend_from_slice(head);
            out.extend_from_slice(body);
        }
    }
}
