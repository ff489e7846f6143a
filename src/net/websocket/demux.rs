//! What one channel carries, taken apart again: a client's half of WebSocket.
//!
//! Nothing here waits, because a client that stops reading the channel stops all its
//! subscriptions and its answers to pings. So a request whose reader does not keep up is cut: what
//! still comes for it is dropped, and whoever reads it asks again from where it stands. The
//! daemon's cache is the buffer, here as everywhere.

use crate::wire::{Code, DaemonFrame, Refusal, frame_span};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

/// Bytes that may wait for the reader of one request before it is cut, 1 MiB: as much as QUIC
/// lets wait on a stream. What begins before they do comes whole, be it larger and in chunks: who is
/// cut inside a message has to begin it again, and if that went on it would never have it.
const FULL: usize = 1 << 20;

/// Requests that may begin in the messages of one read; a client over QUIC takes as many streams.
const BEGINNING: usize = 320;

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    // Bytes that came of the message in chunks that has begun and has not ended.
    arriving: usize,
    cut: bool,
    // The daemon sends no more for it.
    ended: bool,
    reader: Option<Waker>,
}

/// What waits for the readers of requests.
#[derive(Default)]
pub(super) struct Demux {
    // Largest payload, as the daemon says in its welcome.
    largest: usize,
    // Whom the daemon speaks to; it says so when that changes.
    current: Option<u32>,
    queues: HashMap<u32, Queue>,
    // Requests heard of for the first time, and requests cut: nobody has been told yet.
    begun: Told,
    cut: Told,
}

#[derive(Default)]
struct Told {
    requests: VecDeque<u32>,
    waiting: Option<Waker>,
}

impl Told {
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
    /// Takes one message apart. What belongs to no request goes to `control`; who has something to
    /// read goes to `wake`. Nothing is copied, and frames that follow one another stay together.
    pub(super) fn take(
        &mut self,
        message: &Bytes,
        control: &mut VecDeque<Bytes>,
        wake: &mut Vec<Waker>,
    ) -> Result<(), Refusal> {
        // Where the run of frames begins that go the same way, and which way: None is control.
        let (mut start, mut way) = (0, None);
        let mut at = 0;
        while at < message.len() {
            let malformed = |reason: String| Refusal::new(Code::MALFORMED, reason);
            let rest = &message[at..];
            let span = frame_span(rest).map_err(|error| malformed(error.to_string()))?;
            let frame = span.and_then(|span| rest.get(..span));
            let frame = frame.ok_or_else(|| malformed("a message that ends in a frame".into()))?;
            // As many bytes as the length takes; what is no frame is for the control to complain.
            let body = frame.iter().position(|byte| byte & 0x80 == 0).map_or(0, |last| last + 1);
            let decoded = DaemonFrame::decode(&frame[body..]);
            // Where what goes that way begins, if not with the frames before it.
            let (next, from) = match decoded {
                Ok(DaemonFrame::For { request }) => {
                    self.current = Some(request);
                    let known = self.queues.contains_key(&request);
                    if !known {
                        self.begin(request, wake)?;
                    }
                    // A stream begins by saying whom it is for; what goes on does not.
                    (Some(request), Some(if known { at + frame.len() } else { at }))
                }
                Ok(ref frame) if frame.is_for_request() => {
                    let current = self.current.ok_or_else(|| {
                        malformed("a message before it was said whom it is for".into())
                    })?;
                    (Some(current), None)
                }
                Ok(DaemonFrame::Welcome { limits, .. }) => {
                    self.largest = limits.payload as usize;
                    (None, None)
                }
                _ => (None, None),
            };
            if next != way || from.is_some() {
                self.hand(way, message.slice(start..at), control, wake);
                (start, way) = (from.unwrap_or(at), next);
            }
            at += frame.len();
            let queue = next.and_then(|request| self.queues.get_mut(&request));
            match (decoded, queue) {
                (Ok(DaemonFrame::Chunk { .. }), Some(queue)) => queue.arriving += frame.len(),
                (Ok(DaemonFrame::End { .. } | DaemonFrame::Abort { .. }), Some(_)) => {
                    self.hand(way, message.slice(start..at), control, wake);
                    start = at;
                    if let Some(queue) = next.and_then(|request| self.queues.get_mut(&request)) {
                        queue.arriving = 0;
                    }
                }
                _ => {}
            }
        }
        self.hand(way, message.slice(start..), control, wake);
        Ok(())
    }

