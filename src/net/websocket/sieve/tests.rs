//! Messages through a sieve, in pieces of any size, and malformed ones.

use super::*;
use proptest::prelude::*;
use std::task::Waker;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketContext};

// Returns everything that comes through: the data of messages, and control frames.
fn through(bytes: &[u8], cuts: &[usize], limit: usize) -> (Vec<Vec<u8>>, Vec<u8>, ReceiveQueue) {
    let (mut theirs, ours) = tokio::io::duplex(1 << 24);
    let (mut sieve, received) = Sieve::new(Box::new(ours), limit);
    let mut context = Context::from_waker(Waker::noop());
    let (mut messages, mut control) = (vec![Vec::new()], Vec::new());
    let (mut rest, mut cuts) = (bytes, cuts.iter().cycle());
    while !rest.is_empty() {
        let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
        rest = later;
        assert!(Pin::new(&mut theirs).poll_write(&mut context, now).is_ready());
        loop {
            let mut buffer = [0; 100];
            let mut buffer = ReadBuf::new(&mut buffer);
            let read = Pin::new(&mut sieve).poll_read(&mut context, &mut buffer);
            control.extend_from_slice(buffer.filled());
            let mut pieces = VecDeque::new();
            let any = received.with(|received| {
                assert!(received.cost < BATCH + PIECE + READ.end());
                received.cost = 0;
                pieces.append(&mut received.pieces);
                !pieces.is_empty()
            });
            for piece in pieces {
                if piece.is_empty() {
                    messages.push(Vec::new());
                } else {
                    messages.last_mut().unwrap().extend_from_slice(&piece);
                }
            }
            if read.is_pending() && !any {
                break;
            }
        }
    }
    (messages, control, received)
}

// A client's frame, which is masked.
fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            out.push(0xfe);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0xff);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

proptest! {
    #[test]
    fn messages_come_out_as_they_went_in_and_pings_beside_them(
        frames in proptest::collection::vec(
            (0_usize..3, prop_oneof![0_usize..300, 60_000_usize..140_000], any::<[u8; 4]>()), 0..12),
        cuts in proptest::collection::vec(prop_oneof![1_usize..40, 1000_usize..100_000], 1..20),
    ) {
        let (mut bytes, mut pings) = (Vec::new(), Vec::new());
        let (mut expected, mut goes_on) = (vec![Vec::new()], false);
        for (n, (kind, size, mask)) in frames.into_iter().enumerate() {
            let payload: Vec<u8> = (0..size).map(|at| (at * 7 + n) as u8).collect();
            if kind == 0 {
                let ping = frame(0x89, &payload[..size.min(125)], mask);
                bytes.extend_from_slice(&ping);
                pings.extend_from_slice(&ping);
                continue;
            }
            let last = kind == 1;
            let first = if goes_on { 0 } else { 2 } | if last { 0x80 } else { 0 };
            bytes.extend_from_slice(&frame(first, &payload, mask));
            expected.last_mut().unwrap().extend_from_slice(&payload);
            if last {
                expected.push(Vec::new());
            }
            goes_on = !last;
        }
        let (messages, control, received) = through(&bytes, &cuts, 1 << 24);
        prop_assert_eq!(received.with(|received| received.failed.take()), None);
        prop_assert!(messages == expected);
        prop_assert_eq!(control, pings);
    }

    #[test]
    fn damaged_bytes_never_panic(bytes: Vec<u8>, cuts in proptest::collection::vec(1_usize..9, 1..9)) {
        through(&bytes, &cuts, 1000);
    }
}

#[test]
fn what_the_library_writes_is_what_is_heard() {
    let mut wire = io::Cursor::new(Vec::new());
    let mut client = WebSocketContext::new(Role::Client, None);
    for size in [0, 1, 125, 126, 65_535, 65_536] {
        client.write(&mut wire, Message::Binary(vec![size as u8; size].into())).unwrap();
    }
    client.flush(&mut wire).unwrap();
    let (messages, _, _) = through(&wire.into_inner(), &[1 << 16], 1 << 20);
    let lengths: Vec<_> = messages.iter().map(Vec::len).collect();
    assert_eq!(lengths, [0, 1, 125, 126, 65_535, 65_536, 0]);
}

#[test]
fn what_is_wrong_is_told_after_what_came_before_it() {
    let good = frame(0x82, b"good", [1, 2, 3, 4]);
    for (bad, code, words) in [
        (frame(0x81, b"text", [0; 4]), Code::MALFORMED, "text"),
        (frame(0xc2, b"", [0; 4]), Code::MALFORMED, "reserved bit"),
        (frame(0x83, b"", [0; 4]), Code::MALFORMED, "reserved kind"),
        (frame(0x8b, b"", [0; 4]), Code::MALFORMED, "reserved kind"),
        (frame(0x80, b"", [0; 4]), Code::MALFORMED, "has not begun"),
        (vec![0x82, 0], Code::MALFORMED, "masked"),
        (frame(0x09, b"", [0; 4]), Code::MALFORMED, "in parts"),
        (frame(0x89, &[0; 126], [0; 4]), Code::MALFORMED, "long"),
        ([frame(2, b"", [0; 4]), frame(2, b"", [0; 4])].concat(), Code::MALFORMED, "another"),
        (frame(0x82, &[0; 101], [0; 4]), Code::FRAME_TOO_LARGE, "101"),
        (
            [frame(2, &[0; 60], [0; 4]), frame(0x80, &[0; 41], [0; 4])].concat(),
            Code::FRAME_TOO_LARGE,
            "limit of 100",
        ),
        (vec![0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255], Code::FRAME_TOO_LARGE, "limit"),
    ] {
        let bytes = [&good[..], &bad, &good].concat();
        let (messages, control, received) = through(&bytes, &[3], 100);
        assert!(messages[0] == b"good" && control.is_empty());
        let refusal = received.with(|received| received.failed.take()).unwrap();
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.reason.contains(words), "{refusal}");
    }
}
