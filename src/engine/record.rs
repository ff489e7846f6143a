//! The contents of a journal: every change of the topics, in the order in which the engine made it.
//!
//! A record has the result of a decision, and not only the request: the sequence, the position and
//! the count. So whoever [restores](crate::engine::Engine::restore) an engine from records gets the
//! same messages, although other things decided before what was evicted and forgotten.

use super::payload::Payload;
use super::publication::PublicationId;
use crate::wire::Digest;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One change of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic's id. It is never used again for another topic.
    pub topic: u64,
    /// The topic's name.
    pub name: Arc<str>,
    /// The message's sequence; 0 if the change concerns no message.
    pub sequence: u64,
    /// The change.
    pub change: Change,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A publication was accepted as a whole.
    Published {
        /// Its place in the order of all messages.
        place: Place,
        /// The payload's count.
        total: Total,
        /// The payload.
        payload: Payload,
    },
    /// A large publication has begun to arrive.
    Begun {
        /// Its place in the order of all messages.
        place: Place,
        /// Length of the payload, bytes.
        size: u64,
    },
    /// The next bytes of one that arrives.
    Chunk {
        /// Number of bytes before these.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// One that arrived was accepted.
    Ended {
        /// Time of acceptance, µs since 1970.
        now: u64,
        /// Its producer and number, or its key.
        origin: Option<PublicationId>,
        /// The payload's count.
        total: Total,
        /// Length of the payload, bytes.
        size: u64,
    },
    /// One that arrived will never be complete.
    Aborted,
    /// The topic was forgotten.
    Forgotten,
}

/// The place of a message in the order of all messages, and its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Position in the order in which all messages were accepted, or began to arrive.
    pub position: u64,
    /// Time at which it was accepted, or began to arrive, µs since 1970.
    pub accepted: u64,
    /// The publisher's clock, µs since 1970; 0 is none.
    pub stamp: u64,
    /// Its producer and number, or its key.
    pub origin: Option<PublicationId>,
}

/// A payload's digest and count, as in its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Digest of the payload.
    pub digest: Digest,
    /// Times it was published to the topic.
    pub count: u64,
    /// Since when that is known; 0 is since the topic was created.
    pub since: u64,
}

/// The records that were not taken yet, if they are wanted.
#[derive(Debug, Default)]
pub(super) struct Records {
    wanted: bool,
    list: Vec<Record>,
    // Number of records ever made: the number of the last one, since they are counted from 1.
    made: u64,
}

impl Records {
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn list(&mut self) -> &mut Vec<Record> {
        &mut self.list
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn continue_after(&mut self, made: u64) {
        self.made = made;
    }

    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// Makes a record, if it is wanted.
    #[inline]
    pub(super) fn push(&mut self, record: impl FnOnce() -> Record) {
        if self.wanted {
            self.made += 1;
            self.list.push(record());
        }
    }
}