    fn begin(&mut self, request: u32, wake: &mut Vec<Waker>) -> Result<(), Refusal> {
        if self.begun.requests.len() >= BEGINNING {
            let reason = format!("answers to more than {BEGINNING} requests at once");
            return Err(Refusal::new(Code::OVERLOADED, reason));
        }
        self.queues.insert(request, Queue::default());
        self.begun.push(request, wake);
        Ok(())
    }

    fn hand(
        &mut self,
        way: Option<u32>,
        piece: Bytes,
        control: &mut VecDeque<Bytes>,
        wake: &mut Vec<Waker>,
    ) {
        let Some(request) = way.filter(|_| !piece.is_empty()) else {
            control.extend(Some(piece).filter(|piece| !piece.is_empty()));
            return;
        };
        // None: its reader has had what it wanted.
        let Some(queue) = self.queues.get_mut(&request).filter(|queue| !queue.cut) else {
            return;
        };
        if queue.bytes >= FULL + queue.arriving.min(self.largest + FULL) {
            queue.cut = true;
            self.cut.push(request, wake);
            return;
        }
        queue.bytes += piece.len();
        queue.pieces.push_back(piece);
        wake.extend(queue.reader.take());
    }

    /// A request that was not heard of before.
    pub(super) fn poll_begun(&mut self, context: &mut Context<'_>) -> Poll<u32> {
        self.begun.poll(context)
    }

    /// A request that was cut: the daemon is to be told.
    pub(super) fn poll_cut(&mut self, context: &mut Context<'_>) -> Poll<u32> {
        self.cut.poll(context)
    }

    /// The daemon sends no more for `request`.
    pub(super) fn end(&mut self, request: u32, wake: &mut Vec<Waker>) {
        if let Some(queue) = self.queues.get_mut(&request) {
            queue.ended = true;
            wake.extend(queue.reader.take());
        }
    }

    /// Whether `request` was cut.
    pub(super) fn is_cut(&self, request: u32) -> bool {
        self.queues.get(&request).is_some_and(|queue| queue.cut)
    }

    /// Moves what has come for `request` into `pieces`; none after the last of one that was cut or
    /// has ended.
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
        if queue.cut || queue.ended {
            return Poll::Ready(None);
        }
        queue.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Nobody reads `request` any more.
    pub(super) fn forget(&mut self, request: u32) {
        self.queues.remove(&request);
    }

    /// Everybody who waits: the channel is gone.
    pub(super) fn everybody(&mut self, wake: &mut Vec<Waker>) {
        wake.extend(self.queues.values_mut().filter_map(|queue| queue.reader.take()));
        wake.extend([&mut self.begun, &mut self.cut].into_iter().filter_map(|t| t.waiting.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Digest, Limits};

    fn message(frames: &[DaemonFrame<'_>]) -> Bytes {
        let mut out = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut out));
        out.into()
    }

    fn of(sequence: u64, payload: &[u8]) -> DaemonFrame<'_> {
        DaemonFrame::Message { topic: 1, sequence, count: 1, stamp: 0, payload }
    }

    const A: DaemonFrame<'_> = DaemonFrame::For { request: 1 };
    const B: DaemonFrame<'_> = DaemonFrame::For { request: 2 };
    const MARK: DaemonFrame<'_> = DaemonFrame::Mark { position: 9 };
    const PONG: DaemonFrame<'_> = DaemonFrame::Pong { request: 9, clock: 0 };

    /// Everything that waits for a request.
    fn read(demux: &mut Demux, request: u32) -> Option<Vec<u8>> {
        let mut context = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        loop {
            let mut pieces = [const { Bytes::new() }; 2];
            match demux.poll_read(request, &mut pieces, &mut context) {
                Poll::Ready(Some(read)) => all.extend(pieces[..read].iter().flatten()),
                Poll::Ready(None) => return None,
                Poll::Pending => return Some(all),
            }
        }
    }

