//! Messages, events and options of subscriptions, in process and over the network.

use crate::wire::{
    self, Delivery, Digest, GapCause, Had, Lag, MAX_HAD, MAX_HAD_OF_TOPIC, Position, TopEntry,
    nonzero,
};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// One publication, as a subscriber receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: Arc<str>,
    /// Epoch of the topic's sequences.
    pub epoch: u64,
    /// Sequence in the topic, from 1.
    pub sequence: u64,
    /// How often the payload has been published to the topic, this publication included.
    pub count: u64,
    /// The publisher's clock, µs since 1970, if it sent one.
    pub stamp: Option<u64>,
    /// The published bytes.
    pub payload: Bytes,
    pub(crate) digest: CachedDigest,
}

impl Message {
    /// Returns the digest of the payload. Computes it, in about 1 µs a KiB, unless it is known.
    pub fn digest(&self) -> Digest {
        self.digest.0.unwrap_or_else(|| Digest::of(&self.payload))
    }
}

/// A publication was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Its sequence in the topic.
    pub sequence: u64,
    /// How often the payload has been published to the topic, this publication included.
    pub count: u64,
    /// The time at which counting restarted, µs since 1970, if earlier publications may be missing
    /// from the count.
    pub since: Option<u64>,
    /// Digest of the payload, as the daemon computed it.
    pub digest: Digest,
    /// Whether the daemon had accepted the publication before, and so did not count it again. This
    /// happens when a session ends before the receipt arrives, and the client sends it again. Within
    /// the process it is never so.
    pub duplicate: bool,
}

/// A payload among the most counted of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ranking {
    /// Digest of the payload.
    pub digest: Digest,
    /// Its count.
    pub count: u64,
    /// As in [`Receipt::since`].
    pub since: Option<u64>,
    /// Sequence of its newest publication.
    pub sequence: u64,
    /// Size of the payload, bytes.
    pub size: u64,
    /// The payload, if it is cached and has at most 1 KiB.
    pub payload: Option<Bytes>,
}

impl Ranking {
    pub(crate) fn from_wire(entry: &TopEntry<'_>) -> Self {
        Self {
            digest: entry.digest,
            count: entry.count,
            since: nonzero(entry.since),
            sequence: entry.sequence,
            size: entry.size,
            payload: entry.payload.map(Bytes::copy_from_slice),
        }
    }
}

/// The digest of a payload, if it was computed before. Two messages are equal whether or not it was.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CachedDigest(pub(crate) Option<Digest>);

impl PartialEq for CachedDigest {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for CachedDigest {}

/// Sequences that a subscription will never receive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The topic.
    pub topic: Arc<str>,
    /// Epoch of the topic's sequences.
    pub epoch: u64,
    /// First sequence.
    pub first: u64,
    /// Last sequence.
    pub last: u64,
    /// The reason.
    pub cause: GapCause,
}

/// The session of a subscription has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interruption {
    /// The code of the daemon's goodbye, if it sent one.
    pub code: Option<wire::Code>,
    /// The reason in words.
    pub reason: String,
}

/// An item of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message(Message),
    /// Messages that will never arrive.
    Gap(Gap),
    /// The session has ended, and the client opens another. The subscription then continues where it
    /// stopped: nothing is missed or repeated, and messages that were evicted meanwhile are reported
    /// as a gap. A subscription in process is never interrupted.
    Interrupted(Interruption),
}

