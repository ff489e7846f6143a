//! Large payloads are relayed while they still arrive, over every transport and in every mode. The
//! tests prove the order of events by tasks that wait for one another, and not by clocks.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod attempts;
#[path = "../common/mod.rs"]
mod common;
mod gaps;
#[path = "../common/hand.rs"]
mod hand;
mod over_http;
mod relay;

use bytes::Bytes;
use hand::{Hand, Upload, decode};
use weir::wire::{ClientFrame, Code, DaemonFrame, Delivery, Digest, GapCause};
use weir::{Daemon, Transport};

pub(crate) const CHUNK: usize = 65_520;

pub(crate) const MODES: [Delivery; 3] =
    [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime];

pub(crate) fn payload(n: u8, size: usize) -> Bytes {
    (0..size).map(|at| (at / 3) as u8 ^ n).collect::<Vec<_>>().into()
}

pub(crate) fn topic(name: &str) -> ClientFrame<'_> {
    ClientFrame::Topic { alias: 1, name }
}

pub(crate) fn begin(number: u64, size: usize) -> ClientFrame<'static> {
    ClientFrame::Begin { alias: 1, number, stamp: 5, size: size as u64 }
}

pub(crate) fn chunks(payload: &[u8]) -> Vec<ClientFrame<'_>> {
    payload.chunks(CHUNK).map(|bytes| ClientFrame::Chunk { bytes }).collect()
}

pub(crate) async fn publish_all(
    hand: &mut Hand,
    name: &str,
    number: u64,
    payload: &[u8],
) -> Upload {
    let mut out = hand.open().await;
    hand.publish(&mut out, &[topic(name), begin(number, payload.len())]).await;
    hand.publish(&mut out, &chunks(payload)).await;
    hand.publish(&mut out, &[ClientFrame::End { digest: Digest::of(payload) }]).await;
    out
}

/// A message that is arriving in chunks.
pub(crate) struct Arriving {
    pub(crate) sequence: u64,
    pub(crate) stamp: u64,
    pub(crate) size: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Arriving {
    pub(crate) async fn begin(hand: &mut Hand, request: u32) -> Self {
        let frame = hand.frame(request).await;
        let DaemonFrame::Begin { sequence, stamp, size, .. } = decode(&frame) else {
            panic!("{:?}", decode(&frame));
        };
        Self { sequence, stamp, size: size as usize, bytes: Vec::new() }
    }

    /// Reads until this many bytes have arrived.
    pub(crate) async fn read_to(&mut self, hand: &mut Hand, request: u32, bytes: usize) {
        while self.bytes.len() < bytes {
            let frame = hand.frame(request).await;
            let DaemonFrame::Chunk { bytes } = decode(&frame) else {
                panic!("{:?}", decode(&frame))
            };
            assert!((1..=65_536).contains(&bytes.len()));
            self.bytes.extend_from_slice(bytes);
        }
    }

    pub(crate) async fn end(mut self, hand: &mut Hand, request: u32, payload: &[u8]) -> u64 {
        self.read_to(hand, request, self.size).await;
        let frame = hand.frame(request).await;
        let DaemonFrame::End { count, digest } = decode(&frame) else { panic!("{frame:?}") };
        assert!(self.bytes == payload && digest == Digest::of(payload));
        count
    }
}

pub(crate) async fn receipt(hand: &mut Hand) -> (u64, u64, bool) {
    let frame = hand.frame(0).await;
    match decode(&frame) {
        DaemonFrame::Receipt { sequence, count, duplicate, .. } => (sequence, count, duplicate),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn rejected(hand: &mut Hand) -> (u64, Code) {
    let frame = hand.frame(0).await;
    match decode(&frame) {
        DaemonFrame::Rejected { number, code, .. } => (number, code),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn greet(daemon: &Daemon, transport: Transport, producer: u8) -> Hand {
    Hand::greet(daemon.local_addr(), transport, producer).await
}

/// Whether the frame is the gap of this sequence.
pub(crate) fn is_gap(frame: &Bytes, sequence: u64, because: GapCause) -> bool {
    matches!(decode(frame), DaemonFrame::Gap { first, last, cause, .. }
        if (first, last, cause) == (sequence, sequence, because))
}
