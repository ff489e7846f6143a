//! Repair requests of one subscription that its delivery has not handled yet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Maximum number of queued repair requests. Further requests are dropped; the receiver repeats
/// them.
const MAX_HOLES: usize = 64;

/// Sequences of a topic to send again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) topic: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// On a stream. Otherwise in datagrams.
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
            // A request that is repeated before it was handled counts once.
            if !holes.contains(&hole) && holes.len() < MAX_HOLES {
                holes.push_back(hole);
            }
        });
    }

    /// Puts the rest of a hole back to the front.
    pub(crate) fn put_back(&self, hole: Hole) {
        self.fill(|holes| holes.push_front(hole));
    }

    /// Takes the first hole. If there is none, the last task that polled is woken by the next.
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
        let queue = RepairQueue::default();
        let hole = |first| Hole { topic: 1, first, last: first, reliably: false };
        for first in [1, 1, 2].into_iter().chain(3..1000) {
            queue.push(hole(first));
        }
        let holes = queue.lock();
        assert_eq!(holes.all.len(), MAX_HOLES);
        assert_eq!(holes.all.iter().map(|hole| hole.first).collect::<Vec<_>>()[..3], [1, 2, 3]);
    }
}
