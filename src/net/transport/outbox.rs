//! The bytes that wait to be written to one stream. Producers wait for room before they push. One
//! writer takes everything at once.

use bytes::Bytes;
#[cfg(feature = "daemon")]
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
#[cfg(feature = "daemon")]
use std::task::{Context, Poll};
use tokio::sync::Notify;

/// Bytes from which [`Outbox::room`] waits, 64 KiB. Each producer may exceed it with one push.
const FULL: usize = 64 << 10;

#[derive(Debug, Default)]
struct Queued {
    pieces: Vec<Bytes>,
    // Pieces that wait until the journal has kept a record, with its number, in order.
    #[cfg(feature = "daemon")]
    held: VecDeque<(u64, Bytes)>,
    bytes: usize,
    // The state of the daemon that the peer has not been sent yet. One that follows replaces it, so
    // that it needs no room.
    #[cfg(feature = "daemon")]
    notice: Option<Bytes>,
    closed: bool,
    // The writer writes what it took last.
    #[cfg(feature = "daemon")]
    writing: bool,
    // Tasks to wake when there is room. They belong to one session, and are a hundred at most.
    producers: Vec<Waker>,
}

impl Queued {
    fn has_room(&self) -> bool {
        self.bytes < FULL || self.closed
    }
}

/// A bounded queue of bytes between many producers and one writer.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queued: Mutex<Queued>,
    filled: Notify,
    emptied: Notify,
    #[cfg(feature = "daemon")]
    holding: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room, or the outbox is closed.
    pub(crate) async fn room(&self) {
        loop {
            let emptied = self.emptied.notified();
            {
                let queued = self.lock();
                if queued.has_room() {
                    return;
                }
            }
            emptied.await;
        }
    }

    /// The same as [`room`](Self::room), for a task that may poll again without a wake.
    #[cfg(feature = "daemon")]
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut queued = self.lock();
        if queued.has_room() {
            return Poll::Ready(());
        }
        let task = context.waker();
        if !queued.producers.iter().any(|known| known.will_wake(task)) {
            queued.producers.push(task.clone());
        }
        Poll::Pending
    }

    /// Whether [`room`](Self::room) would not wait.
    #[cfg(feature = "daemon")]
    pub(crate) fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    /// Whether everything was written. The writer takes again when it has written.
    #[cfg(feature = "daemon")]
    pub(crate) fn is_idle(&self) -> bool {
        let queued = self.lock();
        // A receipt that waits for the journal is in flight too.
        queued.pieces.is_empty() && queued.held.is_empty() && !queued.writing
    }

    /// Adds pieces, in order. A closed outbox drops them.
    pub(crate) fn push(&self, pieces: impl IntoIterator<Item = Bytes>) {
        let mut queued = self.lock();
        if queued.closed {
            return;
        }
        for piece in pieces {
            queued.bytes += piece.len();
            queued.pieces.push(piece);
        }
        drop(queued);
        self.filled.notify_one();
    }

    /// Adds a notice, in place of one that was not taken yet.
    #[cfg(feature = "daemon")]
    pub(crate) fn set_notice(&self, notice: Bytes) {
        let mut queued = self.lock();
        if !queued.closed {
            queued.notice = Some(notice);
            drop(queued);
            self.filled.notify_one();
        }
    }

    /// Adds a piece that is to wait until the journal has kept the record with a number.
    #[cfg(feature = "daemon")]
    pub(crate) fn hold(&self, number: u64, piece: Bytes) {
        let mut queued = self.lock();
        if queued.closed {
            return;
        }
        queued.bytes += piece.len();
        queued.held.push_back((number, piece));
        drop(queued);
        self.holding.notify_one();
    }

    /// Waits until a piece is held, and returns the number of the record that it waits for.
    #[cfg(feature = "daemon")]
    pub(crate) async fn held(&self) -> u64 {
        loop {
            let held = self.lock().held.front().map(|(number, _)| *number);
            if let Some(number) = held {
                return number;
            }
            self.holding.notified().await;
        }
    }

    /// Lets go of the pieces that wait for records up to `kept`.
    #[cfg(feature = "daemon")]
    pub(crate) fn release(&self, kept: u64) {
        let mut queued = self.lock();
        let mut any = false;
        while queued.held.front().is_some_and(|(number, _)| *number <= kept)
            && let Some((_, piece)) = queued.held.pop_front()
        {
            queued.pieces.push(piece);
            any = true;
        }
        drop(queued);
        if any {
            self.filled.notify_one();
        }
    }

    /// Waits for something to write, and moves all of it to `pieces`.
    pub(crate) async fn take(&self, pieces: &mut Vec<Bytes>) {
        while !self.try_take(pieces) {
            self.filled.notified().await;
        }
    }

    /// Moves everything to `pieces`. Returns whether there was anything.
    pub(crate) fn try_take(&self, pieces: &mut Vec<Bytes>) -> bool {
        let mut queued = self.lock();
        #[cfg(feature = "daemon")]
        {
            if let Some(notice) = queued.notice.take() {
                queued.bytes += notice.len();
                queued.pieces.push(notice);
            }
            queued.writing = !queued.pieces.is_empty();
        }
        if queued.pieces.is_empty() {
            return false;
        }
        let taken: usize = queued.pieces.iter().map(Bytes::len).sum();
        queued.bytes -= taken;
        pieces.append(&mut queued.pieces);
        let producers = std::mem::take(&mut queued.producers);
        drop(queued);
        self.emptied.notify_waiters();
        producers.into_iter().for_each(Waker::wake);
        true
    }

    /// Closes the outbox, because its writer has ended. Producers no longer wait for room.
    pub(crate) fn close(&self) {
        let mut queued = self.lock();
        queued.closed = true;
        queued.pieces.clear();
        #[cfg(feature = "daemon")]
        queued.held.clear();
        #[cfg(feature = "daemon")]
        {
            queued.notice = None;
        }
        let producers = std::mem::take(&mut queued.producers);
        drop(queued);
        self.emptied.notify_waiters();
        producers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(all(test, feature = "daemon"))]
mod tests {
    use super::*;

    // A peer that does not read has the newest notice when it does.
    #[test]
    fn a_notice_needs_no_room_and_the_next_one_takes_its_place() {
        let outbox = Outbox::default();
        outbox.push([Bytes::from(vec![0; FULL])]);
        assert!(!outbox.has_room());
        outbox.set_notice("first".into());
        outbox.set_notice("second".into());
        let mut pieces = Vec::new();
        assert!(outbox.try_take(&mut pieces));
        assert_eq!((pieces.len(), &pieces[1][..]), (2, &b"second"[..]));
        assert!(!outbox.try_take(&mut pieces) && outbox.is_idle() && outbox.has_room());
        outbox.set_notice("third".into());
        assert!(outbox.try_take(&mut pieces) && !outbox.is_idle());
    }
}
