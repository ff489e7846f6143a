//! What frames are made of. As with frames: variants are only appended, fields never change.

use super::Digest;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Most topics that a subscription resumes by name, 65,536. Three bytes on the wire are 32 in
/// memory: a frame of the largest size, full of the shortest, would take 11 MiB and not 2.
pub const MAX_RESUMED: usize = 1 << 16;

/// A producer: whoever numbers its own publications. Sixteen random bytes, kept across
/// reconnects, so that a publication sent twice is accepted once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProducerId(pub [u8; 16]);

impl fmt::Debug for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What a daemon accepts, told in the welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest payload, bytes.
    pub payload: u64,
    /// Most subscriptions in a session.
    pub subscriptions: u32,
    /// How many numbers a publication may be ahead of the oldest one not accepted yet.
    pub window: u32,
}

/// Where a subscription begins, in every topic that its filter matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start<'a> {
    /// With the next message.
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
    Resume {
        /// Where that subscription began: covers the topics it never heard of.
        since: Position,
        /// The topics it did hear of; [`MAX_RESUMED`] at most.
        #[serde(borrow, deserialize_with = "resumed")]
        topics: Vec<Resume<'a>>,
    },
}

/// A point in the order in which a daemon accepted everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// From [`Welcome`](super::DaemonFrame::Welcome).
    pub run: u64,
    /// From [`Subscribed`](super::DaemonFrame::Subscribed).
    pub position: u64,
}

/// A cursor as the client shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Its epoch when last heard of.
    pub epoch: u64,
    /// The next sequence wanted.
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
            // What it says of its length is not believed.
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
    /// On one uni stream, in order.
    #[default]
    Ordered,
    /// On a uni stream each, as they arrive.
    Unordered,
    /// In datagrams, repaired from the cache, as they arrive.
    Realtime,
}

/// What happens to a subscription whose cursor falls out of the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lag {
    /// A gap is told, and it goes on with the oldest message there is.
    #[default]
    Oldest,
    /// A gap is told, and it goes on with the newest.
    Newest,
    /// It is ended.
    Disconnect,
}

/// Why sequences will never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapCause {
    /// They have left the cache.
    Evicted,
    /// They were passed over, as [`Lag::Newest`] asks; or one that still arrives was, as the
    /// subscription waits for very many of these.
    Skipped,
    /// Their publisher went away half-way.
    Aborted,
    /// They were older than the subscription's deadline.
    Late,
}

/// Which message of a topic.
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
    /// Length, bytes.
    pub size: u64,
    /// The payload, if it is cached and no longer than 1 KiB.
    #[serde(borrow)]
    pub payload: Option<&'a [u8]>,
}