/// Options of a subscription.
///
/// By default it receives the next messages, in order. If messages that it needs are evicted, it
/// receives a gap, and continues with the oldest message in the cache.
///
/// ```
/// use std::time::Duration;
/// use weir::wire::Delivery;
/// use weir::{Start, SubscribeOptions};
///
/// let everything = SubscribeOptions::from(Start::All);
/// let hurried = SubscribeOptions::default()
///     .with_delivery(Delivery::Realtime)
///     .with_deadline(Duration::from_millis(100));
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SubscribeOptions {
    /// The first message. Default [`Start::New`].
    pub start: Start,
    /// How messages are carried. Default [`Delivery::Ordered`].
    pub delivery: Delivery,
    /// The reaction to the eviction of messages that the subscriber needs. Default
    /// [`Lag::Oldest`].
    pub lag: Lag,
    /// Maximum age of a message with [`Delivery::Realtime`]. Older ones are dropped, and reported as
    /// a gap with the cause [`Late`](GapCause::Late). In whole milliseconds, at least one. Default
    /// none: all messages arrive, however late.
    pub deadline: Option<Duration>,
}

impl SubscribeOptions {
    /// Returns the deadline in a frame, ms; 0 means none.
    pub(crate) fn deadline_ms(&self) -> u32 {
        self.deadline
            .map_or(0, |deadline| u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX).max(1))
    }

    /// Returns the default options with another start.
    pub fn from(start: Start) -> Self {
        Self { start, ..Self::default() }
    }

    /// Returns the options with another [`delivery`](Self::delivery).
    #[must_use]
    pub fn with_delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// Returns the options with another [`lag`](Self::lag).
    #[must_use]
    pub fn with_lag(mut self, lag: Lag) -> Self {
        self.lag = lag;
        self
    }

    /// Returns the options with another [`deadline`](Self::deadline).
    #[must_use]
    pub fn with_deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.deadline = deadline.into();
        self
    }
}

/// The first message of a subscription, in every topic that its filter matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// The next message.
    #[default]
    New,
    /// The newest message in the cache.
    Latest,
    /// The oldest message in the cache.
    All,
    /// The n-th newest message, or the oldest one in the cache.
    Last(u64),
    /// The message with this sequence. A gap reports the messages that have left the cache.
    Sequence(u64),
    /// The message at which an earlier subscription stopped. A gap reports the messages that have
    /// left the cache.
    Resume(ResumePoint),
}

/// The progress of a subscription. With [`Start::Resume`], a new subscription continues from there,
/// and neither misses nor repeats a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumePoint {
    pub(crate) since: Position,
    pub(crate) topics: Vec<Resumed>,
}

/// The progress in one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resumed {
    pub(crate) topic: Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) next: u64,
    /// Ranges above `next` that it has received, in order.
    pub(crate) received: Vec<(u64, u64)>,
}

impl Start {
    pub(crate) fn to_wire(&self) -> wire::Start<'_> {
        match self {
            Self::New => wire::Start::New,
            Self::Latest => wire::Start::Latest,
            Self::All => wire::Start::All,
            Self::Last(n) => wire::Start::Last(*n),
            Self::Sequence(sequence) => wire::Start::Sequence(*sequence),
            Self::Resume(point) => point.to_wire(),
        }
    }
}

impl ResumePoint {
    fn to_wire(&self) -> wire::Start<'_> {
        let since = self.since;
        let named = self.topics.iter().map(|Resumed { topic, epoch, next, .. }| wire::Resume {
            topic,
            epoch: *epoch,
            next: *next,
        });
        let topics = named.collect();
        let had = self.had();
        if had.is_empty() {
            wire::Start::Resume { since, topics }
        } else {
            wire::Start::ResumeWith { since, topics, had }
        }
    }

    // Returns the ranges above the next sequences, as many as fit. Without the others, the daemon
    // sends some messages again, which are dropped.
    fn had(&self) -> Vec<Had> {
        let mut left = MAX_HAD;
        let with_ranges = self.topics.iter().enumerate().filter(|(_, of)| !of.received.is_empty());
        let had = with_ranges.map_while(|(at, Resumed { next, received, .. })| {
            let fit = received.len().min(MAX_HAD_OF_TOPIC).min(left);
            left -= fit;
            (fit > 0).then(|| Had::new(at as u32, *next, &received[..fit]))
        });
        had.collect()
    }
}
