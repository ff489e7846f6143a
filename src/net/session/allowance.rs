//! What a session holds of frames that are not complete.

use crate::engine::{Budget, Charge};
use crate::wire::LARGE;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Of one stream's frame, bytes that are not counted: 1 KiB, so that a small frame that comes in two
/// packets costs nothing. A session has 100 streams.
const FREE: usize = 1 << 10;

/// What is charged is a multiple of this, 8 KiB: few steps for a large frame.
const STEP: usize = 8 << 10;

/// The largest publication that is not large, and what it comes in, 72 KiB.
const SMALL: usize = LARGE + STEP;

/// Over all streams of a session, bytes that are not charged to the budget: 144 KiB, which is two of
/// the largest small publications. So nobody's small publications are refused because of anybody's
/// large ones.
const SESSION: usize = 2 * SMALL;

/// What one session may hold.
#[derive(Debug)]
pub(crate) struct Allowance {
    budget: Budget,
    // Bytes of SESSION that nobody has.
    free: AtomicUsize,
}

impl Allowance {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, free: AtomicUsize::new(SESSION) }
    }
}

/// How much more must come of what is charged, the more of the budget others hold: 8 times as much
/// when that is half of it, 64 times when it is three quarters. So nobody keeps it full with little.
fn crowding(others: usize, most: usize) -> u64 {
    match most - others.min(most) {
        left if left <= most / 4 => 64,
        left if left <= most / 2 => 8,
        _ => 1,
    }
}

/// What one stream holds of it. To be resized to 0 in the end: it does not know whose it is.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    free: usize,
    charge: Option<Charge>,
}

impl Hold {
    /// Whether any of it is charged.
    pub(crate) fn is_charged(&self) -> bool {
        self.charge.is_some()
    }

    /// How many bytes of it are to come for each that its pace asks for.
    pub(crate) fn crowding(&self, of: &Allowance) -> u64 {
        match &self.charge {
            // One that is alone may take its time.
            Some(own) => crowding(of.budget.held().saturating_sub(own.bytes()), of.budget.most()),
            None => 1,
        }
    }

    /// Holds so many bytes from now on, and says whether there is room. Less always fits.
    pub(crate) fn resize(&mut self, of: &Allowance, bytes: usize) -> bool {
        let wanted = if bytes <= FREE { 0 } else { bytes.next_multiple_of(STEP) };
        // What is large leaves to small ones what is free, if it can.
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

    // A payload may be as large as the budget, and its frame is larger.
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
        // A little of each costs nothing at all.
        assert!(many.iter_mut().all(|hold| hold.resize(&of, FREE)));
        assert_eq!(of.free.load(Relaxed), SESSION);
        // Two small publications go into what the session has for nothing; the others are charged.
        assert!(many.iter_mut().all(|hold| hold.resize(&of, (64 << 10) + 96)));
        assert_eq!((of.free.load(Relaxed), budget.held()), (0, 144 << 10));
        // One grows as far as there is room, and no further.
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
