//! The entries of a log, and what a sequencer decides about them.

use crate::engine::payload::Payload;
use crate::engine::publication::PublicationId;
use crate::wire::Digest;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Names an upload while its chunks are in the log: a random number of whoever proposes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogUpload(pub [u8; 16]);

/// One entry of a log.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Its number. Numbers grow, from 1 on; some may be left out.
    pub number: u64,
    /// Time at which the log took it, µs since 1970. It is part of the log, and no replica's own.
    pub time: u64,
    /// The change.
    pub change: LogChange,
}

/// A change that was proposed.
#[derive(Debug, Clone)]
pub enum LogChange {
    /// A publication as a whole.
    Publish {
        /// The topic.
        topic: Arc<str>,
        /// As in [`Publication`](crate::engine::Publication).
        origin: Option<PublicationId>,
        /// The publisher's clock, µs since 1970; 0 is none.
        stamp: u64,
        /// [`Digest::of`] the payload.
        digest: Digest,
        /// The payload.
        payload: Payload,
    },
    /// A large publication begins to arrive.
    Begin {
        /// Its name in the log.
        upload: LogUpload,
        /// The topic.
        topic: Arc<str>,
        /// As in [`Publication`](crate::engine::Publication).
        origin: Option<PublicationId>,
        /// The publisher's clock, µs since 1970; 0 is none.
        stamp: u64,
        /// Length of the payload, bytes.
        size: u64,
    },
    /// The next bytes of one that arrives.
    Chunk {
        /// Its name in the log.
        upload: LogUpload,
        /// The topic.
        topic: Arc<str>,
        /// Number of bytes before these.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// All its bytes are there.
    End {
        /// Its name in the log.
        upload: LogUpload,
        /// The topic.
        topic: Arc<str>,
        /// As in its beginning. So the end is answered also if the beginning was not taken.
        origin: Option<PublicationId>,
        /// Digest of the payload.
        digest: Digest,
    },
    /// It will never be complete.
    Abort {
        /// Its name in the log.
        upload: LogUpload,
        /// The topic.
        topic: Arc<str>,
    },
    /// It means nothing, and moves the log on.
    Nothing,
}

/// The place of a message, as all replicas give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlace {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id: the number of the entry that created it.
    pub topic: u64,
    /// The message's sequence.
    pub sequence: u64,
    /// The number of the entry that brought the message before it, or its beginning; 0 is none.
    pub before: u64,
}

/// The meaning of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// Uploads that end now, and will never be complete.
    pub aborted: Vec<AbortedUpload>,
    /// The decision, which is applied after that.
    pub decision: Decision,
}

/// An upload that will never be complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbortedUpload {
    /// The topic's id.
    pub topic: u64,
    /// The message's sequence.
    pub sequence: u64,
    /// Whether its producer has begun it again.
    pub superseded: bool,
}

/// The meaning of an entry, beside the uploads that it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A publication is accepted.
    Accept(LogPlace),
    /// A large publication begins to arrive.
    Begin(LogPlace),
    /// The next bytes of it are appended.
    Append {
        /// The topic's id.
        topic: u64,
        /// The message's sequence.
        sequence: u64,
    },
    /// It is accepted.
    End {
        /// Its place.
        at: LogPlace,
        /// The place of the topic's next message.
        head: LogPlace,
    },
    /// A publication was accepted before.
    Duplicate {
        /// The topic's id.
        topic: u64,
        /// The message's sequence; 0 if it is not known.
        sequence: u64,
        /// The digest of its payload, if it had a key: that may have been another payload.
        digest: Option<Digest>,
    },
    /// It is not known whether a publication was accepted before: it is refused.
    Stale,
    /// Nothing: the entry's upload has ended, its topic is malformed, or it was applied before.
    Nothing,
}
