//! Counts that outlive their payloads.

use crate::engine::topic::counts::Count;
use crate::engine::topic::payload_key::PayloadKey;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::BuildHasher as _;

type Counts = HashTable<(PayloadKey, Count)>;

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
    hasher: RandomState,
    // The engine's position when counts were last dropped; 0 is never.
    dropped_at: u64,
    // How often the tables have changed places.
    swaps: u64,
    // How many counts were dropped.
    forgotten: u64,
}

/// A place among the counts: a bucket of a table. Counts never move within a table.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CountsPlace {
    table: u64,
    bucket: usize,
}

impl EvictedCounts {
    /// Creates tables for so many counts together. One table is full at half of that, so that it can
    /// reuse all of its slots.
    pub(crate) fn new(most: usize) -> Self {
        let capacity = (most / 2).max(1);
        // Allocated now: a table that grows would block all callers.
        let table = || Counts::with_capacity(capacity);
        let (young, old) = (table(), table());
        Self {
            capacity,
            young,
            old,
            hasher: RandomState::default(),
            dropped_at: 0,
            swaps: 0,
            forgotten: 0,
        }
    }

    /// Adds a count. `position` is the engine's.
    pub(crate) fn put(&mut self, key: PayloadKey, count: Count, position: u64) {
        // The table's own capacity shrinks while removals leave tombstones in it.
        if self.young.len() >= self.capacity.min(self.young.capacity()) {
            if !self.old.is_empty() {
                self.dropped_at = position;
                self.forgotten += self.old.len() as u64;
                self.old.clear();
            }
            std::mem::swap(&mut self.young, &mut self.old);
            self.swaps += 1;
        }
        let Self { young, hasher, .. } = self;
        let hash = hasher.hash_one(key);
        match young.entry(hash, |(other, _)| *other == key, |(key, _)| hasher.hash_one(key)) {
            Entry::Occupied(mut known) => known.get_mut().1 = count,
            Entry::Vacant(free) => {
                free.insert((key, count));
            }
        }
    }

    /// Removes and returns a count.
    pub(crate) fn take(&mut self, key: &PayloadKey) -> Option<Count> {
        let hash = self.hasher.hash_one(key);
        [&mut self.young, &mut self.old].into_iter().find_map(|table| {
            let found = table.find_entry(hash, |(other, _)| other == key).ok()?;
            Some(found.remove().0.1)
        })
    }

    /// Returns whether every count of a topic that was created at `position` is still known.
    pub(crate) fn covers(&self, position: u64) -> bool {
        self.dropped_at == 0 || self.dropped_at < position
    }

    /// Returns how many counts were dropped.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Returns the engine's position when counts were last dropped; 0 is never.
    pub(crate) fn dropped_at(&self) -> u64 {
        self.dropped_at
    }

    /// Notes that counts were dropped at a position, or before.
    pub(crate) fn note_dropped(&mut self, position: u64) {
        self.dropped_at = self.dropped_at.max(position);
    }

    /// Copies the counts of the next buckets, old ones first. Returns the place after them, or none
    /// at the end. Counts that are added meanwhile may be left out.
    pub(crate) fn copy(
        &self,
        from: Option<CountsPlace>,
        buckets: usize,
        out: &mut Vec<(PayloadKey, Count)>,
    ) -> Option<CountsPlace> {
        // The young table becomes the old one with the next swap, and has its number until then.
        let oldest = CountsPlace { table: self.swaps, bucket: 0 };
        let mut place = from.filter(|from| from.table >= self.swaps).unwrap_or(oldest);
        let table = if place.table == self.swaps { &self.old } else { &self.young };
        let end = table.num_buckets().min(place.bucket + buckets);
        out.extend((place.bucket..end).filter_map(|bucket| table.get_bucket(bucket)));
        place.bucket = end;
        if end < table.num_buckets() {
            return Some(place);
        }
        (place.table == self.swaps).then_some(CountsPlace { table: self.swaps + 1, bucket: 0 })
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
