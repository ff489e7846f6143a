//! What is in flight between the daemon and all its sessions together.

use crate::common::within;
use crate::raw::{Raw, encoded};
use crate::{count, daemon, publish};
use std::time::Duration;
use weir::Daemon;
use weir::daemon::Limit;
use weir::wire::{ClientFrame, DaemonFrame, Delivery, Lag, Start};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn deaf(window: u32) -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(window.into());
    transport
}

/// Number of times that our end reported that it is blocked.
fn blocked(connection: &quinn::Connection) -> u64 {
    let frames = connection.stats().frame_tx;
    frames.data_blocked + frames.stream_data_blocked
}

/// Sends publications to a daemon that stops reading, because its answers are not read. Returns how
/// many bytes it lets the session send.
async fn sent(raw: &mut Raw) -> usize {
    let declare = encoded(&[ClientFrame::Topic { alias: 1, name: "a" }]);
    // First it sends in bulk.
    raw.send(&[ClientFrame::Topic { alias: 1, name: "a" }]).await;
    for number in 1..=20 {
        raw.send(&[publish(1, number, &vec![7; 60_000])]).await;
    }
    raw.send(&[ClientFrame::Ping { request: 1 }]).await;
    while !matches!(DaemonFrame::decode(&raw.frame().await), Ok(DaemonFrame::Pong { .. })) {}
    let blocked_before = raw.connection.stats().frame_tx.data_blocked;
    let refused = encoded(&vec![publish(1, 0, b"x"); 1000]);
    let (mut all, mut streams) = (0, Vec::new());
    while raw.connection.stats().frame_tx.data_blocked == blocked_before {
        let mut tx = within(raw.connection.open_uni()).await.unwrap();
        tx.write_all(&declare).await.unwrap();
        let before = blocked(&raw.connection);
        let mut at = 0;
        while blocked(&raw.connection) == before {
            let write = tx.write(&refused[at % refused.len()..]);
            if let Ok(written) = tokio::time::timeout(Duration::from_millis(20), write).await {
                at += written.unwrap();
            }
        }
        all += at;
        streams.push(tx);
    }
    std::mem::forget(streams);
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_send_in_bulk_share_a_budget_and_the_others_have_small_windows() {
    // Room for two windows of 2 MiB, less the 256 KiB that each has.
    let daemon = daemon(|limits| limits.buffers = 4 * MIB).await;
    let (mut all, mut held) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let transport = deaf(16 << 10);
        let mut raw = Raw::with(daemon.local_addr(), transport).await.greet().await;
        all.push(sent(&mut raw).await);
        held.push(raw);
    }
    // The daemon reads a part before there are too many answers. Window may be left on other streams.
    let slack = 512 * KIB;
    let is = |sent: usize, window: usize| sent.abs_diff(window) < slack;
    assert_eq!(all.iter().filter(|sent| is(**sent, 2 * MIB)).count(), 2, "{all:?}");
    assert_eq!(all.iter().filter(|sent| is(**sent, 256 * KIB)).count(), 2, "{all:?}");
    assert!(count(&daemon, Limit::Buffers) >= 2);
    // A session that ends gives its window back.
    held.remove(all.iter().position(|sent| *sent > MIB).unwrap());
    let freed = async {
        loop {
            let mut raw = Raw::with(daemon.local_addr(), deaf(16 << 10)).await.greet().await;
            if sent(&mut raw).await > MIB {
                break;
            }
        }
    };
    within(freed).await;
}

/// Subscribes to everything, and neither reads nor lets the daemon know what has arrived.
async fn unread(daemon: &Daemon) -> Raw {
    let transport = deaf(64 << 20);
    let mut raw = Raw::with(daemon.local_addr(), transport).await.greet().await;
    let (start, delivery, lag) = (Start::All, Delivery::Ordered, Lag::Oldest);
    raw.send(&[ClientFrame::Subscribe {
        request: 1,
        filter: "past",
        start,
        delivery,
        lag,
        deadline: 0,
    }])
    .await;
    raw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_room_for_a_large_window_receives_everything_nonetheless() {
    let daemon = daemon(|limits| limits.buffers = 0).await;
    for n in 0..8_u8 {
        daemon.publish("past", vec![n; MIB]).unwrap();
    }
    let raw = unread(&daemon).await;
    let mut stream = within(raw.connection.accept_uni()).await.unwrap();
    let mut received = 0;
    while received < 8 * MIB {
        received += within(stream.read_chunk(MIB, true)).await.unwrap().unwrap().bytes.len();
    }
    assert!(count(&daemon, Limit::Buffers) > 0);
}
