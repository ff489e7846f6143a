//! Bounds on everything the engine keeps, with their defaults and reasons.

use super::cost::COUNT_COST;

/// Largest payload that a limit allows, 1 GiB.
pub(crate) const MAX_PAYLOAD: usize = 1 << 30;

/// The bounds of one engine. Every field has a default: see [`Limits::default`].
///
/// Values out of range are brought into it, and `Daemon::limits` and [`Engine::limits`] return what
/// applies.
///
/// [`Engine::limits`]: crate::engine::Engine::limits
///
/// ```
/// use weir::engine::{Engine, Limits};
///
/// let mut limits = Limits::default().with_cache(64 << 20);
/// limits.topics = 1000;
/// limits.window = 1;
/// assert_eq!(Engine::new(limits, 1, [0; 32]).limits().window, 64);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes for payloads, logs, indexes and counts of all topics. A quarter is reserved for counts.
    /// It is exceeded only if one topic's producers alone take more than the rest. Default 256 MiB;
    /// at least 1 MiB is used.
    pub cache: usize,
    /// Largest payload, bytes. Default 16 MiB. At most a quarter of `cache` is used, so that one
    /// payload cannot empty the cache; and at most 1 GiB, because a journal holds one in memory.
    pub payload: usize,
    /// Maximum number of topics. Beyond it the least recently used one is forgotten, with its
    /// messages and producers. Its counts are kept among the evicted ones. Default 65,536.
    pub topics: usize,
    /// Number of producers that a topic remembers, to accept each publication once. Default 1,024.
    pub producers: usize,
    /// How far a producer's numbers may be ahead of the oldest one that is missing: from 64 to
    /// 65,536. Default 1,024.
    pub window: u32,
    /// Maximum number of subscriptions in one session. Default 256.
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
    /// Returns the limits with another cache budget, bytes.
    #[must_use]
    pub fn with_cache(mut self, bytes: usize) -> Self {
        self.cache = bytes;
        self
    }

    /// Returns the limits with another largest payload, bytes.
    #[must_use]
    pub fn with_payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// Returns the limits as they are applied: values out of range are brought into it.
    pub(crate) fn applied(mut self) -> Self {
        self.cache = self.cache.max(1 << 20);
        self.payload = self.payload.clamp(1, MAX_PAYLOAD.min(self.cache / 4));
        self.topics = self.topics.max(1);
        self.producers = self.producers.max(1);
        self.window = self.window.clamp(64, 1 << 16);
        self
    }

    /// Returns the number of counts of evicted payloads: they take a quarter of the budget.
    pub(crate) fn counts(&self) -> usize {
        self.cache / 4 / COUNT_COST
    }

    /// Returns the bytes that peers may make the daemon hold beside the topics: a quarter of the
    /// budget, as for one payload. They are taken from the topics' part.
    pub(crate) fn held(&self) -> usize {
        self.cache / 4
    }

    /// Returns the bytes of messages that one topic may hold for a moment although its rule does not
    /// keep them. It is an eighth of the budget, so that a few of the largest payloads fit.
    pub(crate) fn held_by_topic(&self) -> usize {
        self.cache / 8
    }

    /// Returns the bytes for topics, and for what peers make the daemon hold.
    pub(crate) fn messages(&self) -> usize {
        self.cache - self.cache / 4
    }
}
