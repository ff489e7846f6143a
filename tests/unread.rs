//! Bytes in flight between a daemon and a peer that is not read or not acknowledged, counted
//! exactly.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/lossy.rs"]
mod lossy;
#[path = "common/raw.rs"]
mod raw;

use common::{daemon, daemon_with, within};
use lossy::{CLEAN, DEAD, Lossy};
use raw::{Raw, encoded};
use std::time::Duration;
use tokio::time::Instant;
use weir::engine::Limits;
use weir::wire::{self, ClientFrame, Code, DaemonFrame, FrameReader};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Number of times that a peer of ours reported that it is blocked, on the connection or on a
/// stream.
fn blocked(connection: &quinn::Connection) -> u64 {
    let frames = connection.stats().frame_tx;
    frames.data_blocked + frames.stream_data_blocked
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Writes the same bytes repeatedly until the daemon grants no more window. Returns the number of
/// bytes.
async fn fill(connection: &quinn::Connection, tx: &mut quinn::SendStream, bytes: &[u8]) -> usize {
    let (before, mut taken) = (blocked(connection), 0);
    within(async {
        loop {
            tokio::select! {
                biased;
                written = tx.write(&bytes[taken % bytes.len()..]) => taken += written.unwrap(),
                () = until(|| blocked(connection) > before) => return taken,
            }
        }
    })
    .await
}

// The clock is advanced by hand: the test only waits.
#[tokio::test]
async fn a_peer_without_a_hello_may_send_256_kib_and_has_10_s() {
    const HELLO: Duration = Duration::from_secs(10);
    let daemon = daemon().await;
    let raw = Raw::connect(&daemon).await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        let mut tx = within(raw.connection.open_uni()).await.unwrap();
        within(tx.write_all(&vec![0; 40 * KIB])).await.unwrap();
        streams.push(tx);
    }
    let taken = fill(&raw.connection, &mut streams[0], &vec![0; 64 * KIB]).await;
    assert_eq!(6 * 40 * KIB + taken, 256 * KIB);
    tokio::time::pause();
    let begun = Instant::now();
    match within(raw.connection.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            assert_eq!(close.error_code.into_inner(), u64::from(Code::TIMED_OUT.0));
        }
        other => panic!("{other}"),
    }
    let took = begun.elapsed();
    assert!(took > HELLO / 2 && took < HELLO * 2, "{took:?}");
    assert_eq!(raw.connection.stats().frame_rx.max_data, 0, "more was let");
}

// The session does not read its answers, so the daemon stops reading it.
#[tokio::test]
async fn a_session_in_bulk_may_send_2_mib_unread_and_1_mib_of_them_on_a_stream() {
    // Bytes that the daemon reads before there are too many answers, and for which it grants window
    // again.
    const READ: usize = 256 * KIB;
    // QUIC grants window again when an eighth of it was read. How much the daemon reads before it stops,
    // and so whether that was granted again, depends on the size of its reads.
    const GRANTED: usize = MIB - MIB / 8 - KIB;
    let daemon = daemon().await;
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window((16_u32 << 10).into());
    let mut raw = Raw::with(daemon.local_addr(), transport).await.greet().await;
    let stats = || raw.connection.stats();
    // It sends in bulk, and then nothing but publications that are refused with a long reason.
    let declare = encoded(&[ClientFrame::Topic { alias: 1, name: "a" }]);
    raw.tx.write_all(&declare).await.unwrap();
    for number in 1..=20 {
        let payload = payload(number).repeat(60);
        let whole = ClientFrame::Publish { alias: 1, number, stamp: 0, payload: &payload };
        raw.tx.write_all(&encoded(&[whole])).await.unwrap();
    }
    let latest = || daemon.get("a", wire::Which::Latest).map(|message| message.sequence);
    within(until(|| latest() == Ok(20))).await;
    let blocked_in_bulk = stats().frame_tx.data_blocked;
    let publish = ClientFrame::Publish { alias: 1, number: 0, stamp: 0, payload: b"x" };
    let refused = encoded(&vec![publish; 1000]);
    let mut all = fill(&raw.connection, &mut raw.tx, &refused).await;
    assert!(all > GRANTED && all < MIB + READ, "{all} on the control stream");
    within(until(|| stats().frame_rx.stream_data_blocked > 0)).await;
    let mut streams = Vec::new();
    while stats().frame_tx.data_blocked == blocked_in_bulk {
        let mut tx = within(raw.connection.open_uni()).await.unwrap();
        tx.write_all(&declare).await.unwrap();
        let taken = fill(&raw.connection, &mut tx, &refused).await;
        assert!(taken <= MIB + READ, "{taken} on a stream");
        all += taken;
        streams.push(tx);
    }
    assert!(all > 2 * GRANTED && all < 2 * MIB + READ, "{all} in all");
}

/// Returns a payload of 1 KiB that differs from all others.
fn payload(n: u64) -> Vec<u8> {
    let mut payload = vec![0; KIB];
    payload[..8].copy_from_slice(&n.to_le_bytes());
    payload
}

// The peer grants 64 MiB of window, but its acknowledgements are lost. When they get through again,
// the messages in flight arrive, although the cache has long lost them. Those that waited in the
// cache do not.
#[tokio::test]
async fn bytes_sent_and_not_acknowledged_are_2_mib_and_the_rest_waits_in_the_cache() {
    const MESSAGES: u64 = 12 * KIB as u64;
    let daemon = daemon_with(Limits::default().with_cache(4 * MIB)).await;
    let network = Lossy::start(daemon.local_addr(), CLEAN);
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window((64_u32 << 20).into());
    let mut raw = Raw::with(network.address, transport).await.greet().await;
    raw.send(&[ClientFrame::Subscribe {
        request: 1,
        filter: "a",
        start: wire::Start::New,
        delivery: wire::Delivery::Ordered,
        lag: wire::Lag::Oldest,
        deadline: 0,
    }])
    .await;
    let frame = raw.frame().await;
    assert!(matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Subscribed { .. })));
    network.set(DEAD);
    for n in 1..=MESSAGES {
        daemon.publish("a", payload(n)).unwrap();
        // The session writes as much as it can.
        tokio::task::yield_now().await;
    }
    network.set(CLEAN);
    let mut stream = within(raw.connection.accept_uni()).await.unwrap();
    let mut reader = FrameReader::new(MIB);
    let (mut waited, mut gaps, mut next) = (0, 0, 1);
    while next <= MESSAGES {
        let chunk = within(stream.read_chunk(1 << 16, true)).await.unwrap().unwrap();
        reader.push(chunk.bytes);
        while let Some(frame) = reader.next_frame().unwrap() {
            match DaemonFrame::decode(&frame).unwrap() {
                DaemonFrame::Message { sequence, payload: received, .. } => {
                    assert!(sequence == next && received == payload(next));
                    next += 1;
                    waited += if gaps == 0 { received.len() } else { 0 };
                }
                DaemonFrame::Gap { first, last, .. } => {
                    assert_eq!(first, next);
                    next = last + 1;
                    gaps += 1;
                }
                _ => {}
            }
        }
    }
    // Beside the window, the session itself holds one read of 64 KiB.
    println!("{waited} bytes of payload waited, followed by {gaps} gap");
    assert_eq!(gaps, 1);
    assert!(waited > 2 * MIB - 64 * KIB && waited < 2 * MIB + 128 * KIB, "{waited}");
}
