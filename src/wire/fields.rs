//! Types of the fields of frames. As with frames, variants are only appended and fields never
//! change.

use super::Digest;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Maximum number of topics that a subscription resumes by name: 65,536.
///
/// An entry of three bytes on the wire takes 32 bytes in memory. Without the limit, a frame of the
/// maximum size with the shortest entries would take 11 MiB. With it, a frame takes 2 MiB.
pub const MAX_RESUMED: usize = 1 << 16;

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
        /// The topics that were announced to that subscription; at most [`MAX_RESUMED`].
        #[serde(borrow, deserialize_with = "resumed")]
        topics: Vec<Resume<'a>>,
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

/// The cursor of one topic, as the client sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The epoch that the client received last.
    pub epoch: u64,
    /// The next sequence that the client needs.
    pub next: u64,
}

/// The next sequence that a reader needs in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicCursor {
    /// Names the run of the topic's sequences.
    pub epoch: u64,
    /// The sequence.
    pub next: u64,
}

fn resumed<'de: 'a, 'a, D: Deserializer<'de>>(bytes: D) -> Result<Vec<Resume<'a>>, D::Error> {
    struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Vec<Resume<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_RESUMED} topics")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            // The list's length is not used to reserve memory, because the peer may lie about it.
            let mut topics = Vec::new();
            while let Some(topic) = list.next_element()? {
                if topics.len() == MAX_RESUMED {
                    return Err(A::Error::custom("too many topics"));
                }
                topics.push(topic);
            }
            Ok(topics)
        }
    }

    bytes.deserialize_seq(List)
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

/// Why a subscription will never receive some sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapCause {
    /// They have left the cache.
    Evicted,
    /// They were skipped because of [`Lag::Newest`], or because the subscription waits for too many
    /// messages that are still arriving.
    Skipped,
    /// The publisher left before its payload was complete.
    Aborted,
    /// They were older than the subscription's deadline.
    Late,
    /// The daemon has relayed them in an earlier run, and had not kept them when it ended. Whoever
    /// has received some of them is told that they were never accepted.
    Lost,
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
