//! The items of a read, kept after the engine's lock is released.
//!
//! A read hands out [items](Item) that borrow from the log, and their readers send without the
//! lock. They keep the shared bytes of a small message, a reference to a large one, and the names
//! and numbers of announcements and gaps.

use crate::engine::{Item, MessageRef};
use crate::wire::{DaemonFrame, Encoded, GapCause};
use bytes::Bytes;
use std::sync::Arc;

/// One item of a read.
#[derive(Debug)]
pub(crate) enum OwnedItem {
    /// A topic's first message or gap follows.
    Topic(OwnedTopic),
    /// A small message.
    Message(OwnedMessage),
    /// A large message, which stays in the cache.
    Large(LargeRef, OwnedTopic),
    /// Sequences that will never come.
    Gap(OwnedGap),
}

/// The announcement of a topic.
#[derive(Debug, Clone)]
pub(crate) struct OwnedTopic {
    /// Daemon-wide id, which frames use in place of the name.
    pub(crate) id: u64,
    /// Names the run of sequences.
    pub(crate) epoch: u64,
    /// The sequence with which the subscription begins.
    pub(crate) next: u64,
    pub(crate) name: Arc<str>,
}

/// A small message. Its bytes are shared with the cache.
#[derive(Debug)]
pub(crate) struct OwnedMessage {
    /// The topic's id.
    pub(crate) topic: u64,
    pub(crate) sequence: u64,
    pub(crate) encoded: Encoded,
}

/// A large message. It pins nothing: it is read from the cache when its turn has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LargeRef {
    /// The topic's id.
    pub(crate) topic: u64,
    pub(crate) sequence: u64,
    /// As [`MessageRef::position`].
    pub(crate) position: u64,
    /// Length of the payload, bytes.
    pub(crate) size: usize,
}

/// Sequences of a topic that will never come.
#[derive(Debug)]
pub(crate) struct OwnedGap {
    pub(crate) topic: OwnedTopic,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) cause: GapCause,
}

impl OwnedItem {
    /// Keeps an item. Returns `None` for the parts of a large message that is read in chunks.
    pub(crate) fn new(item: &Item<'_>) -> Option<Self> {
        match item {
            Item::Topic { .. } => OwnedTopic::of(item).map(Self::Topic),
            Item::Message(message) | Item::Large(message) => Self::message(message),
            Item::Gap { first, last, cause, .. } => {
                let topic = OwnedTopic::of(item)?;
                Some(Self::Gap(OwnedGap { topic, first: *first, last: *last, cause: *cause }))
            }
            Item::Begin(_) | Item::Chunk(_) | Item::End { .. } | Item::Abort { .. } => None,
        }
    }

    fn message(message: &MessageRef<'_>) -> Option<Self> {
        match OwnedMessage::new(message) {
            Some(message) => Some(Self::Message(message)),
            None => {
                let topic = OwnedTopic::of(&message.announcement())?;
                Some(Self::Large(LargeRef::new(message), topic))
            }
        }
    }
}

impl OwnedTopic {
    /// Keeps the announcement that precedes `item` where it stands alone. Returns `None` for what
    /// continues a message.
    pub(crate) fn of(item: &Item<'_>) -> Option<Self> {
        match item.topic()? {
            Item::Topic { id, epoch, next, name } => {
                Some(Self { id, epoch, next, name: name.clone() })
            }
            _ => None,
        }
    }

    pub(crate) fn frame(&self) -> Bytes {
        self.as_frame().to_bytes()
    }

    /// Appends the frame to frames that are sent together.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.as_frame().encode(out);
    }

    fn as_frame(&self) -> DaemonFrame<'_> {
        let Self { id, epoch, next, ref name } = *self;
        DaemonFrame::Topic { id, epoch, next, name }
    }
}

impl OwnedMessage {
    /// Shares the bytes of a small message. Returns `None` for a large one.
    pub(crate) fn new(message: &MessageRef<'_>) -> Option<Self> {
        let (topic, sequence) = (message.topic_id(), message.sequence());
        Some(Self { topic, sequence, encoded: message.encoded()?.clone() })
    }
}

impl LargeRef {
    pub(crate) fn new(message: &MessageRef<'_>) -> Self {
        let (topic, sequence) = (message.topic_id(), message.sequence());
        Self { topic, sequence, position: message.position(), size: message.size() }
    }
}

impl OwnedGap {
    pub(crate) fn frame(&self) -> Bytes {
        let Self { ref topic, first, last, cause } = *self;
        DaemonFrame::Gap { topic: topic.id, first, last, cause }.to_bytes()
    }
}
