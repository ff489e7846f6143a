//! Splits what one channel carries into a stream for each request: a client's half of WebSocket.
//!
//! Nothing here waits, because a client that stops reading the channel stops all its subscriptions
//! and its answers to pings. A request whose reader does not keep up overflows instead: further
//! frames for it are dropped, and its reader resumes from the daemon's cache.

use crate::wire::{Code, DaemonFrame, Refusal, frame_span};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

/// Bytes that may wait for the reader of one request before it overflows, 1 MiB: the receive window
/// of a QUIC stream. A message in chunks that begins before that is received completely, however
/// large. If it were dropped half-way it would be sent again from its beginning, and perhaps never
/// complete.
const FULL: usize = 1 << 20;

/// Maximum number of new requests in the messages of one read. A client over QUIC accepts as many
/// streams.
const NEW_REQUESTS: usize = 320;

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    // Bytes received of the message in chunks that has not ended.
    arriving: usize,
    overflowed: bool,
    // The daemon sends no more for the request.
    ended: bool,
    reader: Option<Waker>,
}

/// The frames that wait for the readers of requests.
#[derive(Default)]
pub(super) struct Demux {
    // Largest payload, from the daemon's `Welcome`.
    largest: usize,
    // The request of the last `For`, to which the following frames belong.
    current: Option<u32>,
    queues: HashMap<u32, Queue>,
    // Not reported yet.
    new_requests: RequestQueue,
    overflowed: RequestQueue,
}

/// Requests for one task, and the task that waits for the next.
#[derive(Default)]
struct RequestQueue {
    requests: VecDeque<u32>,
    waiting: Option<Waker>,
}

