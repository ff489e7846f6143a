//! Publish once: which of a producer's numbers a topic has accepted.

use crate::wire::ProducerId;
use foldhash::fast::RandomState;
use lru::LruCache;

/// What to do with a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not seen before: accept it.
    Fresh,
    /// Accepted before.
    Duplicate,
    /// So old that nobody knows.
    Stale,
}

/// Numbers accepted from one producer. Every number up to `floor` was accepted, or given up when
/// the window moved past it.
#[derive(Debug, Default)]
struct Window {
    floor: u64,
    // Numbers up to this may have been given up rather than accepted.
    given_up: u64,
    // A ring of bits for the numbers above the floor, those accepted set; none while none is.
    ahead: Box<[u64]>,
    accepted_ahead: u32,
    // Highest number accepted; and the highest sequence.
    highest: u64,
    sequence: u64,
}

impl Window {
    // Word and mask of a number's bit.
    fn bit(&self, number: u64) -> (usize, u64) {
        let word = (number / 64) as usize % self.ahead.len().max(1);
        (word, 1 << (number % 64))
    }

    fn is_ahead(&self, number: u64) -> bool {
        let (word, mask) = self.bit(number);
        number <= self.highest && self.ahead.get(word).is_some_and(|bits| bits & mask != 0)
    }

    fn clear(&mut self, number: u64) {
        if self.is_ahead(number) {
            let (word, mask) = self.bit(number);
            self.ahead[word] &= !mask;
            self.accepted_ahead -= 1;
        }
    }

    fn judge(&self, number: u64) -> Verdict {
        if number > self.floor {
            if self.is_ahead(number) { Verdict::Duplicate } else { Verdict::Fresh }
        } else if number > self.given_up {
            Verdict::Duplicate
        } else {
            Verdict::Stale
        }
    }

    // A fresh number, from 1.
    fn accept(&mut self, number: u64, sequence: u64, width: u64) {
        self.sequence = self.sequence.max(sequence);
        if number - 1 == self.floor && self.accepted_ahead == 0 {
            self.highest = number;
            self.floor = number;
            return;
        }
        let floor = number.saturating_sub(width);
        if floor > self.floor {
            for passed in self.floor + 1..=floor.min(self.highest) {
                self.clear(passed);
            }
            self.floor = floor;
            self.given_up = floor;
        }
        if self.ahead.is_empty() {
            self.ahead = vec![0; width.div_ceil(64) as usize + 1].into();
        }
        self.highest = self.highest.max(number);
        let (word, mask) = self.bit(number);
        self.ahead[word] |= mask;
        self.accepted_ahead += 1;
        while self.is_ahead(self.floor.saturating_add(1)) {
            self.floor += 1;
            self.clear(self.floor);
        }
        if self.accepted_ahead == 0 {
            self.ahead = Box::default();
        }
    }

    fn cost(&self) -> usize {
        PRODUCER_COST + self.ahead.len() * 8
    }
}

/// What a producer costs a topic, bytes.
const PRODUCER_COST: usize = 160;

/// The producers of a topic, those heard of last.
#[derive(Debug)]
pub(crate) struct Producers {
    windows: LruCache<ProducerId, Window, RandomState>,
    cost: usize,
}

impl Producers {
    pub(crate) fn new() -> Self {
        Self { windows: LruCache::unbounded_with_hasher(RandomState::default()), cost: 0 }
    }

    pub(crate) fn judge(&mut self, producer: ProducerId, number: u64) -> Verdict {
        self.windows.get(&producer).map_or(Verdict::Fresh, |window| window.judge(number))
    }

    pub(crate) fn accept(
        &mut self,
        producer: ProducerId,
        number: u64,
        sequence: u64,
        width: u64,
        most: usize,
    ) {
        if !self.windows.contains(&producer) {
            while self.windows.len() >= most.max(1) {
                if let Some((_, window)) = self.windows.pop_lru() {
                    self.cost -= window.cost();
                }
            }
            self.cost += PRODUCER_COST;
        }
        let window = self.windows.get_or_insert_mut(producer, Window::default);
        let before = window.cost();
        window.accept(number, sequence, width);
        self.cost = self.cost - before + window.cost();
    }

