//! Counts that outlive their payloads.

use crate::engine::topic::counts::Count;
use crate::wire::Digest;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

/// What a count costs in memory: its share of a table, at worst. Bytes.
pub(crate) const COUNT_COST: usize = 76;

/// A payload of a topic: sixteen bytes of its digest, mixed with the secret key of the topic. As
/// good as unique, and evenly spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64, u64);

impl Key {
    pub(crate) fn new(topic: u64, digest: &Digest) -> Self {
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&digest.0[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Self(word(0) ^ topic, word(8).wrapping_add(topic))
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

type Counts = HashMap<Key, Count, RandomState>;

/// The counts of payloads that have left the cache: one ledger for all topics, in two tables.
/// When the young one is full it becomes the old one, and what was in that is lost at once: so no
/// order is kept, and to lose a count costs nothing.
#[derive(Debug)]
pub(crate) struct EvictedCounts {
    // In one table.
    capacity: usize,
    young: Counts,
    old: Counts,
    // Engine position when a count was last lost; 0 is never.
    lost: u64,
}

impl EvictedCounts {
    /// Keeps at most `most` counts, and the half of them that came last; fewer when many were taken
    /// out, as a table does not reuse all of their places.
    pub(crate) fn new(most: usize) -> Self {
        let capacity = (most / 2).max(1);
        // Allocated at once: a table that grows under way would stall everyone.
        let table = || Counts::with_capacity_and_hasher(capacity, RandomState::default());
        Self { capacity, young: table(), old: table(), lost: 0 }
    }

    /// Takes a count in. `position` is the engine's.
    pub(crate) fn put(&mut self, key: Key, count: Count, position: u64) {
        // The table's own capacity sinks while removals leave marks in it.
        if self.young.len() >= self.capacity.min(self.young.capacity()) {
            if !self.old.is_empty() {
                self.lost = position;
                self.old.clear();
            }
            std::mem::swap(&mut self.young, &mut self.old);
        }
        self.young.insert(key, count);
    }

    pub(crate) fn take(&mut self, key: &Key) -> Option<Count> {
        let count = self.young.remove(key);
        count.or_else(|| self.old.remove(key))
    }

    /// Whether every count of a topic that began at `position` is still known.
    pub(crate) fn covers(&self, position: u64) -> bool {
        self.lost == 0 || self.lost < position
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    fn count(count: u64) -> Count {
        Count { count, since: 0 }
    }

    proptest! {
        /// A model that loses nothing: what is known is right, and what came last is known.
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
                match evicted_counts.take(&Key::new(topic, &digest(n))) {
                    Some(known) => prop_assert_eq!(Some(known.count), put),
                    None if put.is_some() => {
                        prop_assert!(age > Some(most / 4), "lost before its time");
                        prop_assert!(evicted_counts.lost > put.unwrap_or(0), "lost, and not told");
                    }
                    None => {}
                }
                if !position.is_multiple_of(3) {
                    evicted_counts.put(Key::new(topic, &digest(n)), count(position), position);
                    all.push(((topic, n), position));
                }
                prop_assert!(evicted_counts.young.len() + evicted_counts.old.len() <= most);
            }
        }
    }

    #[test]
    fn a_full_ledger_forgets_and_says_so() {
        let mut evicted_counts = EvictedCounts::new(2);
        for n in 1..=3 {
            evicted_counts.put(Key::new(7, &digest(n)), count(n.into()), 10 + u64::from(n));
        }
        assert_eq!(evicted_counts.take(&Key::new(7, &digest(1))), None);
        assert_eq!(evicted_counts.take(&Key::new(8, &digest(3))), None);
        assert_eq!(evicted_counts.take(&Key::new(7, &digest(3))), Some(count(3)));
        assert!(
            !evicted_counts.covers(13) && !evicted_counts.covers(5) && evicted_counts.covers(14)
        );
    }
}
