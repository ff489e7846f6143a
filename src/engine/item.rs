//! What subscribers get, borrowed from the log.

use super::log::{Entry, Origin};
use super::topic::Topic;
use crate::wire::{Digest, Encoded, GapCause};
use bytes::Bytes;
use std::sync::Arc;

/// What [`Engine::read`](super::Engine::read) hands out.
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
    /// A message.
    Message(MessageRef<'a>),
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
    /// The announcement that precedes a message or a gap which stands alone.
    #[must_use]
    pub fn topic(&self) -> Self {
        match *self {
            Self::Topic { id, epoch, next, name } => Self::Topic { id, epoch, next, name },
            Self::Message(MessageRef { topic, begin, .. }) => {
                let Topic { id, epoch, name, .. } = topic;
                Self::Topic { id: *id, epoch: *epoch, next: begin, name }
            }
            Self::Gap { id, epoch, name, begin, .. } => {
                Self::Topic { id, epoch, next: begin, name }
            }
        }
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
    pub(super) fn new(topic: &'a Topic, sequence: u64, entry: &'a Entry) -> Self {
        Self { topic, sequence, entry, begin: sequence }
    }

    // As part of a subscription that began there.
    pub(super) fn since(self, begin: u64) -> Self {
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
    pub fn origin(&self) -> Option<Origin> {
        self.entry.origin
    }

    /// Its bytes on the wire, shared by all.
    pub fn encoded(&self) -> &'a Encoded {
        &self.entry.encoded
    }

    /// The payload, shared by all.
    pub fn payload(&self) -> Bytes {
        self.entry.encoded.payload()
    }
}
