//! Holes that a subscriber has asked to be filled, until its delivery comes to them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Most that wait. Who asks for more asks again.
const MOST: usize = 64;

/// Sequences of a topic to send again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) topic: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    /// By stream; else in datagrams.
    pub(super) reliably: bool,
}

/// The holes of one subscription.
#[derive(Debug, Default)]
pub(super) struct Asked {
    holes: Mutex<VecDeque<Hole>>,
    filled: Notify,
}

impl Asked {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Hole>> {
        self.holes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, hole: Hole) {
        let mut holes = self.lock();
        // Asked for again before it was answered.
        if holes.contains(&hole) || holes.len() >= MOST {
            return;
        }
        holes.push_back(hole);
        drop(holes);
        self.filled.notify_one();
    }

    /// Puts back what is left of a hole.
    pub(super) fn put_back(&self, hole: Hole) {
        self.lock().push_front(hole);
        self.filled.notify_one();
    }

    /// Waits for one.
    pub(super) async fn next(&self) -> Hole {
        loop {
            if let Some(hole) = self.lock().pop_front() {
                return hole;
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_each_once() {
        let asked = Asked::default();
        let hole = |first| Hole { topic: 1, first, last: first, reliably: false };
        for first in [1, 1, 2].into_iter().chain(3..1000) {
            asked.push(hole(first));
        }
        let holes = asked.lock();
        assert_eq!(holes.len(), MOST);
        assert_eq!(holes.iter().map(|hole| hole.first).collect::<Vec<_>>()[..3], [1, 2, 3]);
    }
}