impl RequestQueue {
    fn push(&mut self, request: u32, wake: &mut Vec<Waker>) {
        self.requests.push_back(request);
        wake.extend(self.waiting.take());
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<u32> {
        match self.requests.pop_front() {
            Some(request) => Poll::Ready(request),
            None => {
                self.waiting = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Demux {
    /// Splits one message. Frames that belong to no request go to `control`. The wakers of readers
    /// with something to read go to `wake`. Nothing is copied, and consecutive frames for the same
    /// request stay one piece.
    pub(super) fn split(
        &mut self,
        message: &Bytes,
        control: &mut VecDeque<Bytes>,
        wake: &mut Vec<Waker>,
    ) -> Result<(), Refusal> {
        // The start of the current run of frames, and its request. None is control.
        let (mut start, mut to) = (0, None);
        let mut at = 0;
        while at < message.len() {
            let malformed = |reason: String| Refusal::new(Code::MALFORMED, reason);
            let rest = &message[at..];
            let span = frame_span(rest).map_err(|error| malformed(error.to_string()))?;
            let frame = span.and_then(|span| rest.get(..span));
            let frame = frame.ok_or_else(|| malformed("a message that ends in a frame".into()))?;
            // Skips the length. An unknown frame goes to control, which rejects it.
            let body = frame.iter().position(|byte| byte & 0x80 == 0).map_or(0, |last| last + 1);
            let decoded = DaemonFrame::decode(&frame[body..]);
            // The request of this frame, and the start of a new run if this frame begins one.
            let (next, from) = match decoded {
                Ok(DaemonFrame::For { request }) => {
                    self.current = Some(request);
                    let known = self.queues.contains_key(&request);
                    if !known {
                        self.begin(request, wake)?;
                    }
                    // A stream begins with `For`. A stream that continues leaves it out.
                    (Some(request), Some(if known { at + frame.len() } else { at }))
                }
                Ok(ref frame) if frame.is_for_request() => {
                    let current = self.current.ok_or_else(|| {
                        malformed("a frame of a request before the first `For`".into())
                    })?;
                    (Some(current), None)
                }
                Ok(DaemonFrame::Welcome { limits, .. }) => {
                    self.largest = limits.payload as usize;
                    (None, None)
                }
                _ => (None, None),
            };
            if next != to || from.is_some() {
                self.hand(to, message.slice(start..at), control, wake);
                (start, to) = (from.unwrap_or(at), next);
            }
            at += frame.len();
            let queue = next.and_then(|request| self.queues.get_mut(&request));
            match (decoded, queue) {
                (Ok(DaemonFrame::Chunk { .. }), Some(queue)) => queue.arriving += frame.len(),
                (Ok(DaemonFrame::End { .. } | DaemonFrame::Abort { .. }), Some(_)) => {
                    self.hand(to, message.slice(start..at), control, wake);
                    start = at;
                    if let Some(queue) = next.and_then(|request| self.queues.get_mut(&request)) {
                        queue.arriving = 0;
                    }
                }
                _ => {}
            }
        }
        self.hand(to, message.slice(start..), control, wake);
        Ok(())
    }

    fn begin(&mut self, request: u32, wake: &mut Vec<Waker>) -> Result<(), Refusal> {
        if self.new_requests.requests.len() >= NEW_REQUESTS {
            let reason = format!("answers to more than {NEW_REQUESTS} requests at once");
            return Err(Refusal::new(Code::OVERLOADED, reason));
        }
        self.queues.insert(request, Queue::default());
        self.new_requests.push(request, wake);
        Ok(())
    }

    fn hand(
        &mut self,
        to: Option<u32>,
        piece: Bytes,
        control: &mut VecDeque<Bytes>,
        wake: &mut Vec<Waker>,
    ) {
        let Some(request) = to.filter(|_| !piece.is_empty()) else {
            control.extend(Some(piece).filter(|piece| !piece.is_empty()));
            return;
        };
        // A request without a queue has been forgotten.
        let queue = self.queues.get_mut(&request);
        let Some(queue) = queue.filter(|queue| !queue.overflowed) else {
            return;
        };
        if queue.bytes >= FULL + queue.arriving.min(self.largest + FULL) {
            queue.overflowed = true;
            self.overflowed.push(request, wake);
            return;
        }
        queue.bytes += piece.len();
        queue.pieces.push_back(piece);
        wake.extend(queue.reader.take());
    }

    /// Returns a request that is new.
    pub(super) fn poll_new_request(&mut self, context: &mut Context<'_>) -> Poll<u32> {
        self.new_requests.poll(context)
    }

    /// Returns a request that has overflowed. The caller tells the daemon.
    pub(super) fn poll_overflowed(&mut self, context: &mut Context<'_>) -> Poll<u32> {
        self.overflowed.poll(context)
    }

    /// The daemon sends no more for `request`.
    pub(super) fn end(&mut self, request: u32, wake: &mut Vec<Waker>) {
        if let Some(queue) = self.queues.get_mut(&request) {
            queue.ended = true;
            wake.extend(queue.reader.take());
        }
    }

    /// Whether `request` has overflowed.
    pub(super) fn has_overflowed(&self, request: u32) -> bool {
        self.queues.get(&request).is_some_and(|queue| queue.overflowed)
    }

    /// Moves what was received for `request` into `pieces`. Returns `None` after the last piece of
    /// a request that has overflowed or ended.
    pub(super) fn poll_read(
        &mut self,
        request: u32,
        pieces: &mut [Bytes],
        context: &mut Context<'_>,
    ) -> Poll<Option<usize>> {
        let Some(queue) = self.queues.get_mut(&request) else {
            return Poll::Ready(None);
        };
        let moved = queue.pieces.len().min(pieces.len());
        for (to, from) in pieces.iter_mut().zip(queue.pieces.drain(..moved)) {
            queue.bytes -= from.len();
            *to = from;
        }
        if moved > 0 {
            return Poll::Ready(Some(moved));
        }
        if queue.overflowed || queue.ended {
            return Poll::Ready(None);
        }
        queue.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Drops the queue of `request`, which has no reader any more.
    pub(super) fn forget(&mut self, request: u32) {
        self.queues.remove(&request);
    }

    /// Takes the wakers of all tasks that wait, because the channel was lost.
    pub(super) fn take_wakers(&mut self, wake: &mut Vec<Waker>) {
        wake.extend(self.queues.values_mut().filter_map(|queue| queue.reader.take()));
        let queues = [&mut self.new_requests, &mut self.overflowed];
        wake.extend(queues.into_iter().filter_map(|queue| queue.waiting.take()));
    }
}

#[cfg(test)]
mod tests;
