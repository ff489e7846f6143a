//! Items that a stream of events has read from the engine, and has not written yet.

use crate::broker::owned_item::LargeRef;
use crate::engine::{Charge, Item, MessageRef};
use crate::http::large;
use crate::http::sent::Unsent;
use crate::json::Head;
use crate::wire::{Digest, GapCause};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// Maximum size of the text of what is held, bytes: a piece of a payload in escapes, and the fields
/// around it.
pub(super) const TEXT: usize = 64 << 10;

/// Memory that a message takes beside its payload, bytes.
const MESSAGE: usize = 256;

/// A message or a gap.
pub(super) enum UnwrittenItem {
    Message(Message),
    Gap(Gap),
}

impl UnwrittenItem {
    pub(super) fn unsent(&self) -> Unsent {
        match self {
            Self::Message(message) => (message.id, message.sequence, Some(message.position)),
            Self::Gap(gap) => (gap.id, gap.first, None),
        }
    }
}

pub(super) struct Gap {
    /// Id of the topic.
    pub(super) id: u64,
    pub(super) topic: Arc<str>,
    pub(super) epoch: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) cause: GapCause,
    /// Whether the client has received none of these sequences.
    pub(super) exact: bool,
}

pub(super) struct Message {
    /// Id of the topic.
    pub(super) id: u64,
    topic: Arc<str>,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    pub(super) position: u64,
    count: u64,
    digest: Digest,
    stamp: u64,
    pub(super) payload: Payload,
}

pub(super) enum Payload {
    /// The bytes, shared with the cache.
    Small(Bytes),
    /// A payload that stays in the cache. It is read while it is sent.
    Large(LargeRef),
}

impl Message {
    fn of(message: &MessageRef<'_>) -> Self {
        let payload = match message.rope() {
            Some(_) => Payload::Large(LargeRef::new(message)),
            None => Payload::Small(message.payload()),
        };
        Self {
            id: message.topic_id(),
            topic: message.topic().clone(),
            epoch: message.epoch(),
            sequence: message.sequence(),
            position: message.position(),
            count: message.count(),
            digest: message.digest(),
            stamp: message.stamp(),
            payload,
        }
    }

    pub(super) fn head(&self) -> Head<'_> {
        let Self { topic, sequence, count, digest, stamp, .. } = self;
        Head { topic, sequence: *sequence, count: *count, digest: *digest, stamp: *stamp }
    }

    // Returns the memory that the message pins, or takes while it is sent, bytes.
    fn cost(&self) -> usize {
        MESSAGE
            + match &self.payload {
                Payload::Small(payload) => payload.len(),
                Payload::Large(_) => large::MAX_READ,
            }
    }

    /// Converts a message that has left the cache before any of it was sent.
    pub(super) fn into_gap(self, cause: GapCause) -> Gap {
        let Self { id, topic, epoch, sequence, .. } = self;
        Gap { id, topic, epoch, first: sequence, last: sequence, cause, exact: true }
    }
}

/// The items of one read.
#[derive(Default)]
pub(super) struct ReadItems {
    pub(super) items: VecDeque<UnwrittenItem>,
    /// The highest position that was read.
    pub(super) highest: u64,
    // Whether the stream was resumed from a position, without a sequence of its topic.
    by_position: bool,
    // Memory that the items of the read take, bytes.
    cost: usize,
    // Whether the last item announced a topic.
    announced: bool,
}

impl ReadItems {
    pub(super) fn new(by_position: bool) -> Self {
        Self { by_position, ..Self::default() }
    }

    /// Reduces the charge for a read to what its items take.
    pub(super) fn settle(&mut self, mut charge: Charge) -> Arc<Charge> {
        // Text has at most six bytes for each byte of a payload.
        let cost = std::mem::take(&mut self.cost);
        charge.resize((cost + cost.saturating_mul(6).min(TEXT)).min(charge.bytes()));
        Arc::new(charge)
    }

    /// Keeps an item.
    pub(super) fn push(&mut self, item: &Item<'_>) {
        let just_announced = std::mem::take(&mut self.announced);
        match item {
            Item::Topic { .. } => self.announced = true,
            Item::Message(message) => {
                let message = Message::of(message);
                self.cost += message.cost();
                self.highest = self.highest.max(message.position);
                self.items.push_back(UnwrittenItem::Message(message));
            }
            Item::Gap { id, epoch, name, first, last, cause, .. } => {
                self.items.push_back(UnwrittenItem::Gap(Gap {
                    id: *id,
                    topic: (*name).clone(),
                    epoch: *epoch,
                    first: *first,
                    last: *last,
                    cause: *cause,
                    // The gap of a topic that was not named on resuming may begin before what the
                    // client has received.
                    exact: !(self.by_position && just_announced) && *cause != GapCause::Lost,
                }));
            }
            // The stream reads complete messages only.
            Item::Large(_)
            | Item::Begin(_)
            | Item::Chunk(_)
            | Item::End { .. }
            | Item::Abort { .. } => {}
        }
    }
}
