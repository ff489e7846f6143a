//! Publish once: the numbers of each producer that a topic has accepted.

use super::producer_places::Places;
use crate::engine::cost::PRODUCER_COST;
use crate::wire::ProducerId;
use foldhash::fast::RandomState;
use lru::LruCache;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The verdict on a number of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was not accepted before.
    Fresh,
    /// It was accepted before.
    Duplicate,
    /// It is so old that it is not known whether it was accepted.
    Stale,
}

/// Numbers accepted from one producer. Every number up to `floor` was accepted, or was passed by the
/// window.
#[derive(Debug, Default)]
struct Window {
    floor: u64,
    // Numbers up to this one may have been passed without being accepted.
    passed: u64,
    // A ring of bits for the numbers above the floor, set for those accepted. Empty if none is.
    ahead: Box<[u64]>,
    accepted_ahead: u32,
    // Highest number accepted.
    highest: u64,
    places: Places,
}

/// The numbers accepted from one producer, without their places in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedWindow {
    /// The producer.
    pub producer: ProducerId,
    /// Every number up to this one was accepted, or was passed by the window.
    pub floor: u64,
    /// Numbers up to this one may have been passed without being accepted.
    pub passed: u64,
    /// Highest number accepted.
    pub highest: u64,
    /// A ring of bits for the numbers above the floor, set for those accepted; or none.
    pub ahead: Box<[u64]>,
}

/// A number that a topic has accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    pub(crate) number: u64,
    pub(crate) sequence: u64,
    /// The first sequence in the log.
    pub(crate) oldest: u64,
}

/// Maximum number of blocks of a producer, as a multiple of its window. So every number within the
/// window keeps its place. Each number is in one block. Blocks after it have only numbers that were
/// within the window then, and those are fewer than twice the window.
const BLOCKS: u64 = 2;

impl Window {
    // The word and the mask of a number's bit.
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
        } else if number > self.passed {
            Verdict::Duplicate
        } else {
            Verdict::Stale
        }
    }

    // Accepts a fresh number; numbers start at 1.
    fn accept(&mut self, accepted: Accepted, width: u64) {
        let Accepted { number, sequence, oldest } = accepted;
        self.places.enter(number, sequence, oldest, (BLOCKS * width) as usize);
        self.take(number, width);
    }

    fn take(&mut self, number: u64, width: u64) {
        if number - 1 == self.floor && self.accepted_ahead == 0 {
            self.highest = number;
            self.floor = number;
            return;
        }
        let floor = number.saturating_sub(width);
        if floor > self.floor {
            for number in self.floor + 1..=floor.min(self.highest) {
                self.clear(number);
            }
            self.floor = floor;
            self.passed = floor;
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

/// Number of messages in the log for each block of its producers. Below it, old blocks are dropped.
/// Well-behaved producers have a block for every 48 messages or more.
const BLOCKS_OF_LOG: u64 = 4;

/// The producers of a topic that published last.
#[derive(Debug)]
pub(crate) struct Producers {
    windows: LruCache<ProducerId, Window, RandomState>,
    cost: usize,
    // Number of blocks of all windows.
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
                self.drop_least_recent();
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

    /// Returns the windows, the least recently used first.
    pub(crate) fn windows(&self) -> Vec<SavedWindow> {
        let windows = self.windows.iter().rev();
        let saved = windows.map(|(producer, window)| {
            let Window { floor, passed, ref ahead, highest, .. } = *window;
            SavedWindow { producer: *producer, floor, passed, highest, ahead: ahead.clone() }
        });
        saved.collect()
    }

    /// Puts a window in, as the most recently used. `width` is that of a window here: a wider one
    /// that was saved passes the numbers that are beyond it.
    pub(crate) fn put_window(&mut self, saved: &SavedWindow, width: u64, most: usize) {
        let SavedWindow { producer, floor, passed, highest, ref ahead } = *saved;
        let floor = floor.max(highest.saturating_sub(width));
        let passed = if floor > saved.floor { floor } else { passed };
        let mut window = Window { floor, passed, highest: floor, ..Window::default() };
        let had = Window { ahead: ahead.clone(), highest, ..Window::default() };
        for number in floor.saturating_add(1)..=highest {
            if had.is_ahead(number) {
                window.take(number, width);
            }
        }
        self.remove(producer);
        while self.windows.len() >= most.max(1) {
            self.drop_least_recent();
        }
        self.cost += window.cost();
        self.windows.put(producer, window);
    }

    /// Enters the place of a number that was accepted earlier.
    pub(crate) fn enter_place(&mut self, producer: ProducerId, accepted: Accepted, width: u64) {
        let Accepted { number, sequence, oldest } = accepted;
        if let Some(window) = self.windows.peek_mut(&producer) {
            let before = (window.cost(), window.places.len());
            window.places.enter(number, sequence, oldest, (BLOCKS * width) as usize);
            self.cost = self.cost - before.0 + window.cost();
            self.blocks = self.blocks - before.1 + window.places.len();
        }
    }

    fn drop_least_recent(&mut self) {
        if let Some((producer, _)) = self.windows.peek_lru() {
            self.remove(*producer);
        }
    }

    /// Forgets a producer.
    pub(crate) fn remove(&mut self, producer: ProducerId) {
        if let Some(window) = self.windows.pop(&producer) {
            self.cost -= window.cost();
            self.blocks -= window.places.len();
        }
    }

    /// Notes that a message of a producer has left the log. `len` messages stay, from `oldest` on.
    ///
    /// Mostly, blocks are dropped when new ones are added. Those of a producer that has become
    /// silent are dropped here, as soon as they are many for so short a log.
    pub(crate) fn message_evicted(&mut self, producer: ProducerId, oldest: u64, len: u64) {
        if self.blocks as u64 * BLOCKS_OF_LOG > len
            && let Some(window) = self.windows.peek_mut(&producer)
        {
            let before = (window.cost(), window.places.len());
            window.places.trim(oldest);
            self.cost = self.cost - before.0 + window.cost();
            self.blocks = self.blocks - before.1 + window.places.len();
        }
    }

    /// Returns the number up to which all were accepted or passed; and bits for the numbers above
    /// it, from the lowest bit on, set for those accepted.
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

    /// Returns the sequences among which an accepted number is, if that is known; and how many blocks
    /// were looked at.
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
        // Against a set of all accepted numbers: none is accepted twice, and none is refused that is
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
