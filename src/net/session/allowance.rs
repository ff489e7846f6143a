//! The memory that a session may hold for incomplete frames.

use crate::engine::{Budget, Charge};
use crate::wire::LARGE;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes of one stream's frame that are not counted, 1 KiB. A small frame in two packets therefore
/// costs nothing. A session has 100 streams.
const FREE: usize = 1 << 10;

/// Charges are multiples of this, 8 KiB, so that a large frame is charged in few steps.
const STEP: usize = 8 << 10;

/// The largest small publication with its frame, 72 KiB.
const SMALL: usize = LARGE + STEP;

/// Bytes over all streams of a session that are not charged to the budget: 144 KiB, which is two of
/// the largest small publications. Large publications, of any session, therefore never cause the
/// refusal of small ones.
const SESSION: usize = 2 * SMALL;

/// The allowance of one session.
#[derive(Debug)]
pub(crate) struct Allowance {
    budget: Budget,
    // Bytes of SESSION that no stream holds.
    free: AtomicUsize,
}

impl Allowance {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, free: AtomicUsize::new(SESSION) }
    }
}

/// The factor by which a charged frame has to arrive faster while others hold much of the budget.
/// It is 8 from a half, and 64 from three quarters. A few slow bytes therefore cannot keep the
/// budget full.
fn crowding(others: usize, budget: usize) -> u64 {
    match budget - others.min(budget) {
        left if left <= budget / 4 => 64,
        left if left <= budget / 2 => 8,
        _ => 1,
    }
}

/// The part of an allowance that one stream holds. The owner resizes it to 0 at the end, because a
/// hold has no reference to its allowance.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    free: usize,
    charge: Option<Charge>,
}

impl Hold {
    /// Whether a part is charged to the budget.
    pub(crate) fn is_charged(&self) -> bool {
        self.charge.is_some()
    }

    /// The number of bytes that have to arrive for each that the pace requires.
    pub(crate) fn crowding(&self, of: &Allowance) -> u64 {
        match &self.charge {
            // Its own charge does not count.
            Some(own) => crowding(of.budget.held().saturating_sub(own.bytes()), of.budget.most()),
            None => 1,
        }
    }

    /// Changes the hold to `bytes`. Returns whether there is room; shrinking always succeeds.
    pub(crate) fn resize(&mut self, of: &Allowance, bytes: usize) -> bool {
        let wanted = if bytes <= FREE { 0 } else { bytes.next_multiple_of(STEP) };
        // A large frame leaves the free bytes to small ones if the budget has room.
        if wanted > SMALL && self.charge(of, wanted) {
            of.free.fetch_add(std::mem::take(&mut self.free), Relaxed);
            return true;
        }
        if wanted > self.free {
            let mut more = 0;
            let _ = of.free.fetch_update(Relaxed, Relaxed, |free| {
                more = free.min(wanted - self.free);
                Some(free - more)
            });
            self.free += more;
        } else if wanted < self.free {
            of.free.fetch_add(self.free - wanted, Relaxed);
            self.free = wanted;
        }
        self.charge(of, wanted - self.free)
    }

    fn charge(&mut self, of: &Allowance, bytes: usize) -> bool {
        match &mut self.charge {
            charge if bytes == 0 => {
                *charge = None;
                true
            }
            Some(charge) => charge.bytes() == bytes || charge.resize(bytes),
            None => {
                self.charge = of.budget.take(bytes);
                self.charge.is_some()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_little_room_what_is_charged_is_to_come_faster() {
        let budget = Budget::new(1 << 20);
        let of = Allowance::new(budget.clone());
        let (mut free, mut charged) = (Hold::default(), Hold::default());
        assert!(free.resize(&of, SMALL) && charged.resize(&of, SMALL + STEP));
        let mut others = budget.take(0).unwrap();
        for (held, crowding) in [(0, 1), (511 << 10, 1), (512 << 10, 8), (768 << 10, 64)] {
            assert!(others.resize(held));
            assert_eq!((free.crowding(&of), charged.crowding(&of)), (1, crowding), "{held}");
        }
        for hold in [&mut free, &mut charged] {
            hold.resize(&of, 0);
        }
    }

    // A payload may be as large as the budget, and its frame is larger still.
    #[test]
    fn the_largest_payload_has_room_by_itself_and_takes_it_from_no_small_one() {
        let budget = Budget::new(256 << 10);
        let of = Allowance::new(budget.clone());
        let (mut large, mut small) = (Hold::default(), Hold::default());
        for come in [40 << 10, 100 << 10, 200 << 10] {
            assert!(large.resize(&of, come));
        }
        assert_eq!((of.free.load(Relaxed), budget.held()), (SESSION, 200 << 10));
        assert!(small.resize(&of, LARGE + 96));
        assert!(large.resize(&of, (256 << 10) + 96));
        assert!(large.resize(&of, 0) && small.resize(&of, 0));
        assert!(large.resize(&of, (256 << 10) + 96), "at once");
        assert!(large.resize(&of, 0));
        assert_eq!((of.free.load(Relaxed), budget.held()), (SESSION, 0));
    }

    #[test]
    fn small_ones_are_free_and_large_ones_charged_until_they_go() {
        let budget = Budget::new(1 << 20);
        let of = Allowance::new(budget.clone());
        let mut many: Vec<_> = (0..4).map(|_| Hold::default()).collect();
        // The first bytes of each cost nothing.
        assert!(many.iter_mut().all(|hold| hold.resize(&of, FREE)));
        assert_eq!(of.free.load(Relaxed), SESSION);
        // The session's free bytes hold two small publications. The others are charged.
        assert!(many.iter_mut().all(|hold| hold.resize(&of, (64 << 10) + 96)));
        assert_eq!((of.free.load(Relaxed), budget.held()), (0, 144 << 10));
        // One grows until the budget is full.
        let mut size = 64 << 10;
        while many[0].resize(&of, size) {
            size += 1000;
        }
        assert!(budget.held() <= budget.most() && budget.held() + STEP + 1000 > budget.most());
        let held = budget.held();
        assert!(many[0].resize(&of, size - 1000) && budget.held() == held);
        assert!(!many[3].resize(&of, 300 << 10));
        for hold in &mut many {
            assert!(hold.resize(&of, 0));
        }
        assert_eq!((of.free.load(Relaxed), budget.held()), (SESSION, 0));
    }
}
