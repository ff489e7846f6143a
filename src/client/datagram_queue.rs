//! A bounded queue of one subscription's datagrams. Frames that do not fit are dropped as if the
//! network had lost them; the subscription then requests their repair.

use crate::wire::Refusal;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Maximum number of frames in a queue, and of their bytes: 1,024 and 1 MiB.
const FRAMES: usize = 1024;
const BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
    reader: Option<Waker>,
    ended: Option<Refusal>,
}

/// Frames from datagrams that a subscription has not read yet.
#[derive(Debug, Default)]
pub(super) struct DatagramQueue(Mutex<Waiting>);

impl DatagramQueue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the frames of a datagram. Returns the waker of the reader, if it waits.
    pub(super) fn push(&self, frames: impl IntoIterator<Item = Bytes>) -> Option<Waker> {
        let mut waiting = self.lock();
        for frame in frames {
            if waiting.frames.len() < FRAMES && waiting.bytes + frame.len() <= BYTES {
                waiting.bytes += frame.len();
                waiting.frames.push_back(frame);
            }
        }
        waiting.reader.take()
    }

    /// Returns the next frame.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Bytes> {
        let mut waiting = self.lock();
        match waiting.frames.pop_front() {
            Some(frame) => {
                waiting.bytes -= frame.len();
                Poll::Ready(frame)
            }
            None => {
                waiting.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Records that the subscription has ended.
    pub(super) fn end(&self, close_reason: Refusal) {
        self.lock().ended = Some(close_reason);
    }

    /// Returns why the subscription has ended: once, and `None` if it has not.
    pub(super) fn take_end(&self) -> Option<Refusal> {
        self.lock().ended.take()
    }

    /// Returns whether the queue is more than half full. The reader then requests no repairs, because
    /// the answers might be dropped.
    pub(super) fn is_half_full(&self) -> bool {
        let waiting = self.lock();
        waiting.frames.len() > FRAMES / 2 || waiting.bytes > BYTES / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_in_frames_and_in_bytes() {
        let mut context = Context::from_waker(Waker::noop());
        for size in [1, 100_000] {
            let queue = DatagramQueue::default();
            queue.push((0..5000).map(|_| Bytes::from(vec![0; size])));
            let mut taken = 0;
            while queue.poll(&mut context).is_ready() {
                taken += 1;
            }
            assert_eq!(taken, FRAMES.min(BYTES / size));
            assert!(queue.push([Bytes::from_static(b"more")]).is_some(), "the reader waits");
            assert!(queue.poll(&mut context).is_ready());
        }
    }
}