    fn take(demux: &mut Demux, frames: &[DaemonFrame<'_>]) -> Vec<u8> {
        let mut control = VecDeque::new();
        demux.take(&message(frames), &mut control, &mut Vec::new()).unwrap();
        control.iter().flatten().copied().collect()
    }

    #[test]
    fn frames_go_to_whom_they_are_for_and_the_rest_to_control() {
        let mut demux = Demux::default();
        let control = take(
            &mut demux,
            &[PONG, A, of(1, b"a"), of(2, b"b"), PONG, PONG, of(3, b"c"), B, of(1, b"x"), A],
        );
        assert_eq!(control, message(&[PONG, PONG, PONG]));
        // Whom it is for holds on into the next message.
        assert_eq!(take(&mut demux, &[of(4, b"d"), MARK, B, of(2, b"y")]), b"");
        let a = message(&[A, of(1, b"a"), of(2, b"b"), of(3, b"c"), of(4, b"d"), MARK]);
        assert_eq!(read(&mut demux, 1).unwrap(), a);
        assert_eq!(read(&mut demux, 2).unwrap(), message(&[B, of(1, b"x"), of(2, b"y")]));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(demux.poll_begun(&mut context), Poll::Ready(1));
        assert_eq!(demux.poll_begun(&mut context), Poll::Ready(2));
        assert!(demux.poll_begun(&mut context).is_pending());
        // After it was forgotten it is somebody new, and only when it is named again.
        demux.forget(2);
        take(&mut demux, &[of(3, b"z")]);
        assert!(demux.poll_begun(&mut context).is_pending());
        take(&mut demux, &[B, of(4, b"z")]);
        assert_eq!(demux.poll_begun(&mut context), Poll::Ready(2));
        assert_eq!(read(&mut demux, 2).unwrap(), message(&[B, of(4, b"z")]));
    }

    #[test]
    fn frames_that_follow_one_another_are_one_piece_and_not_copied() {
        let mut demux = Demux::default();
        let bytes = message(&[A, of(1, b"a"), of(2, b"b")]);
        demux.take(&bytes, &mut VecDeque::new(), &mut Vec::new()).unwrap();
        let mut pieces = [const { Bytes::new() }; 2];
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(demux.poll_read(1, &mut pieces, &mut context), Poll::Ready(Some(1)));
        assert_eq!((pieces[0].as_ptr(), pieces[0].len()), (bytes.as_ptr(), bytes.len()));
    }

    #[test]
    fn who_does_not_read_is_cut_and_costs_no_more() {
        let mut demux = Demux::default();
        let payload = vec![7; 100_000];
        for sequence in 1..=100 {
            take(&mut demux, &[A, of(sequence, &payload), B, of(sequence, b"small")]);
        }
        let queue = &demux.queues[&1];
        assert!(queue.cut && queue.bytes < FULL + 101_000, "{} bytes", queue.bytes);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(demux.poll_cut(&mut context), Poll::Ready(1));
        assert!(demux.poll_cut(&mut context).is_pending(), "it is said once");
        // The other has everything; the first what came before, and then its end.
        let small = read(&mut demux, 2).unwrap();
        assert_eq!(small.len(), 3 + 100 * message(&[of(1, b"small")]).len());
        let mut pieces = [const { Bytes::new() }; 99];
        let Poll::Ready(Some(read)) = demux.poll_read(1, &mut pieces, &mut context) else {
            panic!("nothing to read");
        };
        assert_eq!(read, 11);
        assert_eq!(demux.poll_read(1, &mut pieces, &mut context), Poll::Ready(None));
    }

    proptest::proptest! {
        // Whatever comes: what is handed on are bytes that came, in their order, and none twice.
        #[test]
        fn damage_never_panics(bytes: Vec<u8>, whole: bool) {
            let mut demux = Demux::default();
            let mut message = message(&[A, of(1, b"a"), PONG, B]).to_vec();
            if !whole {
                message.truncate(bytes.len());
            }
            message.extend(&bytes);
            let mut control = VecDeque::new();
            let _ = demux.take(&message.clone().into(), &mut control, &mut Vec::new());
            let queued = demux.queues.values().flat_map(|queue| &queue.pieces);
            let handed: usize = queued.chain(&control).map(Bytes::len).sum();
            assert!(handed <= message.len());
        }
    }

    const LARGEST: usize = 16 << 20;

    fn welcomed() -> Demux {
        let limits = Limits { payload: LARGEST as u64, subscriptions: 1, window: 1 };
        let mut demux = Demux::default();
        let (version, session, run, clock, agent) = (1, 1, 1, 0, "");
        take(
            &mut demux,
            &[DaemonFrame::Welcome { version, session, run, clock, limits, agent }, A, B],
        );
        demux
    }

    fn begin(size: usize) -> DaemonFrame<'static> {
        DaemonFrame::Begin { topic: 1, sequence: 1, stamp: 0, size: size as u64 }
    }

