//! The places of one producer's numbers in a topic's log, so that a repeated publication gets the
//! receipt of the first one.

use crate::engine::cost::allocated;
use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// Maximum number of sequences that a block covers while its numbers are out of order. The message
/// of a duplicate is searched for among so many entries.
const SPAN: u64 = 256;

/// Number of bits that a block has for numbers below its first: those were overtaken on the way.
const BELOW: u64 = 16;

/// Numbers that one producer published at sequences close to each other.
#[derive(Debug, Default, Clone, Copy)]
struct Block {
    first: u64,
    last: u64,
    lowest: u64,
    // Bits of the 64 numbers from the lowest on, set for those in this block. Without any bit, the
    // numbers are in order: the lowest at `first`, the next one after it, and so on to `last`.
    numbers: u64,
}

impl Block {
    fn of(number: u64, sequence: u64) -> Self {
        Self { first: sequence, last: sequence, lowest: number, numbers: 0 }
    }

    /// Enters a number, if it fits here. Returns whether it did.
    fn take(&mut self, number: u64, sequence: u64) -> bool {
        if self.numbers != 0 {
            return self.scatter(number, sequence);
        }
        let more = self.last - self.first;
        if sequence == self.last + 1 && number.wrapping_sub(self.lowest) == more + 1 {
            self.last = sequence;
            return true;
        }
        if more >= 64 - BELOW {
            return false;
        }
        let lowest = self.lowest.saturating_sub(BELOW);
        let numbers = (u64::MAX >> (63 - more)) << (self.lowest - lowest);
        let mut scattered = Self { lowest, numbers, ..*self };
        let taken = scattered.scatter(number, sequence);
        if taken {
            *self = scattered;
        }
        taken
    }

    fn scatter(&mut self, number: u64, sequence: u64) -> bool {
        let (bit, after) = (number.wrapping_sub(self.lowest), sequence.wrapping_sub(self.first));
        if bit >= 64 || after >= SPAN {
            return false;
        }
        self.numbers |= 1 << bit;
        self.last = self.last.max(sequence);
        true
    }

    /// Returns the sequences among which a number is, if it is in this block.
    fn find(&self, number: u64) -> Option<RangeInclusive<u64>> {
        let at = number.wrapping_sub(self.lowest);
        if self.numbers == 0 {
            return (at <= self.last - self.first).then(|| self.first + at..=self.first + at);
        }
        (at < 64 && self.numbers & (1 << at) != 0).then_some(self.first..=self.last)
    }
}

/// The blocks of one producer. Each number is in one of them.
#[derive(Debug, Default)]
pub(crate) struct Places {
    // A producer whose messages follow each other in the log has only this block. In the default it
    // is empty, with the sequence 0.
    newest: Block,
    older: VecDeque<Block>,
    cost: usize,
}

impl Places {
    /// Enters a number. `oldest` is the first sequence in the log: blocks below it are dropped, and
    /// so are the oldest blocks beyond `most`.
    pub(crate) fn enter(&mut self, number: u64, sequence: u64, oldest: u64, most: usize) {
        if self.newest.first == 0 {
            self.newest = Block::of(number, sequence);
            return;
        }
        if self.newest.take(number, sequence) {
            return;
        }
        let before = std::mem::replace(&mut self.newest, Block::of(number, sequence));
        self.trim(oldest);
        if self.older.len() >= most {
            self.older.pop_front();
        }
        if before.last >= oldest {
            self.older.push_back(before);
        }
        self.settle();
    }

    /// Drops the oldest blocks whose messages have all left the log.
    pub(crate) fn trim(&mut self, oldest: u64) {
        let before = self.older.len();
        while self.older.front().is_some_and(|block| block.last < oldest) {
            self.older.pop_front();
        }
        if self.older.len() < before && self.older.len() < self.older.capacity() / 8 {
            self.older.shrink_to(2 * self.older.len());
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.cost = allocated(self.older.capacity() * size_of::<Block>());
    }

    /// Returns the sequences among which a number is; and how many blocks were looked at.
    pub(crate) fn find(&self, number: u64) -> (Option<RangeInclusive<u64>>, usize) {
        let mut looked = 0;
        let mut blocks = std::iter::once(&self.newest).chain(self.older.iter().rev());
        let found = blocks.find_map(|block| {
            looked += 1;
            block.find(number)
        });
        (found, looked)
    }

    /// Returns the number of blocks that are charged.
    pub(crate) fn len(&self) -> usize {
        self.older.len()
    }

    pub(crate) fn cost(&self) -> usize {
        self.cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        // Numbers in any order, with other messages in between: what is found has the sequence, and
        // is never far to look for. Nothing is found that was not entered.
        #[test]
        fn every_number_is_found(
            steps in proptest::collection::vec(
                (prop_oneof![6 => Just(1_u64), 2 => 1_u64..4, 1 => 200_u64..400], 0_u64..3, 0_u64..60),
                1..400),
            start in prop_oneof![Just(1_u64), Just(u64::MAX - 60_000)],
        ) {
            let mut places = Places::default();
            let (mut sequence, mut highest) = (0, start);
            let mut entered = Vec::new();
            for (on, how, back) in steps {
                sequence += on;
                let number = match how {
                    0 => highest + back,
                    1 => highest.saturating_sub(back).max(1),
                    _ => highest + 1,
                };
                if entered.iter().any(|(one, _)| *one == number) {
                    prop_assert!(places.find(number).0.is_some());
                    continue;
                }
                prop_assert_eq!(places.find(number).0, None);
                highest = highest.max(number);
                places.enter(number, sequence, 1, 4096);
                entered.push((number, sequence));
            }
            for (number, sequence) in &entered {
                let (found, looked) = places.find(*number);
                let found = found.unwrap();
                prop_assert!(found.contains(sequence) && found.end() - found.start() < SPAN);
                prop_assert!(looked <= places.len() + 1);
            }
        }
    }

    #[test]
    fn in_order_numbers_need_one_block_and_others_one_for_many() {
        let mut places = Places::default();
        (1..=100_000).for_each(|number| places.enter(number, number + 7, 1, 8));
        assert_eq!((places.len(), places.cost()), (0, 0));
        assert_eq!(places.find(500), (Some(507..=507), 1));
        // Two that take turns, and one whose numbers come in twos the wrong way round.
        let mut places = Places::default();
        for pair in 0..4800 {
            places.enter(2 * pair + 2, 4 * pair + 1, 1, 4096);
            places.enter(2 * pair + 1, 4 * pair + 3, 1, 4096);
        }
        assert!(places.len() <= 9600 / 48, "{}", places.len());
        places.trim(19_000);
        assert!(places.len() <= 3 && places.cost() <= 512, "{} {}", places.len(), places.cost());
    }
}
