//! Large payloads in chunks, as a client sends and receives them: with a scripted daemon, and at
//! the end with a real one.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod arriving;
#[path = "../common/mod.rs"]
mod common;
mod daemon;
mod getting;
mod publishing;
#[path = "../common/raw.rs"]
mod raw;
#[path = "../common/staged.rs"]
mod staged;

use bytes::Bytes;
use common::within;
use staged::{Stage, staged};
use weir::client::Subscription;
use weir::wire::{ClientFrame, Code, DaemonFrame, Delivery, Digest};
use weir::{Client, SubscribeOptions, Trust};

pub(crate) const LIMIT: u64 = 1 << 20;

pub(crate) const CHUNK: usize = 64 << 10;

/// Returns a client and its session at the scripted daemon.
pub(crate) async fn session() -> (Client, Stage) {
    let (endpoint, hash) = staged();
    let server = endpoint.local_addr().unwrap().to_string();
    let daemon = tokio::spawn(async move { Stage::accept_with(&endpoint, LIMIT).await });
    let connecting = Client::builder(server)
        .trust(Trust::Pinned(hash.into()))
        .reconnect(weir::client::Reconnect::never())
        .connect();
    let client = within(connecting).await.unwrap();
    (client, within(daemon).await.unwrap())
}

/// Subscribes. The subscription has request 1, the first.
pub(crate) async fn subscribed(delivery: Delivery) -> (Client, Stage, Subscription) {
    let (client, mut stage) = session().await;
    let options = SubscribeOptions::default().with_delivery(delivery);
    let asking = client.clone();
    let subscription = tokio::spawn(async move { asking.subscribe("demo/*", &options).await });
    let frame = stage.frame().await;
    assert!(matches!(ClientFrame::decode(&frame), Ok(ClientFrame::Subscribe { request: 1, .. })));
    stage.send(&DaemonFrame::Subscribed { request: 1, position: 0 }).await;
    let subscription = within(subscription).await.unwrap().unwrap();
    (client, stage, subscription)
}

pub(crate) fn payload(size: usize) -> Bytes {
    (0..size).map(|n| ((n * n) >> 7) as u8).collect()
}

pub(crate) const FOR: DaemonFrame<'_> = DaemonFrame::For { request: 1 };

pub(crate) fn topic(id: u64) -> DaemonFrame<'static> {
    let name = ["demo/a", "demo/b"][id as usize - 1];
    DaemonFrame::Topic { id, epoch: 7, next: 1, name }
}

pub(crate) fn small(topic: u64, sequence: u64) -> DaemonFrame<'static> {
    DaemonFrame::Message { topic, sequence, count: 1, stamp: 0, payload: b"small" }
}

pub(crate) fn begin(topic: u64, sequence: u64, size: usize) -> DaemonFrame<'static> {
    DaemonFrame::Begin { topic, sequence, stamp: 9, size: size as u64 }
}

pub(crate) fn end(payload: &[u8]) -> DaemonFrame<'static> {
    DaemonFrame::End { count: 3, digest: Digest::of(payload) }
}

pub(crate) fn chunks(payload: &[u8]) -> impl Iterator<Item = DaemonFrame<'_>> {
    payload.chunks(CHUNK).map(|bytes| DaemonFrame::Chunk { bytes })
}

pub(crate) async fn send(stream: &mut quinn::SendStream, frames: &[DaemonFrame<'_>]) {
    for frame in frames {
        stream.write_chunk(frame.to_bytes()).await.unwrap();
    }
}

/// Returns the code with which the client closes the connection.
pub(crate) async fn closed(stage: &Stage) -> u64 {
    match within(stage.connection.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

/// Violations of the protocol by a daemon, after the beginning of a message of 200,000 bytes.
pub(crate) fn wrong(large: &[u8]) -> Vec<(&'static str, Vec<DaemonFrame<'_>>)> {
    let all = || chunks(large).collect::<Vec<_>>();
    let with = |last: DaemonFrame<'static>| [all(), vec![last]].concat();
    vec![
        ("another digest", with(end(b"another"))),
        ("an end too early", vec![end(b"")]),
        ("a chunk too many", with(DaemonFrame::Chunk { bytes: b"more" })),
        ("an empty chunk", vec![DaemonFrame::Chunk { bytes: b"" }]),
        ("a chunk too long", vec![DaemonFrame::Chunk { bytes: &large[..=CHUNK] }]),
        ("a beginning inside", vec![begin(1, 2, 100_000)]),
        (
            "a beginning too large",
            vec![DaemonFrame::Abort { code: Code::EVICTED }, begin(1, 2, (1 << 20) + 1)],
        ),
    ]
}
