//! Fuzz target: the sieve, which reads the messages of WebSocket.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "targets for a fuzzer, not a part of the daemon"
)]

use super::sieve::Sieve;
use crate::fuzz::Script;
use crate::wire::Code;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Waker};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

#[derive(Debug, PartialEq, Eq)]
struct Read {
    // The data of each message, of which the last is not complete.
    messages: Vec<Vec<u8>>,
    control: Vec<u8>,
    failed: Option<Code>,
}

// Everything that comes through, if the bytes arrive in these pieces.
fn through(pieces: &[&[u8]], limit: usize) -> Read {
    let (mut theirs, ours) = tokio::io::duplex(1 << 20);
    let (mut sieve, received) = Sieve::new(Box::new(ours), limit);
    let mut context = Context::from_waker(Waker::noop());
    let mut read = Read { messages: vec![Vec::new()], control: Vec::new(), failed: None };
    for piece in pieces {
        assert!(Pin::new(&mut theirs).poll_write(&mut context, piece).is_ready());
        loop {
            let mut buffer = [0; 100];
            let mut buffer = ReadBuf::new(&mut buffer);
            let pending = Pin::new(&mut sieve).poll_read(&mut context, &mut buffer).is_pending();
            read.control.extend_from_slice(buffer.filled());
            let mut pieces = VecDeque::new();
            let (cost, failed) = received.take(&mut pieces);
            assert!(cost < 1 << 18, "the queue is not bounded");
            read.failed = failed.map(|refusal| refusal.code).or(read.failed);
            let any = !pieces.is_empty();
            for piece in pieces {
                match &*piece {
                    [] => read.messages.push(Vec::new()),
                    piece => read.messages.last_mut().unwrap().extend_from_slice(piece),
                }
            }
            if pending && !any {
                break;
            }
        }
    }
    read
}

/// Frames that are cut anywhere are the same messages; none is longer than the limit, and nothing is
/// read after an error.
pub(crate) fn messages(data: &[u8]) {
    let mut script = Script::new(data);
    let limit = script.choose(&[0, 10, 1000, 1 << 20]);
    let cuts = script.bytes();
    let stream = script.rest();
    let (mut pieces, mut left) = (Vec::new(), stream);
    for cut in cuts.iter().filter(|cut| **cut > 0) {
        let (piece, rest) = left.split_at(usize::from(*cut).min(left.len()));
        pieces.push(piece);
        left = rest;
    }
    pieces.push(left);
    pieces.retain(|piece| !piece.is_empty());
    let whole =
        through(&[stream].iter().copied().filter(|s| !s.is_empty()).collect::<Vec<_>>(), limit);
    assert!(whole.messages.iter().all(|message| message.len() <= limit), "above the limit");
    assert_eq!(through(&pieces, limit), whole);
}
