//! Counts that outlive their payloads.

use crate::engine::topic::counts::Count;
use crate::engine::topic::payload_key::PayloadKey;
use foldhash::fast::RandomState;
use std::collections::HashMap;

type Counts = HashMap<PayloadKey, Count, RandomState>;

/// The counts of payloads that have left the cache, of all topics, in two tables.
///
/// When the young table is full it becomes the old one, whose counts are dropped at once. So no
/// order is kept, and dropping a count costs nothing.
#[derive(Debug)]
pub(crate) struct EvictedCounts {
    // Maximum number of counts in one table.
    capacity: usize,
    young: Counts,
    old: Counts,
    // The engine's position when counts were last dropped; 0 is never.
    dropped_at: u64,
}

impl EvictedCounts {
    /// Keeps at most `most` counts, and at least the newest half of them. It keeps fewer if many were
    /// taken out, because a table does not reuse all of their slots.
    pub(crate) fn new(most: usize) -> Self {
        let capacity = (most / 2).max(1);
        // Allocated now: a table that grows would block all callers.
        let table = || Counts::with_capacity_and_hasher(capacity, RandomState::default());
        Self { capacity, young: table(), old: table(), dropped_at: 0 }
    }

    /// Adds a count. `position` is the engine's.
    pub(crate) fn put(&mut self, key: PayloadKey, count: Count, position: u64) {
        // The table's own capacity shrinks while removals leave tombstones in it.
        if self.young.len() >= self.capacity.min(self.young.capacity()) {
            if !self.old.is_empty() {
                self.dropped_at = position;
                self.old.clear();
            }
            std::mem::swap(&mut self.young, &mut self.old);
        }
        self.young.insert(key, count);
    }

    /// Removes and returns a count.
    pub(crate) fn take(&mut self, key: &PayloadKey) -> Option<Count> {
        let count = self.young.remove(key);
        count.or_else(|| self.old.remove(key))
    }

    /// Returns whether every count of a topic that was created at `position` is still known.
    pub(crate) fn covers(&self, position: u64) -> bool {
        self.dropped_at == 0 || self.dropped_at < position
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Digest;
    use proptest::prelude::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    fn count(count: u64) -> Count {
        Count { count, since: 0 }
    }

    proptest! {
        /// Against a model that drops nothing: known counts are right, and the last ones are known.
        #[test]
        fn counts_are_right_and_the_last_are_known(
            steps in proptest::collection::vec((0_u64..3, 0_u8..20), 0..300),
            most in 2_usize..24,
        ) {
            let mut evicted_counts = EvictedCounts::new(most);
            let mut all: Vec<((u64, u8), u64)> = Vec::new();
            for (position, (topic, n)) in steps.into_iter().enumerate() {
                let position = position as u64 + 1;
                let at = all.iter().position(|(key, _)| *key == (topic, n));
                let age = at.map(|at| all.len() - at);
                let put = at.map(|at| all.remove(at).1);
                match evicted_counts.take(&PayloadKey::new(topic, &digest(n))) {
                    Some(known) => prop_assert_eq!(Some(known.count), put),
                    None if put.is_some() => {
                        prop_assert!(age > Some(most / 4), "dropped too early");
                        prop_assert!(evicted_counts.dropped_at > put.unwrap_or(0), "dropped silently");
                    }
                    None => {}
                }
                if !position.is_multiple_of(3) {
                    evicted_counts.put(PayloadKey::new(topic, &digest(n)), count(position), position);
                    all.push(((topic, n), position));
                }
                prop_assert!(evicted_counts.young.len() + evicted_counts.old.len() <= most);
            }
        }
    }

    #[test]
    fn a_full_table_drops_counts_and_says_so() {
        let mut evicted_counts = EvictedCounts::new(2);
        for n in 1..=3 {
            evicted_counts.put(PayloadKey::new(7, &digest(n)), count(n.into()), 10 + u64::from(n));
        }
        assert_eq!(evicted_counts.take(&PayloadKey::new(7, &digest(1))), None);
        assert_eq!(evicted_counts.take(&PayloadKey::new(8, &digest(3))), None);
        assert_eq!(evicted_counts.take(&PayloadKey::new(7, &digest(3))), Some(count(3)));
        assert!(
            !evicted_counts.covers(13) && !evicted_counts.covers(5) && evicted_counts.covers(14)
        );
    }
}
