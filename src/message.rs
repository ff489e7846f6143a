//! What subscribers get and publishers are told, in process and over the network alike.

use crate::wire::{self, Delivery, Digest, GapCause, Lag, Position};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// One publication, as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: Arc<str>,
    /// Names the run of sequences.
    pub epoch: u64,
    /// Sequence in the topic, from 1.
    pub sequence: u64,
    /// Times this payload was published to the topic, this time included.
    pub count: u64,
    /// The publisher's clock, µs since 1970, if it said.
    pub stamp: Option<u64>,
    /// What was published.
    pub payload: Bytes,
    pub(crate) known: CachedDigest,
}

impl Message {
    /// Digest of the payload; computed here, about 1 µs a KiB, unless it came along.
    pub fn digest(&self) -> Digest {
        self.known.0.unwrap_or_else(|| Digest::of(&self.payload))
    }
}

/// The digest of a payload, where it has been computed before. Makes no difference to what a
/// message is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CachedDigest(pub(crate) Option<Digest>);

impl PartialEq for CachedDigest {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for CachedDigest {}

/// Sequences that a subscription will never get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The topic.
    pub topic: Arc<str>,
    /// Names the run of sequences.
    pub epoch: u64,
    /// First sequence.
    pub first: u64,
    /// Last sequence.
    pub last: u64,
    /// Why.
    pub cause: GapCause,
}

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message(Message),
    /// Messages that will never come.
    Gap(Gap),
}

/// How to subscribe. The default: the next messages, in order, with a gap told and the oldest
/// message there is next when the subscriber falls out of the cache.
#[derive(Debug, Clone, Default)]
pub struct SubscribeOptions {
    /// Where to begin. Default [`Start::New`].
    pub start: Start,
    /// How messages are carried. Default [`Delivery::Ordered`].
    pub delivery: Delivery,
    /// What to do when the subscriber falls out of the cache. Default [`Lag::Oldest`].
    pub lag: Lag,
    /// With [`Delivery::Realtime`]: what is older is given up, and told as a gap of cause
    /// [`Late`](GapCause::Late). In whole milliseconds, at least one. Default none: everything
    /// arrives, however late.
    pub deadline: Option<Duration>,
}

impl SubscribeOptions {
    /// As it is sent: 0 is none.
    pub(crate) fn deadline_ms(&self) -> u32 {
        self.deadline
            .map_or(0, |deadline| u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX).max(1))
    }

    /// The default with another start.
    pub fn from(start: Start) -> Self {
        Self { start, ..Self::default() }
    }
}

/// Where a subscription begins, in every topic that its filter matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next message.
    #[default]
    New,
    /// With the newest message there is.
    Latest,
    /// With the oldest message there is.
    All,
    /// With the n-th newest message, or the oldest there is.
    Last(u64),
    /// With this sequence; a gap tells what has left the cache.
    Sequence(u64),
    /// Where an earlier subscription stopped; a gap tells what has left the cache.
    Resume(ResumePoint),
}

/// How far a subscription has come: hand it to [`Start::Resume`] to miss and repeat nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumePoint {
    pub(crate) since: Position,
    pub(crate) topics: Vec<Resumed>,
}

/// How far it has come in one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resumed {
    pub(crate) topic: Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) next: u64,
    /// Ranges above `next` that it has had, in order.
    pub(crate) had: Vec<(u64, u64)>,
}

impl Start {
    pub(crate) fn to_wire(&self) -> wire::Start<'_> {
        match self {
            Self::New => wire::Start::New,
            Self::Latest => wire::Start::Latest,
            Self::All => wire::Start::All,
            Self::Last(n) => wire::Start::Last(*n),
            Self::Sequence(sequence) => wire::Start::Sequence(*sequence),
            Self::Resume(point) => wire::Start::Resume {
                since: point.since,
                topics: point
                    .topics
                    .iter()
                    .map(|Resumed { topic, epoch, next, .. }| wire::Resume {
                        topic,
                        epoch: *epoch,
                        next: *next,
                    })
                    .collect(),
            },
        }
    }
}
