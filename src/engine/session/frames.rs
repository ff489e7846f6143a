//! Between frames and the engine: what a session receives, and what it sends of the log.

use crate::engine::payload::Payload;
use crate::engine::subscribe::item::Item;
use crate::engine::subscribe::start::PreparedStart;
use crate::wire::{
    ClientFrame, Code, DaemonFrame, DecodeError, Delivery, Digest, Filter, INLINE, Lag,
    MAX_RESUMED, NameError, Refusal,
};
use bytes::Bytes;
use std::sync::Arc;

/// The way by which a frame has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The control stream: it may carry every frame.
    Control,
    /// Another stream of the client: it carries publications only.
    Publish,
    /// A datagram: it carries publications, which are acknowledged instead of answered, and repairs.
    Datagram,
}

/// A frame that is decoded, and hashed if it is a publication or a part of one. That is done before
/// the lock is taken.
#[derive(Debug)]
pub enum Prepared<'a> {
    /// A publication.
    Publish(Publishing),
    /// The next bytes of a publication.
    Chunk(Bytes),
    /// The end of a publication in chunks.
    End {
        /// The digest that the publisher sent.
        claimed: Digest,
        /// The digest of the bytes that have arrived; none without a begin.
        computed: Option<Digest>,
    },
    /// A subscription.
    Subscribe(Subscribing),
    /// Anything else.
    Other(ClientFrame<'a>),
    /// A frame that its sender may not send, and why: see [`refuse`](Self::refuse).
    Refused(Box<(Prepared<'a>, Arc<Refusal>)>),
}

/// A peer's request for a subscription: its filter is checked, and its list of topics is a table.
#[derive(Debug)]
pub struct Subscribing {
    pub(crate) request: u32,
    pub(crate) filter: Result<Filter, NameError>,
    pub(crate) start: PreparedStart,
    pub(crate) delivery: Delivery,
    pub(crate) lag: Lag,
    pub(crate) deadline: u32,
}

impl Subscribing {
    /// Returns the filter, if it is one.
    pub fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref().ok()
    }
}

/// A peer's publication.
#[derive(Debug, Clone)]
pub struct Publishing {
    pub(crate) alias: u32,
    pub(crate) number: u64,
    pub(crate) stamp: u64,
    pub(crate) payload: Payload,
    pub(crate) digest: Digest,
}

/// The digest of a payload in chunks, as far as it has arrived. There is one for each stream.
#[derive(Debug, Default)]
pub struct Hashing(Option<Box<blake3::Hasher>>);

impl<'a> Prepared<'a> {
    /// Refuses the frame: its sender has no right to it, or is too fast. The session answers with
    /// the refusal, and does nothing else of a publication or a request. The publications of a
    /// topic whose declaration was refused are refused, each with the same refusal. Other frames
    /// are not changed.
    #[must_use]
    pub fn refuse(self, why: Arc<Refusal>) -> Self {
        Self::Refused(Box::new((self, why)))
    }

    /// Returns whether it is a publication, or a part of one.
    pub fn is_publication(&self) -> bool {
        match self {
            Self::Publish(_) | Self::Chunk(_) | Self::End { .. } => true,
            Self::Other(frame) => matches!(frame, ClientFrame::Begin { .. }),
            Self::Subscribe(_) | Self::Refused(_) => false,
        }
    }

    /// Returns whether it is a publication, or the begin of one in chunks.
    pub fn begins_publication(&self) -> bool {
        match self {
            Self::Publish(_) => true,
            Self::Other(frame) => matches!(frame, ClientFrame::Begin { .. }),
            _ => false,
        }
    }

    /// Decodes the bytes of one frame, without its length.
    pub fn new(frame: &'a Bytes, hashing: &mut Hashing) -> Result<Self, Refusal> {
        Ok(match ClientFrame::decode(frame).map_err(|_| malformed(frame))? {
            ClientFrame::Publish { alias, number, stamp, payload } => Self::Publish(Publishing {
                alias,
                number,
                stamp,
                digest: Digest::of(payload),
                payload: frame.slice_ref(payload).into(),
            }),
            ClientFrame::Chunk { bytes } => {
                if let Some(hasher) = &mut hashing.0 {
                    hasher.update(bytes);
                }
                // A short frame may be a small part of the read buffer, which it would keep in memory.
                let short = frame.len() <= INLINE;
                Self::Chunk(if short {
                    Bytes::copy_from_slice(bytes)
                } else {
                    frame.slice_ref(bytes)
                })
            }
            ClientFrame::End { digest: claimed } => {
                let hasher = hashing.0.take();
                let computed = hasher.map(|hasher| Digest(*hasher.finalize().as_bytes()));
                Self::End { claimed, computed }
            }
            ClientFrame::Subscribe { request, filter, start, delivery, lag, deadline } => {
                let (filter, start) = (Filter::new(filter), PreparedStart::from(&start));
                Self::Subscribe(Subscribing { request, filter, start, delivery, lag, deadline })
            }
            other => {
                if let ClientFrame::Begin { .. } = other {
                    hashing.0 = Some(Box::default());
                }
                Self::Other(other)
            }
        })
    }
}

fn malformed(frame: &Bytes) -> Refusal {
    // The shortest list that is too long takes three bytes for each topic.
    if frame.len() > 3 * MAX_RESUMED {
        let reason = format!(
            "{DecodeError}; a subscription resumes at most {MAX_RESUMED} topics by name: leave out \
             those of which nothing was received"
        );
        return Refusal::new(Code::MALFORMED, reason);
    }
    Refusal::new(Code::MALFORMED, DecodeError.to_string())
}

/// Appends an item's frame. Messages are encoded already: see [`MessageRef::encoded`]. Chunks are
/// better sent without copying, after [`encode_chunk`].
///
/// [`MessageRef::encoded`]: crate::engine::MessageRef::encoded
/// [`encode_chunk`]: crate::wire::encode_chunk
pub fn encode_item(item: &Item<'_>, out: &mut Vec<u8>) {
    match item {
        Item::Topic { id, epoch, next, name } => {
            DaemonFrame::Topic { id: *id, epoch: *epoch, next: *next, name }.encode(out);
        }
        Item::Gap { id, first, last, cause, .. } => {
            DaemonFrame::Gap { topic: *id, first: *first, last: *last, cause: *cause }.encode(out);
        }
        Item::Message(message) => match message.encoded() {
            Some(encoded) => {
                let (head, body) = encoded.pieces();
                out.extend_from_slice(head);
                out.extend_from_slice(body);
            }
            None => DaemonFrame::Message {
                topic: message.topic_id(),
                sequence: message.sequence(),
                count: message.count(),
                stamp: message.stamp(),
                payload: &message.payload(),
            }
            .encode(out),
        },
        Item::Large(message) | Item::Begin(message) => DaemonFrame::Begin {
            topic: message.topic_id(),
            sequence: message.sequence(),
            stamp: message.stamp(),
            size: message.size() as u64,
        }
        .encode(out),
        Item::Chunk(bytes) => DaemonFrame::Chunk { bytes }.encode(out),
        Item::End { count, digest } => {
            DaemonFrame::End { count: *count, digest: *digest }.encode(out);
        }
        Item::Abort { code } => DaemonFrame::Abort { code: *code }.encode(out),
    }
}
