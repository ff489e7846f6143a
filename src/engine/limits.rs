//! Bounds on everything the engine keeps, with their defaults and reasons.

use super::memory::evicted_counts::COUNT_COST;

/// What an engine may hold. Every field has a default; see [`Limits::default`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes for payloads, their logs and indexes, and counts, over all topics. A quarter is set
    /// aside for counts. Exceeded only while one topic's producers alone take more than the rest.
    /// Default 256 MiB; at least 1 MiB is used.
    pub cache: usize,
    /// Largest payload, bytes. Default 16 MiB; never more than a quarter of `cache`, so that one
    /// payload cannot empty it.
    pub payload: usize,
    /// Most topics. Beyond it the one idle longest is forgotten, with its messages and producers;
    /// its counts stay while they can. Default 65,536.
    pub topics: usize,
    /// Producers a topic remembers for publishing once. Default 1,024.
    pub producers: usize,
    /// How far a producer's numbers may run ahead of the oldest one missing; from 64 to 65,536.
    /// Default 1,024.
    pub window: u32,
    /// Most subscriptions in one session. Default 256.
    pub subscriptions: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cache: 256 << 20,
            payload: 16 << 20,
            topics: 65_536,
            producers: 1024,
            window: 1024,
            subscriptions: 256,
        }
    }
}

impl Limits {
    /// With another cache budget, bytes.
    #[must_use]
    pub fn with_cache(mut self, bytes: usize) -> Self {
        self.cache = bytes;
        self
    }

    /// With another largest payload, bytes.
    #[must_use]
    pub fn with_payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// The limits as they are applied, out-of-range values brought into range.
    pub(crate) fn applied(mut self) -> Self {
        self.cache = self.cache.max(1 << 20);
        self.payload = self.payload.clamp(1, self.cache / 4);
        self.topics = self.topics.max(1);
        self.producers = self.producers.max(1);
        self.window = self.window.clamp(64, 1 << 16);
        self
    }

    /// Counts that outlive their payloads: a quarter of the budget's worth.
    pub(crate) fn counts(&self) -> usize {
        self.cache / 4 / COUNT_COST
    }

    /// Bytes that peers may make the daemon hold beside the topics, taken from the topics' part:
    /// a quarter of the budget, as for a largest payload.
    pub(crate) fn held(&self) -> usize {
        self.cache / 4
    }

    /// Bytes for everything else.
    pub(crate) fn messages(&self) -> usize {
        self.cache - self.cache / 4
    }
}
