//! Publish once: the numbers of each producer that a topic has accepted.

use super::producer_places::Places;
use super::window::{SavedWindow, Verdict, Window};
use crate::engine::cost::PRODUCER_COST;
use crate::wire::ProducerId;
use foldhash::fast::RandomState;
use lru::LruCache;
use std::ops::RangeInclusive;

/// A producer: the numbers that were accepted, and their places in the log.
#[derive(Debug, Default)]
struct Producer {
    window: Window,
    places: Places,
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

impl Producer {
    // Accepts a fresh number; numbers start at 1.
    fn accept(&mut self, accepted: Accepted, width: u64) {
        self.enter(accepted, width);
        self.window.take(accepted.number, width);
    }

    fn enter(&mut self, accepted: Accepted, width: u64) {
        let Accepted { number, sequence, oldest } = accepted;
        self.places.enter(number, sequence, oldest, (BLOCKS * width) as usize);
    }

    fn cost(&self) -> usize {
        PRODUCER_COST + self.window.ahead_bytes() + self.places.cost()
    }
}

/// Number of messages in the log for each block of its producers. Below it, old blocks are dropped.
/// Well-behaved producers have a block for every 48 messages or more.
const BLOCKS_OF_LOG: u64 = 4;

/// The producers of a topic that published last.
#[derive(Debug)]
pub(crate) struct Producers {
    list: LruCache<ProducerId, Producer, RandomState>,
    cost: usize,
    // Number of blocks of all windows.
    blocks: usize,
}

impl Producers {
    pub(crate) fn new() -> Self {
        let list = LruCache::unbounded_with_hasher(RandomState::default());
        Self { list, cost: 0, blocks: 0 }
    }

    pub(crate) fn judge(&mut self, producer: ProducerId, number: u64) -> Verdict {
        self.list.get(&producer).map_or(Verdict::Fresh, |known| known.window.judge(number))
    }

    pub(crate) fn accept(
        &mut self,
        producer: ProducerId,
        accepted: Accepted,
        width: u64,
        most: usize,
    ) {
        let Some(known) = self.list.get_mut(&producer) else {
            while self.list.len() >= most.max(1) {
                self.drop_least_recent();
            }
            let mut new = Producer::default();
            new.accept(accepted, width);
            self.cost += new.cost();
            self.list.put(producer, new);
            return;
        };
        let before = (known.cost(), known.places.len());
        known.accept(accepted, width);
        self.cost = self.cost - before.0 + known.cost();
        self.blocks = self.blocks - before.1 + known.places.len();
    }

    /// Returns the windows, the least recently used first.
    pub(crate) fn windows(&self) -> Vec<SavedWindow> {
        let list = self.list.iter().rev();
        list.map(|(producer, known)| known.window.save(*producer)).collect()
    }

    /// Puts a window in, as the most recently used. `width` is that of a window here: a wider one
    /// that was saved passes the numbers that are beyond it.
    pub(crate) fn put_window(&mut self, saved: &SavedWindow, width: u64, most: usize) {
        let window = Window::restore(saved, width);
        self.remove(saved.producer);
        while self.list.len() >= most.max(1) {
            self.drop_least_recent();
        }
        let restored = Producer { window, places: Places::default() };
        self.cost += restored.cost();
        self.list.put(saved.producer, restored);
    }

    /// Enters the place of a number that was accepted earlier.
    pub(crate) fn enter_place(&mut self, producer: ProducerId, accepted: Accepted, width: u64) {
        if let Some(known) = self.list.peek_mut(&producer) {
            let before = (known.cost(), known.places.len());
            known.enter(accepted, width);
            self.cost = self.cost - before.0 + known.cost();
            self.blocks = self.blocks - before.1 + known.places.len();
        }
    }

    fn drop_least_recent(&mut self) {
        if let Some((producer, _)) = self.list.peek_lru() {
            self.remove(*producer);
        }
    }

    /// Forgets a producer.
    pub(crate) fn remove(&mut self, producer: ProducerId) {
        if let Some(known) = self.list.pop(&producer) {
            self.cost -= known.cost();
            self.blocks -= known.places.len();
        }
    }

    /// Notes that a message of a producer has left the log. `len` messages stay, from `oldest` on.
    ///
    /// Mostly, blocks are dropped when new ones are added. Those of a producer that has become
    /// silent are dropped here, as soon as they are many for so short a log.
    pub(crate) fn message_evicted(&mut self, producer: ProducerId, oldest: u64, len: u64) {
        if self.blocks as u64 * BLOCKS_OF_LOG > len
            && let Some(known) = self.list.peek_mut(&producer)
        {
            let before = (known.cost(), known.places.len());
            known.places.trim(oldest);
            self.cost = self.cost - before.0 + known.cost();
            self.blocks = self.blocks - before.1 + known.places.len();
        }
    }

    /// Returns which numbers of a producer were accepted: see [`Window::accepted`].
    pub(crate) fn accepted(&self, producer: ProducerId) -> Option<(u64, u64)> {
        Some(self.list.peek(&producer)?.window.accepted())
    }

    /// Returns the sequences among which an accepted number is, if that is known; and how many blocks
    /// were looked at.
    pub(crate) fn find(
        &self,
        producer: ProducerId,
        number: u64,
    ) -> (Option<RangeInclusive<u64>>, usize) {
        self.list.peek(&producer).map_or((None, 0), |known| known.places.find(number))
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
