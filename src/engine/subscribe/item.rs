//! The items that a read yields, borrowed from the log.

use crate::engine::publication::PublicationId;
use crate::engine::rope::Rope;
use crate::engine::topic::Topic;
use crate::engine::topic::body::Body;
use crate::engine::topic::log::Entry;
use crate::wire::{Code, Digest, Encoded, FRAME_OVERHEAD, GapCause};
use bytes::Bytes;
use std::sync::Arc;

/// An item that [`Engine::read`](crate::engine::Engine::read) yields.
#[derive(Debug)]
pub enum Item<'a> {
    /// The announcement of a topic, before its first message or gap.
    Topic {
        /// Daemon-wide id.
        id: u64,
        /// Names the run of sequences.
        epoch: u64,
        /// The sequence at which the subscription begins in it.
        next: u64,
        /// The topic.
        name: &'a Arc<str>,
    },
    /// A message that is complete.
    Message(MessageRef<'a>),
    /// A large message, complete or not: [`Engine::follow`](crate::engine::Engine::follow) it.
    /// Only with [`AnnounceOnly`](crate::engine::LargePayloads::AnnounceOnly).
    Large(MessageRef<'a>),
    /// A large message begins. [`Chunk`](Self::Chunk)s and [`End`](Self::End) or
    /// [`Abort`](Self::Abort) follow, perhaps in later reads, with items of other topics in between.
    /// Only with [`InChunks`](crate::engine::LargePayloads::InChunks), and the same for these.
    Begin(MessageRef<'a>),
    /// The next bytes of its payload, at most [`CHUNK`](crate::wire::CHUNK).
    Chunk(Bytes),
    /// It is complete.
    End {
        /// As [`MessageRef::count`].
        count: u64,
        /// Digest of the payload.
        digest: Digest,
    },
    /// The rest of it will not come.
    Abort {
        /// [`Code::PUBLISHER_GONE`] or [`Code::EVICTED`]: a gap follows. [`Code::OVERTAKEN`]: the
        /// message begins again later, or a gap follows.
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
        /// The sequence at which the subscription began in it.
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
    /// Returns the announcement that precedes a message or a gap, if it is sent alone. Items that
    /// continue a large message have none.
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

    // As part of a subscription that began at this sequence.
    pub(super) fn since(self, begin: u64) -> Self {
        Self { begin, ..self }
    }

    /// Returns the topic.
    pub fn topic(&self) -> &'a Arc<str> {
        self.topic.name()
    }

    /// Returns the daemon-wide id of the topic.
    pub fn topic_id(&self) -> u64 {
        self.topic.id()
    }

    /// Returns the name of the run of sequences.
    pub fn epoch(&self) -> u64 {
        self.topic.epoch()
    }

    /// Returns the sequence in the topic.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns its place in the order in which the engine accepted all messages of this run. A
    /// subscription that has received this message and [resumes](crate::wire::Start::Resume) since
    /// this position goes on with the next.
    pub fn position(&self) -> u64 {
        self.entry.position
    }

    /// Returns the announcement of its topic, for the subscription that receives it.
    pub fn announcement(&self) -> Item<'a> {
        let topic = self.topic;
        Item::Topic { id: topic.id(), epoch: topic.epoch(), next: self.begin, name: topic.name() }
    }

    /// Returns how many times the payload had been published, this time included.
    pub fn count(&self) -> u64 {
        self.entry.count.count
    }

    /// Returns when the daemon accepted it, µs since 1970.
    pub fn accepted(&self) -> u64 {
        self.entry.accepted
    }

    /// Returns the publisher's clock, µs since 1970; 0 is none.
    pub fn stamp(&self) -> u64 {
        self.entry.stamp
    }

    /// Returns the digest of the payload.
    pub fn digest(&self) -> Digest {
        self.entry.digest
    }

    /// Returns the producer and the number of the publication, if it had them.
    pub fn origin(&self) -> Option<PublicationId> {
        self.entry.origin
    }

    /// Returns its bytes on the wire, shared by all. A large message has none: it is sent in chunks.
    pub fn encoded(&self) -> Option<&'a Encoded> {
        match &self.entry.body {
            Body::Small(encoded) => Some(encoded),
            _ => None,
        }
    }

    /// Returns the payload of a large message, as far as it has arrived, shared by all.
    pub fn rope(&self) -> Option<&'a Rope> {
        self.entry.body.rope()
    }

    /// Returns the payload of a large message that is complete, shared by all.
    pub fn whole(&self) -> Option<&'a Arc<Rope>> {
        match &self.entry.body {
            Body::Large { rope, .. } => Some(rope),
            _ => None,
        }
    }

    /// Returns whether all of it has arrived.
    pub fn is_complete(&self) -> bool {
        self.entry.body.is_complete()
    }

    /// Returns the length of the payload, bytes.
    pub fn size(&self) -> usize {
        self.entry.body.size()
    }

    /// Returns the payload. That of a large message is copied: rather [`join`](Rope::join) the
    /// [rope](Self::whole) after the lock is released.
    pub fn payload(&self) -> Bytes {
        match &self.entry.body {
            Body::Small(encoded) => encoded.payload(),
            body => body.rope().map(Rope::join).unwrap_or_default(),
        }
    }

    // Bytes that it takes on the wire, about.
    pub(super) fn wire_len(&self) -> usize {
        self.encoded().map_or_else(|| self.size() + FRAME_OVERHEAD, Encoded::wire_len)
    }
}
