//! The state of an engine that is being restored, and the limits of that time.

use super::snapshot::TopicState;
use std::collections::{HashMap, HashSet};

/// Sequences, positions, ids and numbers of records are below this. Larger ones were never assigned.
pub(crate) const HIGHEST: u64 = 1 << 62;

/// Returns the maximum number of topics while an engine is restored. A snapshot may have topics that
/// were created later than those of the first records after it, which are forgotten in later ones.
pub(super) fn most_topics(topics: usize) -> usize {
    topics.saturating_mul(2)
}

/// The state of an engine that is being restored.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    // By a topic's id: the last record that the snapshot has of it, and the sequence after its last
    // message then.
    pub(super) known: HashMap<u64, (u64, u64)>,
    // The messages that arrive and have all their bytes so far, by topic and sequence.
    pub(super) begun: HashSet<(u64, u64)>,
    // The topic whose messages follow.
    pub(super) topic: Option<Box<TopicState>>,
}
