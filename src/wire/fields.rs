//! Types of the fields of frames. As with frames, variants are only appended and fields never
//! change.

use super::Digest;
use super::resume::{self, Had, Resume};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Names a producer, which numbers its own publications. It consists of 16 random bytes that are
/// kept across reconnects, so that a publication that is sent twice is accepted once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProducerId(pub [u8; 16]);

impl fmt::Debug for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The limits that a daemon announces in its welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Maximum size of a payload, bytes.
    pub payload: u64,
    /// Maximum number of subscriptions in a session.
    pub subscriptions: u32,
    /// Maximum distance between the number of a publication and the oldest number that is not
    /// accepted yet.
    pub window: u32,
}

/// The first message of a subscription, in every topic that its filter matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start<'a> {
    /// The next message.
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
    Resume {
        /// The position where that subscription began. It applies to topics that are not listed.
        since: Position,
        /// The topics that were announced to that subscription; at most
        /// [`MAX_RESUMED`](super::MAX_RESUMED).
        #[serde(borrow, deserialize_with = "resume::topics")]
        topics: Vec<Resume<'a>>,
    },
    /// As `Resume`, for a client that has received messages above the next one that it needs. The
    /// subscription does not receive these again: a gap of cause [`Had`](super::GapCause::Had)
    /// stands for them.
    ResumeWith {
        /// As in `Resume`.
        since: Position,
        /// As in `Resume`.
        #[serde(borrow, deserialize_with = "resume::topics")]
        topics: Vec<Resume<'a>>,
        /// The ranges that the client has received above the next sequences; at most
        /// [`MAX_HAD`](super::MAX_HAD).
        #[serde(deserialize_with = "resume::had")]
        had: Vec<Had>,
    },
}

/// A point in the order in which a daemon accepted the messages of all topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// As in [`Welcome`](super::DaemonFrame::Welcome).
    pub run: u64,
    /// As in [`Subscribed`](super::DaemonFrame::Subscribed).
    pub position: u64,
}

/// The next sequence that a reader needs in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicCursor {
    /// Names the run of the topic's sequences.
    pub epoch: u64,
    /// The sequence.
    pub next: u64,
}

/// How the messages of a subscription are carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// On one unidirectional stream, in order.
    #[default]
    Ordered,
    /// Each on a unidirectional stream of its own, in the order of arrival.
    Unordered,
    /// In datagrams, in the order of arrival. The cache repairs what is lost.
    Realtime,
}

/// The reaction of a subscription to the eviction of messages that it needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lag {
    /// It receives a gap, and continues with the oldest message in the cache.
    #[default]
    Oldest,
    /// It receives a gap, and continues with the newest message.
    Newest,
    /// It ends.
    Disconnect,
}

/// Selects a message of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Which {
    /// The newest.
    Latest,
    /// The one with this sequence.
    Sequence(u64),
    /// The newest with this payload.
    Digest(Digest),
}

/// One payload among the most counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopEntry<'a> {
    /// Digest of the payload.
    pub digest: Digest,
    /// Its count.
    pub count: u64,
    /// As in [`Receipt`](super::DaemonFrame::Receipt).
    pub since: u64,
    /// Sequence of its newest publication.
    pub sequence: u64,
    /// Size of the payload, bytes.
    pub size: u64,
    /// The payload, if it is cached and has at most 1 KiB.
    #[serde(borrow)]
    pub payload: Option<&'a [u8]>,
}
