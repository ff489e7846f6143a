//! The numbers of one producer that were accepted, so that each is accepted once.

use crate::wire::ProducerId;
use serde::{Deserialize, Serialize};

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
pub(crate) struct Window {
    floor: u64,
    // Numbers up to this one may have been passed without being accepted.
    passed: u64,
    // A ring of bits for the numbers above the floor, set for those accepted. Empty if none is.
    ahead: Box<[u64]>,
    accepted_ahead: u32,
    // Highest number accepted.
    highest: u64,
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

    /// Judges a number.
    pub(crate) fn judge(&self, number: u64) -> Verdict {
        if number > self.floor {
            if self.is_ahead(number) { Verdict::Duplicate } else { Verdict::Fresh }
        } else if number > self.passed {
            Verdict::Duplicate
        } else {
            Verdict::Stale
        }
    }

    /// Accepts a fresh number; numbers start at 1.
    pub(crate) fn take(&mut self, number: u64, width: u64) {
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

    /// Returns the number up to which all were accepted or passed; and bits for the numbers above
    /// it, from the lowest bit on, set for those accepted.
    pub(crate) fn accepted(&self) -> (u64, u64) {
        let ahead = (0..64_u32).filter(|bit| {
            let number = self.floor.checked_add(1 + u64::from(*bit));
            number.is_some_and(|number| self.is_ahead(number))
        });
        (self.floor, ahead.fold(0, |seen, bit| seen | 1 << bit))
    }

    /// Returns it as a snapshot has it.
    pub(crate) fn save(&self, producer: ProducerId) -> SavedWindow {
        let Self { floor, passed, ref ahead, highest, .. } = *self;
        SavedWindow { producer, floor, passed, highest, ahead: ahead.clone() }
    }

    /// Returns the window of a snapshot. `width` is that of a window here: a wider one that was saved
    /// passes the numbers that are beyond it.
    pub(crate) fn restore(saved: &SavedWindow, width: u64) -> Self {
        let SavedWindow { floor, passed, highest, ref ahead, .. } = *saved;
        let floor = floor.max(highest.saturating_sub(width));
        let passed = if floor > saved.floor { floor } else { passed };
        let mut window = Self { floor, passed, highest: floor, ..Self::default() };
        let had = Self { ahead: ahead.clone(), highest, ..Self::default() };
        for number in floor.saturating_add(1)..=highest {
            if had.is_ahead(number) {
                window.take(number, width);
            }
        }
        window
    }

    /// Returns the bytes of the numbers that are ahead.
    pub(crate) fn ahead_bytes(&self) -> usize {
        self.ahead.len() * 8
    }
}
