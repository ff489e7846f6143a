//! Messages taken apart: which frames go to which request, what overflows, and what is refused.

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

fn split(demux: &mut Demux, frames: &[DaemonFrame<'_>]) -> Vec<u8> {
    let mut control = VecDeque::new();
    demux.split(&message(frames), &mut control, &mut Vec::new()).unwrap();
    control.iter().flatten().copied().collect()
}

#[test]
fn frames_go_to_whom_they_are_for_and_the_rest_to_control() {
    let mut demux = Demux::default();
    let control = split(
        &mut demux,
        &[PONG, A, of(1, b"a"), of(2, b"b"), PONG, PONG, of(3, b"c"), B, of(1, b"x"), A],
    );
    assert_eq!(control, message(&[PONG, PONG, PONG]));
    // The current request continues into the next message.
    assert_eq!(split(&mut demux, &[of(4, b"d"), MARK, B, of(2, b"y")]), b"");
    let a = message(&[A, of(1, b"a"), of(2, b"b"), of(3, b"c"), of(4, b"d"), MARK]);
    assert_eq!(read(&mut demux, 1).unwrap(), a);
    assert_eq!(read(&mut demux, 2).unwrap(), message(&[B, of(1, b"x"), of(2, b"y")]));
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(demux.poll_new_request(&mut context), Poll::Ready(1));
    assert_eq!(demux.poll_new_request(&mut context), Poll::Ready(2));
    assert!(demux.poll_new_request(&mut context).is_pending());
    // A forgotten request is new again, but not before the next `For` that names it.
    demux.forget(2);
    split(&mut demux, &[of(3, b"z")]);
    assert!(demux.poll_new_request(&mut context).is_pending());
    split(&mut demux, &[B, of(4, b"z")]);
    assert_eq!(demux.poll_new_request(&mut context), Poll::Ready(2));
    assert_eq!(read(&mut demux, 2).unwrap(), message(&[B, of(4, b"z")]));
}

#[test]
fn frames_that_follow_one_another_are_one_piece_and_not_copied() {
    let mut demux = Demux::default();
    let bytes = message(&[A, of(1, b"a"), of(2, b"b")]);
    demux.split(&bytes, &mut VecDeque::new(), &mut Vec::new()).unwrap();
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
        split(&mut demux, &[A, of(sequence, &payload), B, of(sequence, b"small")]);
    }
    let queue = &demux.queues[&1];
    assert!(queue.overflowed && queue.bytes < FULL + 101_000, "{} bytes", queue.bytes);
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(demux.poll_overflowed(&mut context), Poll::Ready(1));
    assert!(demux.poll_overflowed(&mut context).is_pending(), "it is reported once");
    // The other request has everything. The first has what preceded the overflow, and then ends.
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
    // For any input, at most as many bytes are handed on as were received.
    #[test]
    fn damage_never_panics(bytes: Vec<u8>, whole: bool) {
        let mut demux = Demux::default();
        let mut message = message(&[A, of(1, b"a"), PONG, B]).to_vec();
        if !whole {
            message.truncate(bytes.len());
        }
        message.extend(&bytes);
        let mut control = VecDeque::new();
        let _ = demux.split(&message.clone().into(), &mut control, &mut Vec::new());
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
    split(
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
    split(&mut demux, &[A, of(1, &almost), begin(LARGEST), chunk.clone()]);
    for _ in 1..LARGEST >> 16 {
        split(&mut demux, &[B, of(1, b"small"), A, chunk.clone()]);
    }
    // The next payload begins in the WebSocket message that this one ends in.
    split(&mut demux, &[END, begin(LARGEST), chunk.clone()]);
    let context = &mut Context::from_waker(Waker::noop());
    assert_eq!(demux.poll_overflowed(context), Poll::Ready(1), "the next one overflows");
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
    split(&mut demux, &[A, begin(LARGEST), DaemonFrame::Chunk { bytes: b"some" }]);
    let payload = vec![7; 60_000];
    let waits = (1..100).take_while(|sequence| {
        split(&mut demux, &[of(*sequence, &payload)]);
        !demux.has_overflowed(1)
    });
    assert_eq!(waits.count(), FULL / 60_000 + 1);
}

#[test]
fn chunks_without_end_are_cut() {
    let chunk = vec![7; 64 << 10];
    let mut demux = welcomed();
    split(&mut demux, &[A, begin(LARGEST)]);
    for _ in 0..(LARGEST + 3 * FULL) >> 16 {
        split(&mut demux, &[DaemonFrame::Chunk { bytes: &chunk }]);
    }
    assert!(demux.has_overflowed(1));
    assert!(demux.queues[&1].bytes <= LARGEST + 3 * FULL);
}

#[test]
fn what_is_broken_is_refused() {
    let refused = |bytes: &[u8]| {
        let mut demux = Demux::default();
        let taken =
            demux.split(&Bytes::copy_from_slice(bytes), &mut VecDeque::new(), &mut Vec::new());
        taken.unwrap_err().code
    };
    assert_eq!(refused(&[5, 1]), Code::MALFORMED);
    assert_eq!(refused(&[0x80]), Code::MALFORMED);
    assert_eq!(refused(&[0]), Code::MALFORMED);
    assert_eq!(refused(&message(&[of(1, b"whose?")])), Code::MALFORMED);
    let many: Vec<_> = (1..=400).map(|request| DaemonFrame::For { request }).collect();
    assert_eq!(refused(&message(&many)), Code::OVERLOADED);
}
