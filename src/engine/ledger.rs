//! Counts that outlive their payloads.

use super::counts::Count;
use crate::wire::Digest;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

/// What a count costs in memory: its place and its share of the table, at worst. Bytes.
pub(crate) const COUNT_COST: usize = 112;

const NONE: u32 = u32::MAX;

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

#[derive(Debug)]
struct Place {
    key: Key,
    count: Count,
    // Neighbours in the order of coming in; of a free place, `newer` is the next free one.
    older: u32,
    newer: u32,
}

/// The counts of payloads that have left the cache: one table for all topics. Those that came in
/// first leave first, which is the order of their last use.
#[derive(Debug)]
pub(crate) struct Ledger {
    capacity: usize,
    index: HashMap<Key, u32, RandomState>,
    places: Vec<Place>,
    oldest: u32,
    newest: u32,
    free: u32,
    // Engine position when a count was last lost; 0 is never.
    lost: u64,
}

impl Ledger {
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, NONE as usize);
        // Allocated at once: a table that grows under way would stall everyone.
        Self {
            capacity,
            index: HashMap::with_capacity_and_hasher(capacity, RandomState::default()),
            places: Vec::with_capacity(capacity),
            oldest: NONE,
            newest: NONE,
            free: NONE,
            lost: 0,
        }
    }

    /// Takes a count in that is not here. `position` is the engine's.
    pub(crate) fn put(&mut self, topic: u64, digest: &Digest, count: Count, position: u64) {
        let key = Key::new(topic, digest);
        if self.index.len() >= self.capacity {
            self.lost = position;
            self.index.remove(&self.places[self.oldest as usize].key);
            self.remove(self.oldest);
        }
        let place = Place {
            key,
            count,
            older: self.newest,
            newer: NONE,
        };
        let at = if self.free == NONE {
            self.places.push(place);
            self.places.len() as u32 - 1
        } else {
            let at = self.free;
            self.free = self.places[at as usize].newer;
            self.places[at as usize] = place;
            at
        };
        match self.places.get_mut(self.newest as usize) {
            Some(before) => before.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
        self.index.insert(key, at);
    }

    pub(crate) fn take(&mut self, topic: u64, digest: &Digest) -> Option<Count> {
        let at = self.index.remove(&Key::new(topic, digest))?;
        Some(self.remove(at))
    }

    // Unlinks a place that is no longer in the index.
    fn remove(&mut self, at: u32) -> Count {
        let Place {
            count,
            older,
            newer,
            ..
        } = self.places[at as usize];
        match self.places.get_mut(older as usize) {
            Some(before) => before.newer = newer,
            None => self.oldest = newer,
        }
        match self.places.get_mut(newer as usize) {
            Some(after) => after.older = older,
            None => self.newest = older,
        }
        self.places[at as usize].newer = self.free;
        self.free = at;
        count
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
        #[test]
        fn behaves_as_a_queue_that_can_be_looked_into(
            steps in proptest::collection::vec((0_u64..3, 0_u8..20), 0..300),
            capacity in 1_usize..12,
        ) {
            let mut ledger = Ledger::new(capacity);
            let mut model: Vec<(u64, u8, u64)> = Vec::new();
            for (position, (topic, n)) in steps.into_iter().enumerate() {
                let position = position as u64 + 1;
                let known = model.iter().position(|one| (one.0, one.1) == (topic, n));
                let known = known.map(|at| model.remove(at).2);
                prop_assert_eq!(ledger.take(topic, &digest(n)).map(|count| count.count), known);
                if known.is_some() && position.is_multiple_of(3) {
                    continue;
                }
                ledger.put(topic, &digest(n), count(position), position);
                model.push((topic, n, position));
                if model.len() > capacity {
                    model.remove(0);
                    prop_assert_eq!(ledger.lost, position);
                }
            }
            prop_assert!(ledger.places.len() <= capacity);
        }
    }

    #[test]
    fn a_full_ledger_forgets_the_oldest_and_says_so() {
        let mut ledger = Ledger::new(2);
        for n in 1..=3 {
            ledger.put(7, &digest(n), count(n.into()), 10 + u64::from(n));
        }
        assert_eq!(ledger.take(7, &digest(1)), None);
        assert_eq!(ledger.take(8, &digest(3)), None);
        assert_eq!(ledger.take(7, &digest(3)), Some(count(3)));
        assert!(!ledger.covers(13) && !ledger.covers(5) && ledger.covers(14));
    }
}