    /// Every number up to the first value was accepted or given up; and whether those above it
    /// were, from the lowest bit on.
    pub(crate) fn accepted(&self, producer: ProducerId) -> Option<(u64, u64)> {
        let window = self.windows.peek(&producer)?;
        let ahead = (0..64_u32).filter(|bit| {
            window
                .floor
                .checked_add(1 + u64::from(*bit))
                .is_some_and(|number| window.is_ahead(number))
        });
        Some((window.floor, ahead.fold(0, |seen, bit| seen | 1 << bit)))
    }

    /// The highest number accepted, and the highest sequence.
    pub(crate) fn newest(&self, producer: ProducerId) -> Option<(u64, u64)> {
        self.windows.peek(&producer).map(|window| (window.highest, window.sequence))
    }

    pub(crate) fn cost(&self) -> usize {
        self.cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const P: ProducerId = ProducerId([7; 16]);

    proptest! {
        // Against a set of everything ever accepted: nothing twice, and nothing refused that is
        // within the window.
        #[test]
        fn accepts_each_number_once(
            numbers in proptest::collection::vec(
                prop_oneof![9 => 1_u64..400, 1 => 1_u64..4000], 0..800),
            width in 64_u64..200,
        ) {
            let mut producers = Producers::new();
            let mut accepted = HashSet::new();
            let mut highest = 0;
            for number in numbers {
                match producers.judge(P, number) {
                    Verdict::Fresh => {
                        prop_assert!(accepted.insert(number), "{} twice", number);
                        producers.accept(P, number, number, width, 8);
                        highest = highest.max(number);
                    }
                    Verdict::Duplicate => prop_assert!(accepted.contains(&number)),
                    Verdict::Stale => prop_assert!(number + width <= highest),
                }
            }
        }
    }

    #[test]
    fn in_order_numbers_cost_nothing_and_the_least_recent_producer_goes() {
        let mut producers = Producers::new();
        for number in 1..=10_000 {
            producers.accept(P, number, number, 1024, 2);
        }
        assert_eq!(producers.cost(), PRODUCER_COST);
        producers.accept(ProducerId([8; 16]), 1, 1, 1024, 2);
        assert_eq!(producers.judge(P, 10_000), Verdict::Duplicate);
        producers.accept(ProducerId([9; 16]), 1, 1, 1024, 2);
        assert_eq!(producers.judge(ProducerId([8; 16]), 1), Verdict::Fresh);
        assert_eq!(producers.cost(), 2 * PRODUCER_COST);
    }

    #[test]
    fn the_highest_numbers_there_are_are_numbers_too() {
        let mut producers = Producers::new();
        for number in (u64::MAX - 200..=u64::MAX).rev() {
            assert_eq!(producers.judge(P, number), Verdict::Fresh);
            producers.accept(P, number, 1, 256, 2);
            assert_eq!(producers.judge(P, number), Verdict::Duplicate);
        }
        (u64::MAX - 255..u64::MAX - 200).for_each(|number| producers.accept(P, number, 1, 256, 2));
        assert_eq!(producers.judge(P, u64::MAX), Verdict::Duplicate);
        assert_eq!(producers.judge(P, u64::MAX - 256), Verdict::Stale);
    }

    #[test]
    fn a_number_from_long_ago_is_stale_not_counted_again() {
        let mut producers = Producers::new();
        producers.accept(P, 5000, 1, 1024, 2);
        assert_eq!(producers.judge(P, 1), Verdict::Stale);
        assert_eq!(producers.judge(P, 5000 - 1023), Verdict::Fresh);
        assert_eq!(producers.judge(P, 5000 - 1024), Verdict::Stale);
    }
}
