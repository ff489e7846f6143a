//! What a realtime delivery has read, to be sent without the lock.

use crate::engine::{Item, MessageRef};
use crate::net::delivery::stream::frame_of;
use crate::net::delivery::stream_pool::LargeRef;
use crate::wire::Encoded;
use bytes::Bytes;

/// An item, kept.
pub(crate) enum Piece {
    /// An announcement, for the stream and for datagrams.
    Topic(u64, Bytes),
    /// For the stream.
    Gap(Bytes),
    /// A small message.
    Message(SmallMessage),
    /// A large one, and the announcement of its topic.
    Large(LargeRef, Bytes),
}

/// A small message.
pub(crate) struct SmallMessage {
    pub(crate) topic: u64,
    pub(crate) sequence: u64,
    pub(crate) message: Encoded,
}

impl SmallMessage {
    pub(crate) fn new(message: &MessageRef<'_>) -> Option<Self> {
        Some(Self {
            topic: message.topic_id(),
            sequence: message.sequence(),
            message: message.encoded()?.clone(),
        })
    }
}

/// Keeps an item. Gives the bytes that it takes: large ones do not say that the peer is behind.
pub(crate) fn take(item: &Item<'_>, pieces: &mut Vec<Piece>) -> usize {
    match item {
        Item::Message(message) => {
            let told = SmallMessage::new(message);
            let bytes = told.as_ref().map_or(0, |told| told.message.wire_len());
            pieces.extend(told.map(Piece::Message));
            return bytes;
        }
        Item::Large(message) => {
            let name = frame_of(&message.announcement());
            pieces.push(Piece::Large(LargeRef::new(message), name));
        }
        Item::Topic { id, .. } => pieces.push(Piece::Topic(*id, frame_of(item))),
        _ => pieces.push(Piece::Gap(frame_of(item))),
    }
    0
}