    const END: DaemonFrame<'_> = DaemonFrame::End { count: 1, digest: Digest([0; 32]) };

    #[test]
    fn a_message_in_chunks_is_not_cut_inside() {
        let chunk = vec![7; 64 << 10];
        let chunk = DaemonFrame::Chunk { bytes: &chunk };
        let mut demux = welcomed();
        let almost = vec![7; FULL - 100];
        take(&mut demux, &[A, of(1, &almost), begin(LARGEST), chunk.clone()]);
        for _ in 1..LARGEST >> 16 {
            take(&mut demux, &[B, of(1, b"small"), A, chunk.clone()]);
        }
        // The next one begins in the message that this one ends in.
        take(&mut demux, &[END, begin(LARGEST), chunk.clone()]);
        let context = &mut Context::from_waker(Waker::noop());
        assert_eq!(demux.poll_cut(context), Poll::Ready(1), "not even that one may begin");
        let mut pieces = vec![Bytes::new(); 1000];
        let Poll::Ready(Some(read)) = demux.poll_read(1, &mut pieces, context) else {
            panic!("nothing to read");
        };
        let last = message(&[END]);
        assert_eq!(pieces[read - 1], last, "all of the first, and nothing of the second");
    }

    #[test]
    fn what_stands_between_the_chunks_of_a_message_counts() {
        let mut demux = welcomed();
        take(&mut demux, &[A, begin(LARGEST), DaemonFrame::Chunk { bytes: b"some" }]);
        let payload = vec![7; 60_000];
        let waits = (1..100).take_while(|sequence| {
            take(&mut demux, &[of(*sequence, &payload)]);
            !demux.is_cut(1)
        });
        assert_eq!(waits.count(), FULL / 60_000 + 1);
    }

    #[test]
    fn chunks_without_end_are_cut() {
        let chunk = vec![7; 64 << 10];
        let mut demux = welcomed();
        take(&mut demux, &[A, begin(LARGEST)]);
        for _ in 0..(LARGEST + 3 * FULL) >> 16 {
            take(&mut demux, &[DaemonFrame::Chunk { bytes: &chunk }]);
        }
        assert!(demux.is_cut(1));
        assert!(demux.queues[&1].bytes <= LARGEST + 3 * FULL);
    }

    #[test]
    fn what_is_broken_is_refused() {
        let refused = |bytes: &[u8]| {
            let mut demux = Demux::default();
            let taken =
                demux.take(&Bytes::copy_from_slice(bytes), &mut VecDeque::new(), &mut Vec::new());
            taken.unwrap_err().code
        };
        assert_eq!(refused(&[5, 1]), Code::MALFORMED);
        assert_eq!(refused(&[0x80]), Code::MALFORMED);
        assert_eq!(refused(&[0]), Code::MALFORMED);
        assert_eq!(refused(&message(&[of(1, b"whose?")])), Code::MALFORMED);
        let many: Vec<_> = (1..=400).map(|request| DaemonFrame::For { request }).collect();
        assert_eq!(refused(&message(&many)), Code::OVERLOADED);
    }
}
