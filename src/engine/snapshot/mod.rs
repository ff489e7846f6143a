//! A snapshot: everything that an engine has, in parts. It takes the place of all records before it.
//!
//! A snapshot is taken while publications go on, a part at a time. So its parts are of different
//! moments. A topic's part says which record was the last that it has; later records of the topic
//! are applied to it, and earlier ones are not. Messages follow their topic in parts of their own.
//! Those that were evicted meanwhile are missing. A message that arrives is in a snapshot with the
//! bytes that it has: later records bring the others. So a snapshot needs no record that was made
//! before it began, however long an upload takes.

mod capture;
mod restore;
mod topic;

pub use capture::Capture;

use super::payload::Payload;
use super::record::{Place, Total};
use super::runs::PastRun;
use crate::wire::ProducerId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

pub use super::topic::window::SavedWindow;

/// A part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The first part.
    Engine(EngineState),
    /// A topic, without its messages.
    Topic(Box<TopicState>),
    /// The next messages of a topic, in order.
    Messages {
        /// The topic's id.
        topic: u64,
        /// The messages.
        messages: Vec<SavedMessage>,
    },
    /// Counts of payloads that are not among the messages.
    Counts(Vec<SavedCount>),
    /// The last part.
    End {
        /// The number of the first record that is needed beside this snapshot.
        records_from: u64,
        /// The engine's position when counts were last dropped; 0 is never.
        dropped_at: u64,
    },
}

/// The state of an engine beside its topics.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineState {
    /// The name of its run.
    pub run: u64,
    /// Earlier runs.
    pub past: Vec<PastRun>,
    /// The key of its secret hashes.
    pub secret: [u8; 32],
    /// The position of the last message.
    pub position: u64,
    /// The id that the next topic will have.
    pub next_topic: u64,
    /// The number of the last record.
    pub recorded: u64,
}

impl fmt::Debug for EngineState {
    // Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, past, secret: _, position, next_topic, recorded } = self;
        f.debug_struct("EngineState")
            .field("run", run)
            .field("past", past)
            .field("position", position)
            .field("next_topic", next_topic)
            .field("recorded", recorded)
            .finish_non_exhaustive()
    }
}

/// A topic, without its messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicState {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: Arc<str>,
    /// The engine's position when it was created.
    pub created_at: u64,
    /// The sequence that its next message will have.
    pub next: u64,
    /// Position of the last message that has left its log; 0 is none.
    pub evicted_through: u64,
    /// The number of the last record that this has.
    pub recorded: u64,
    /// Its producers, the least recently used first.
    pub windows: Vec<SavedWindow>,
    /// Its idempotency keys, the least recently used first.
    pub keys: Vec<SavedKey>,
    /// Its most counted payloads, highest count first.
    pub top: Vec<SavedRank>,
    /// Counts of payloads whose newest publication was not the last one to complete, by the
    /// sequence of the newest.
    pub overtaken: Vec<(u64, u64, u64)>,
    /// For each earlier run in which it was there, oldest first: the run's name, and the topic's first
    /// sequence that was not kept then.
    pub ends: Vec<(u64, u64)>,
}

/// A message of a topic's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedMessage {
    /// Its sequence.
    pub sequence: u64,
    /// Its place.
    pub place: Place,
    /// Its payload, if there is one.
    pub body: SavedBody,
}

/// The payload of a message, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SavedBody {
    /// It is complete.
    Complete(Total, Payload),
    /// It arrives, and will have so many bytes. These have arrived.
    Arriving(u64, Payload),
    /// It will never be complete.
    Aborted,
    /// It was evicted, and older messages were not.
    Evicted,
}

/// The count of a payload that is known by a secret hash only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCount {
    /// The hash.
    pub key: [u64; 2],
    /// The count.
    pub count: u64,
    /// Since when.
    pub since: u64,
}

/// The receipt of a publication under an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedKey {
    /// The key's hash.
    pub key: ProducerId,
    /// The message's sequence.
    pub sequence: u64,
    /// As in the receipt.
    pub total: Total,
}

/// One of a topic's most counted payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRank {
    /// Its digest and count.
    pub total: Total,
    /// Sequence of its newest publication.
    pub sequence: u64,
    /// Length, bytes.
    pub size: u64,
}
