//! Holes that a subscriber has asked to be filled, until its delivery comes to them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Most that wait. Who asks for more asks again.
const MOST: usize = 64;

/// Sequences of a topic to send again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) topic: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// By stream; else in datagrams.
    pub(crate) reliably: bool,
}

/// The holes of one subscription.
#[derive(Debug, Default)]
pub(crate) struct RepairQueue(Mutex<Holes>);

#[derive(Debug, Default)]
struct Holes {
    all: VecDeque<Hole>,
    reader: Option<Waker>,
}

impl RepairQueue {
    fn lock(&self) -> MutexGuard<'_, Holes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, fill: impl FnOnce(&mut VecDeque<Hole>)) {
        let mut holes = self.lock();
        fill(&mut holes.all);
        let reader = holes.reader.take();
        drop(holes);
        reader.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn push(&self, hole: Hole) {
        self.fill(|holes| {
            // Asked for again before it was answered.
            if !holes.contains(&hole) && holes.len() < MOST {
                holes.push_back(hole);
            }
        });
    }

    /// Puts back what is left of a hole.
    pub(crate) fn put_back(&self, hole: Hole) {
        self.fill(|holes| holes.push_front(hole));
    }

    /// Takes one; with none, wakes whoever asked last when there is.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Hole> {
        let mut holes = self.lock();
        if let Some(hole) = holes.all.pop_front() {
            return Poll::Ready(hole);
        }
        if !holes.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
            holes.reader = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_each_once() {
        let asked = RepairQueue::default();
        let hole = |first| Hole { topic: 1, first, last: first, reliably: false };
        for first in [1, 1, 2].into_iter().chain(3..1000) {
            asked.push(hole(first));
        }
        let holes = asked.lock();
        assert_eq!(holes.all.len(), MOST);
        assert_eq!(holes.all.iter().map(|hole| hole.first).collect::<Vec<_>>()[..3], [1, 2, 3]);
    }
}
