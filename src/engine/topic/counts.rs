//! Counts, and the list of the most counted payloads of a topic.

use crate::engine::cost::TOP_COST;
use crate::wire::Digest;

/// How many times a payload was published, and since when that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) count: u64,
    // 0: since the topic was created.
    pub(crate) since: u64,
}

/// Maximum number of payloads in the list of a topic.
pub(crate) const TOP: usize = 100;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranked {
    pub(crate) digest: Digest,
    pub(crate) count: Count,
    pub(crate) sequence: u64,
    pub(crate) size: u64,
}

/// The most counted payloads of a topic. The list is exact as long as the counts are. A payload
/// enters when its count passes the lowest one here, and then its count grows by one at a time.
#[derive(Debug, Default)]
pub(crate) struct Top {
    // Highest count first. `hints` runs parallel, so that a search reads 800 bytes instead of 6,400.
    hints: Vec<u64>,
    ranked: Vec<Ranked>,
}

impl Top {
    fn place(&self, digest: &Digest) -> Option<usize> {
        let hint = digest.hint();
        // Mostly it is not there. Counting all of them is faster than stopping at the first.
        if self.hints.iter().filter(|other| **other == hint).count() == 0 {
            return None;
        }
        let at = self.hints.iter().position(|other| *other == hint)?;
        // Two digests share eight bytes: compare the whole digests.
        if self.ranked[at].digest == *digest {
            return Some(at);
        }
        let mut ranked = self.ranked.iter();
        ranked.position(|ranked| ranked.digest == *digest)
    }

    /// Returns the count of a payload, which may have left all other tables.
    pub(crate) fn find(&self, digest: &Digest) -> Option<Count> {
        self.place(digest).map(|at| self.ranked[at].count)
    }

    pub(crate) fn update(&mut self, now: Ranked) {
        let at = match self.ranked.last() {
            // The common case in a flood of new payloads: the count is too low for the list.
            Some(last) if self.ranked.len() == TOP && now.count.count <= last.count.count => return,
            _ => match self.place(&now.digest) {
                Some(at) => at,
                None if self.ranked.len() < TOP => {
                    self.hints.push(0);
                    self.ranked.push(now);
                    self.ranked.len() - 1
                }
                None => TOP - 1,
            },
        };
        let to = self.ranked[..at].partition_point(|other| other.count.count >= now.count.count);
        if to < at && self.ranked[to].count.count == self.ranked[at - 1].count.count {
            // A count that grows by one passes equal ones only. It swaps with the first of them.
            self.ranked.swap(at, to);
            self.hints.swap(at, to);
        } else {
            // A payload that returns with an evicted count may pass any number of others.
            self.ranked[to..=at].rotate_right(1);
            self.hints[to..=at].rotate_right(1);
        }
        self.ranked[to] = now;
        self.hints[to] = now.digest.hint();
    }

    pub(crate) fn remove(&mut self, digest: &Digest) -> Option<Count> {
        let at = self.place(digest)?;
        self.hints.remove(at);
        Some(self.ranked.remove(at).count)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Ranked> {
        self.ranked.iter()
    }

    pub(crate) fn cost(&self) -> usize {
        self.ranked.capacity() * TOP_COST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn top_agrees_with_sorting_all_counts(
            publications in proptest::collection::vec(0_u32..300, 0..3000),
        ) {
            let mut top = Top::default();
            let mut counts: HashMap<u32, u64> = HashMap::new();
            for (sequence, payload) in publications.into_iter().enumerate() {
                let count = counts.entry(payload).or_default();
                *count += 1;
                top.update(Ranked {
                    digest: Digest::of(&payload.to_le_bytes()),
                    count: Count { count: *count, since: 0 },
                    sequence: sequence as u64,
                    size: 4,
                });
            }
            let mut all: Vec<u64> = counts.values().copied().collect();
            all.sort_unstable_by(|a, b| b.cmp(a));
            all.truncate(TOP);
            prop_assert_eq!(top.iter().map(|r| r.count.count).collect::<Vec<_>>(), all);
            for (payload, count) in &counts {
                if let Some(found) = top.find(&Digest::of(&payload.to_le_bytes())) {
                    prop_assert_eq!(found.count, *count);
                }
            }
        }
    }
}
