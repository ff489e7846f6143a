//! The numbers of an engine, for those who watch the daemon: its work so far, and its contents.

use super::subscribe::skips::Skips;

/// Numbers of one [`Engine`](super::Engine). The first group counts up from 0 since the engine was made; what was
/// restored is not counted. The second group is the state at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineFigures {
    /// Publications that were accepted.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Publications that had been accepted before, and were answered once more.
    pub duplicates: u64,
    /// Payloads that did not arrive completely.
    pub aborted: u64,
    /// Look-ups of one message.
    pub lookups: u64,
    /// Look-ups that found the message in the cache.
    pub hits: u64,
    /// Messages and payloads that were evicted to make room.
    pub evicted_for_room: u64,
    /// Messages that were dropped by the rule of their topic.
    pub evicted_by_rule: u64,
    /// Messages that left the cache with their topic.
    pub evicted_with_topic: u64,
    /// Topics that were forgotten.
    pub forgotten_topics: u64,
    /// Counts of payloads that were forgotten.
    pub forgotten_counts: u64,
    /// Sequences that subscriptions were given as gaps.
    pub gaps: Skips,

    /// Topics.
    pub topics: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Messages in the logs of all topics.
    pub cached_messages: u64,
    /// Messages that were accepted after the position of the subscription that is furthest behind.
    /// They may be of any topic, so that this is an upper limit of every backlog.
    pub backlog: u64,
    /// Bytes charged for topics and their messages.
    pub topic_bytes: u64,
    /// Bytes that peers make the daemon hold beside the topics.
    pub held_bytes: u64,
    /// Bytes reserved for counts.
    pub count_bytes: u64,
    /// The limit for these three together.
    pub cache_bytes: u64,
}

impl EngineFigures {
    /// Counts from 0 again.
    pub(super) fn begin(&mut self) {
        *self = Self { cached_messages: self.cached_messages, ..Self::default() };
    }
}
