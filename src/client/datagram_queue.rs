//! Datagrams of one subscription until it is read. Bounded: what does not fit is dropped as if the
//! network had lost it, and asked for when the reader comes to miss it.

use crate::wire::Refusal;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Frames and bytes that wait, 1,024 and 1 MiB.
const FRAMES: usize = 1024;
const BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
    reader: Option<Waker>,
    ended: Option<Refusal>,
}

/// Frames on their way from the session's datagrams to a subscription.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Waiting>);

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the frames of a datagram, and gives whom to wake for them.
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

    /// The next frame.
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

    /// The subscription has ended.
    pub(super) fn end(&self, why: Refusal) {
        self.lock().ended = Some(why);
    }

    /// Why, if it has.
    pub(super) fn take_end(&self) -> Option<Refusal> {
        self.lock().ended.take()
    }

    /// Whether so much waits that more would only be dropped: no time to ask for what is missing.
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
            let inbox = Inbox::default();
            inbox.push((0..5000).map(|_| Bytes::from(vec![0; size])));
            let mut taken = 0;
            while inbox.poll(&mut context).is_ready() {
                taken += 1;
            }
            assert_eq!(taken, FRAMES.min(BYTES / size));
            assert!(inbox.push([Bytes::from_static(b"more")]).is_some(), "the reader waits");
            assert!(inbox.poll(&mut context).is_ready());
        }
    }
}
