//! What subscribers get, borrowed from the log.

use crate::engine::rope::Rope;
use crate::engine::topic::Topic;
use crate::engine::topic::body::Body;
use crate::engine::topic::log::{Entry, PublicationId};
use crate::wire::{Code, Digest, Encoded, FRAME_OVERHEAD, GapCause};
use bytes::Bytes;
use std::sync::Arc;

/// What [`Engine::read`](crate::engine::Engine::read) hands out.
#[derive(Debug)]
pub enum Item<'a> {
    /// A topic's first message or gap follows.
    Topic {
        /// Daemon-wide id.
        id: u64,
        /// Names the run of sequences.
        epoch: u64,
        /// Where the subscription begins in it.
        next: u64,
        /// The topic.
        name: &'a Arc<str>,
    },
    /// A message that is complete.
    Message(MessageRef<'a>),
    /// There is a large message, complete or not: [`Engine::follow`](crate::engine::Engine::follow) it.
    /// Only where [`LargePayloads::AnnounceOnly`](crate::engine::Large::Apart) is asked for.
    Large(MessageRef<'a>),
    /// A large message begins; [`Chunk`](Self::Chunk)s and [`End`](Self::End) or
    /// [`Abort`](Self::Abort) follow, perhaps in later reads, and in between, items of other
    /// topics. Only where [`LargePayloads::InChunks`](crate::engine::Large::Pieces) is asked for, as these.
    Begin(MessageRef<'a>),
    /// The next bytes of its payload, at most [`CHUNK`](crate::wire::CHUNK).
    Chunk(Bytes),
    /// It is complete.
    End {
        /// As [`MessageRef::count`].
        count: u64,
        /// Digest of the whole.
        digest: Digest,
    },
    /// It will not be completed. A gap follows.
    Abort {
        /// [`Code::PUBLISHER_GONE`] or [`Code::EVICTED`].
        code: Code,
    },
    /// Sequences that will never come.
    Gap {
        /// Daemon-wide id of the topic.
        id: u64,
        /// Names the run of sequences.
        epoch: u64,
        /// The topic.
        name: &'a Arc<str>,
        /// Where the subscription began in it.
        begin: u64,
        /// First sequence.
        first: u64,
        /// Last sequence.
        last: u64,
        /// Why.
        cause: GapCause,
    },
}

impl Item<'_> {
    /// The announcement that precedes a message or a gap which stands alone; none for what goes
    /// on.
    #[must_use]
    pub fn topic(&self) -> Option<Self> {
        Some(match *self {
            Self::Topic { id, epoch, next, name } => Self::Topic { id, epoch, next, name },
            Self::Message(message) | Self::Large(message) | Self::Begin(message) => {
                message.announcement()
            }
            Self::Gap { id, epoch, name, begin, .. } => {
                Self::Topic { id, epoch, next: begin, name }
            }
            Self::Chunk(_) | Self::End { .. } | Self::Abort { .. } => return None,
        })
    }
}

/// A message in the log.
#[derive(Debug, Clone, Copy)]
pub struct MessageRef<'a> {
    topic: &'a Topic,
    sequence: u64,
    entry: &'a Entry,
    begin: u64,
}

impl<'a> MessageRef<'a> {
    pub(crate) fn new(topic: &'a Topic, sequence: u64, entry: &'a Entry) -> Self {
        Self { topic, sequence, entry, begin: sequence }
    }

    // As part of a subscription that began there.
    pub(crate) fn since(self, begin: u64) -> Self {
        Self { begin, ..self }
    }

    /// The topic.
    pub fn topic(&self) -> &'a Arc<str> {
        &self.topic.name
    }

    /// Daemon-wide id of the topic.
    pub fn topic_id(&self) -> u64 {
        self.topic.id
    }

    /// Names the run of sequences.
    pub fn epoch(&self) -> u64 {
        self.topic.epoch
    }

    /// Sequence in the topic.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Its place in the order in which the engine accepted everything in this run: a subscription
    /// that has had this message and [resumes](crate::wire::Start::Resume) since this position
    /// goes on with the next.
    pub fn position(&self) -> u64 {
        self.entry.position
    }

    /// The announcement of its topic, as of a subscription that has it.
    pub fn announcement(&self) -> Item<'a> {
        let Topic { id, epoch, name, .. } = self.topic;
        Item::Topic { id: *id, epoch: *epoch, next: self.begin, name }
    }

    /// Times the payload had been published, this time included.
    pub fn count(&self) -> u64 {
        self.entry.count.count
    }

    /// The publisher's clock, µs since 1970; 0 is none.
    pub fn stamp(&self) -> u64 {
        self.entry.stamp
    }

    /// Digest of the payload.
    pub fn digest(&self) -> Digest {
        self.entry.digest
    }

    /// Who published it, if that was said.
    pub fn origin(&self) -> Option<PublicationId> {
        self.entry.origin
    }

    /// Its bytes on the wire, shared by all; none of a large one, which is sent in chunks.
    pub fn encoded(&self) -> Option<&'a Encoded> {
        match &self.entry.body {
            Body::Small(encoded) => Some(encoded),
            _ => None,
        }
    }

    /// The payload of a large one, shared by all.
    pub fn rope(&self) -> Option<&'a Rope> {
        self.entry.body.rope()
    }

    /// The payload of a large one that is complete, shared by all.
    pub fn whole(&self) -> Option<&'a Arc<Rope>> {
        match &self.entry.body {
            Body::Large { rope, .. } => Some(rope),
            _ => None,
        }
    }

    /// Whether all of it has come.
    pub fn is_complete(&self) -> bool {
        self.entry.body.is_complete()
    }

    /// Length of the payload, bytes.
    pub fn size(&self) -> usize {
        self.entry.body.size()
    }

    /// The payload. Of a large one, a copy: rather [`join`](Rope::join) the [whole](Self::whole)
    /// without a lock.
    pub fn payload(&self) -> Bytes {
        match &self.entry.body {
            Body::Small(encoded) => encoded.payload(),
            body => body.rope().map(Rope::join).unwrap_or_default(),
        }
    }

    // Bytes that it takes on the wire, about.
    pub(crate) fn wire_len(&self) -> usize {
        self.encoded().map_or_else(|| self.size() + FRAME_OVERHEAD, Encoded::wire_len)
    }
}
