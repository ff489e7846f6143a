//! What waits to be written to one stream. Whoever fills it waits for room first; one writer
//! empties it, everything at once.

use bytes::Bytes;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
#[cfg(feature = "daemon")]
use std::task::{Context, Poll};
use tokio::sync::Notify;

/// Bytes above which [`Outbox::room`] waits. What is pushed then may go past it, once a producer.
const FULL: usize = 64 << 10;

#[derive(Debug, Default)]
struct Waiting {
    pieces: Vec<Bytes>,
    bytes: usize,
    closed: bool,
    // Tasks to wake when there is room: those of a session, a hundred at most.
    producers: Vec<Waker>,
}

impl Waiting {
    fn has_room(&self) -> bool {
        self.bytes < FULL || self.closed
    }
}

/// A bounded queue of bytes between many who fill and one who writes.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
    emptied: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room, or nobody will write any more.
    pub(crate) async fn room(&self) {
        loop {
            let emptied = self.emptied.notified();
            {
                let waiting = self.lock();
                if waiting.has_room() {
                    return;
                }
            }
            emptied.await;
        }
    }

    /// As [`room`](Self::room), for a task that may have to ask again without having been woken.
    #[cfg(feature = "daemon")]
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.lock();
        if waiting.has_room() {
            return Poll::Ready(());
        }
        let task = context.waker();
        if !waiting.producers.iter().any(|known| known.will_wake(task)) {
            waiting.producers.push(task.clone());
        }
        Poll::Pending
    }

    /// Whether [`room`](Self::room) would not wait.
    #[cfg(feature = "daemon")]
    pub(crate) fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    /// Adds pieces, in order; dropped when nobody will write any more.
    pub(crate) fn push(&self, pieces: impl IntoIterator<Item = Bytes>) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        for piece in pieces {
            waiting.bytes += piece.len();
            waiting.pieces.push(piece);
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// Waits for something to write, and moves all of it to `pieces`.
    pub(crate) async fn take(&self, pieces: &mut Vec<Bytes>) {
        while !self.try_take(pieces) {
            self.filled.notified().await;
        }
    }

    /// Moves what there is to `pieces`; whether that was anything.
    pub(crate) fn try_take(&self, pieces: &mut Vec<Bytes>) -> bool {
        let mut waiting = self.lock();
        if waiting.pieces.is_empty() {
            return false;
        }
        pieces.append(&mut waiting.pieces);
        waiting.bytes = 0;
        let producers = std::mem::take(&mut waiting.producers);
        drop(waiting);
        self.emptied.notify_waiters();
        producers.into_iter().for_each(Waker::wake);
        true
    }

    /// Nobody will write any more: nobody need wait for room.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.pieces.clear();
        let producers = std::mem::take(&mut waiting.producers);
        drop(waiting);
        self.emptied.notify_waiters();
        producers.into_iter().for_each(Waker::wake);
    }
}
