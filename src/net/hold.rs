//! What a session holds of frames that are not complete.

use crate::engine::{Budget, Charge};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Of one stream's frame, bytes that are not counted: 1 KiB, so that a small frame that comes in two
/// packets costs nothing. A session has 100 streams.
const FREE: usize = 1 << 10;

/// Over all streams of a session, bytes that are not charged to the budget: 144 KiB, which is two
/// of the largest small publications. So nobody's small publications are refused because of
/// anybody's large ones.
const SESSION: usize = 2 * ((64 + 8) << 10);

/// What is charged is a multiple of this, 8 KiB: few steps for a large frame.
const STEP: usize = 8 << 10;

/// What one session may hold.
#[derive(Debug)]
pub(super) struct Allowance {
    budget: Budget,
    // Bytes of SESSION that nobody has.
    free: AtomicUsize,
}

impl Allowance {
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, free: AtomicUsize::new(SESSION) }
    }
}

/// How much more must come of what is charged, the fuller the budget is: 8 times as much when half
/// of it is held, 64 times when three quarters are. So nobody keeps it full with little.
fn crowding(held: usize, most: usize) -> u64 {
    match most - held.min(most) {
        left if left <= most / 4 => 64,
        left if left <= most / 2 => 8,
        _ => 1,
    }
}

/// What one stream holds of it. To be resized to 0 in the end: it does not know whose it is.
#[derive(Debug, Default)]
pub(super) struct Hold {
    free: usize,
    charge: Option<Charge>,
}

impl Hold {
    /// How many bytes of it are to come for each that its pace asks for.
    pub(super) fn crowding(&self, of: &Allowance) -> u64 {
        match &self.charge {
            Some(_) => crowding(of.budget.held(), of.budget.most()),
            None => 1,
        }
    }

    /// Holds so many bytes from now on. Says whether there is room; if not, nothing changes. Less
    /// always fits.
    pub(super) fn resize(&mut self, of: &Allowance, bytes: usize) -> bool {
        let wanted = if bytes <= FREE { 0 } else { bytes.next_multiple_of(STEP) };
        if wanted <= self.free {
            if wanted < self.free || self.charge.is_some() {
                of.free.fetch_add(self.free - wanted, Relaxed);
                *self = Self { free: wanted, charge: None };
            }
            return true;
        }
        let charged = wanted - self.free;
        match &mut self.charge {
            Some(charge) => charge.bytes() == charged || charge.resize(charged),
            None => {
                let take = |free: usize| free.checked_sub(charged);
                if of.free.fetch_update(Relaxed, Relaxed, take).is_ok() {
                    self.free = wanted;
                    return true;
                }
                self.charge = of.budget.take(charged);
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
        assert!(free.resize(&of, SESSION) && charged.resize(&of, 1 << 16));
        let mut others = budget.take(0).unwrap();
        for (held, crowding) in [(400 << 10, 1), (512 << 10, 8), (768 << 10, 64), (1 << 20, 64)] {
            assert!(others.resize(held - (1 << 16)));
            assert_eq!((free.crowding(&of), charged.crowding(&of)), (1, crowding), "{held}");
        }
        for hold in [&mut free, &mut charged] {
            hold.resize(&of, 0);
        }
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
        assert!(!many[3].resize(&of, 200 << 10));
        for hold in &mut many {
            assert!(hold.resize(&of, 0));
        }
        assert_eq!((of.free.load(Relaxed), budget.held()), (SESSION, 0));
    }
}
