//! Publish once: which of a producer's numbers a topic has accepted.

use super::producer_places::Places;
use crate::wire::ProducerId;
use foldhash::fast::RandomState;
use lru::LruCache;
use std::ops::RangeInclusive;

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
    // Highest number accepted.
    highest: u64,
    places: Places,
}

/// What a topic accepts of a producer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    pub(crate) number: u64,
    pub(crate) sequence: u64,
    /// The first sequence in the log.
    pub(crate) oldest: u64,
}

/// Maximum number of blocks of a producer, as a multiple of its window. Every number within the
/// window keeps its place: a block after it has only numbers above twice the window, because what
/// it took was within the window then, and each number stands in one block.
const BLOCKS: u64 = 2;

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
    fn accept(&mut self, accepted: Accepted, width: u64) {
        let Accepted { number, sequence, oldest } = accepted;
        self.places.enter(number, sequence, oldest, (BLOCKS * width) as usize);
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
        PRODUCER_COST + self.ahead.len() * 8 + self.places.cost()
    }
}

/// What a producer costs a topic, bytes.
const PRODUCER_COST: usize = 208;

/// Messages in the log for each block of its producers, below which they are worth a look: honest
/// producers have a block for every 48 messages or more.
const BLOCKS_OF_LOG: u64 = 4;

/// The producers of a topic, those heard of last.
#[derive(Debug)]
pub(crate) struct Producers {
    windows: LruCache<ProducerId, Window, RandomState>,
    cost: usize,
    // In all windows.
    blocks: usize,
}

impl Producers {
    pub(crate) fn new() -> Self {
        let windows = LruCache::unbounded_with_hasher(RandomState::default());
        Self { windows, cost: 0, blocks: 0 }
    }

    pub(crate) fn judge(&mut self, producer: ProducerId, number: u64) -> Verdict {
        self.windows.get(&producer).map_or(Verdict::Fresh, |window| window.judge(number))
    }

    pub(crate) fn accept(
        &mut self,
        producer: ProducerId,
        accepted: Accepted,
        width: u64,
        most: usize,
    ) {
        let Some(window) = self.windows.get_mut(&producer) else {
            while self.windows.len() >= most.max(1) {
                if let Some((_, window)) = self.windows.pop_lru() {
                    self.cost -= window.cost();
                    self.blocks -= window.places.len();
                }
            }
            let mut window = Window::default();
            window.accept(accepted, width);
            self.cost += window.cost();
            self.windows.put(producer, window);
            return;
        };
        let before = (window.cost(), window.places.len());
        window.accept(accepted, width);
        self.cost = self.cost - before.0 + window.cost();
        self.blocks = self.blocks - before.1 + window.places.len();
    }

    /// A message of a producer has left the log, of which `len` messages stay, from `oldest` on.
    /// Mostly blocks are dropped as others come. Those of a producer that has gone silent are
    /// dropped here, as soon as there are many for so short a log.
    pub(crate) fn left(&mut self, producer: ProducerId, oldest: u64, len: u64) {
        if self.blocks as u64 * BLOCKS_OF_LOG > len
            && let Some(window) = self.windows.peek_mut(&producer)
        {
            let before = (window.cost(), window.places.len());
            window.places.trim(oldest);
            self.cost = self.cost - before.0 + window.cost();
            self.blocks = self.blocks - before.1 + window.places.len();
        }
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

    /// The sequences at one of which a number that was accepted stands, if they are known; and how
    /// many blocks were looked at for them.
    pub(crate) fn find(
        &self,
        producer: ProducerId,
        number: u64,
    ) -> (Option<RangeInclusive<u64>>, usize) {
        self.windows.peek(&producer).map_or((None, 0), |window| window.places.find(number))
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

    fn at(number: u64, sequence: u64) -> Accepted {
        Accepted { number, sequence, oldest: 1 }
    }

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
                        producers.accept(P, at(number, number), width, 8);
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
            producers.accept(P, at(number, number), 1024, 2);
        }
        assert_eq!(producers.cost(), PRODUCER_COST);
        producers.accept(ProducerId([8; 16]), at(1, 1), 1024, 2);
        assert_eq!(producers.judge(P, 10_000), Verdict::Duplicate);
        producers.accept(ProducerId([9; 16]), at(1, 1), 1024, 2);
        assert_eq!(producers.judge(ProducerId([8; 16]), 1), Verdict::Fresh);
        assert_eq!(producers.cost(), 2 * PRODUCER_COST);
    }

    #[test]
    fn the_highest_numbers_there_are_are_numbers_too() {
        let mut producers = Producers::new();
        for number in (u64::MAX - 200..=u64::MAX).rev() {
            assert_eq!(producers.judge(P, number), Verdict::Fresh);
            producers.accept(P, at(number, 1), 256, 2);
            assert_eq!(producers.judge(P, number), Verdict::Duplicate);
        }
        (u64::MAX - 255..u64::MAX - 200)
            .for_each(|number| producers.accept(P, at(number, 1), 256, 2));
        assert_eq!(producers.judge(P, u64::MAX), Verdict::Duplicate);
        assert_eq!(producers.judge(P, u64::MAX - 256), Verdict::Stale);
    }

    #[test]
    fn a_number_from_long_ago_is_stale_not_counted_again() {
        let mut producers = Producers::new();
        producers.accept(P, at(5000, 1), 1024, 2);
        assert_eq!(producers.judge(P, 1), Verdict::Stale);
        assert_eq!(producers.judge(P, 5000 - 1023), Verdict::Fresh);
        assert_eq!(producers.judge(P, 5000 - 1024), Verdict::Stale);
    }
}
