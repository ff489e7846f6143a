//! The limits and the state of a sequencer.

use super::entry::LogUpload;
use crate::engine::publication::PublicationId;
use crate::engine::topic::window::SavedWindow;
use crate::wire::{Digest, ProducerId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The limits of the tables that all replicas of one log have. They belong to the log: replicas with
/// other ones would disagree. At the defaults, the tables take 30 MiB at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogLimits {
    /// Maximum number of topics that have a sequence. Beyond it, the one that was published to longest
    /// ago is forgotten. Default 65,536.
    pub topics: usize,
    /// Number of producers that are remembered, over all topics, to accept each publication once.
    /// Default 65,536.
    pub producers: usize,
    /// Number of idempotency keys that are remembered, over all topics. Default 65,536.
    pub keys: usize,
    /// Number of large publications that arrive at the same time. Beyond it, the one that began
    /// first is aborted. Default 1,024.
    pub uploads: usize,
    /// As [`Limits::window`](crate::engine::Limits::window). Default 1,024.
    pub window: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { topics: 65_536, producers: 65_536, keys: 65_536, uploads: 1024, window: 1024 }
    }
}

impl LogLimits {
    /// Returns the limits as they are applied: values out of range are brought into it.
    pub(super) fn applied(self) -> Self {
        let Self { topics, producers, keys, uploads, window } = self;
        Self {
            topics: topics.max(1),
            producers: producers.max(1),
            keys: keys.max(1),
            uploads: uploads.max(1),
            window: window.clamp(64, 1 << 16),
        }
    }
}

/// A topic in the log's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPlace {
    /// Its name.
    pub name: Arc<str>,
    /// Its id: the number of the entry that created it.
    pub id: u64,
    /// The sequence that its next message will have.
    pub next: u64,
    /// The number of the entry that brought its last message, or the beginning of that.
    pub last: u64,
}

/// A large publication that arrives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenUpload {
    /// Its name in the log.
    pub upload: LogUpload,
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id.
    pub topic: u64,
    /// Its sequence.
    pub sequence: u64,
    /// The number of the entry with which it began.
    pub begun: u64,
    /// As in [`LogPlace`](super::LogPlace).
    pub before: u64,
    /// Length of the payload, bytes.
    pub size: u64,
    /// Number of bytes that have arrived.
    pub received: u64,
    /// Its producer and number, or its key.
    pub origin: Option<PublicationId>,
}

/// Everything that a sequencer knows. A sequencer that is [restored](super::Sequencer::restore) from it
/// decides as the one that was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequencerState {
    /// The limits.
    pub limits: LogLimits,
    /// The number of the last entry.
    pub last: u64,
    /// The topics, the one that was published to longest ago first.
    pub topics: Vec<TopicPlace>,
    /// The producers of topics, each with the topic's id; the one that published longest ago first.
    pub windows: Vec<(u64, SavedWindow)>,
    /// The keys of topics, each with the topic's id, the message's sequence and its digest; the one
    /// that was used longest ago first.
    pub keys: Vec<(u64, ProducerId, u64, Digest)>,
    /// The large publications that arrive.
    pub uploads: Vec<OpenUpload>,
}
