//! Answers and receipts that peers do not read.

use crate::common::within;
use crate::raw::{Raw, encoded};
use crate::{Socket, bound_kib, goes_on, honest, served, writes};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use weir::wire::{self, ClientFrame, Code, DaemonFrame};

// In an earlier version each ping left its pong in an unbounded buffer: 1 GiB in 7 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_over_websocket_whose_answers_are_not_read() {
    const SESSIONS: u64 = 4;
    let state = tempfile::tempdir().unwrap();
    let (served, server) = served(&state);
    let client = honest(&served).await;
    goes_on(&client).await;
    let mut ping = vec![0x89, 0xfd, 0, 0, 0, 0];
    ping.extend_from_slice(&[b'x'; 125]);
    let pings = ping.repeat(400_000);
    let flood = async || {
        let mut socket = Socket::to(server).await;
        // The daemon reads all of them, or ends the session.
        _ = writes(&mut socket.tls, &pings).await;
        socket
    };
    let sockets = tokio::join!(flood(), flood(), flood(), flood());
    goes_on(&client).await;
    let peak = served.kib("VmHWM");
    let bound = bound_kib(1, SESSIONS);
    println!("peak {peak} KiB with {SESSIONS} × {} bytes of pings", pings.len());
    assert!(peak < bound, "{peak} KiB, and the bound is {bound}");
    drop(sockets);
}

/// A session that does not read its answers. The daemon may send at most 16 KiB on each stream.
async fn deaf(server: SocketAddr) -> Raw {
    let mut transport = quinn::TransportConfig::default();
    transport
        .stream_receive_window((16_u32 << 10).into())
        .keep_alive_interval(Some(Duration::from_secs(5)));
    Raw::with(server, transport).await.greet().await
}

// Each session has a hundred streams. All publications are refused with a long reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_do_not_read_their_receipts() {
    const SESSIONS: u64 = 4;
    const STREAMS: u64 = 100;
    let state = tempfile::tempdir().unwrap();
    let (served, server) = served(&state);
    let client = honest(&served).await;
    goes_on(&client).await;
    let before = served.kib("VmRSS");
    let taken = Arc::new(AtomicU64::new(0));
    let mut peers = Vec::new();
    for _ in 0..SESSIONS {
        let raw = deaf(server).await;
        for stream in 0..STREAMS {
            let mut tx = within(raw.connection.open_uni()).await.unwrap();
            let taken = taken.clone();
            tokio::spawn(async move {
                let alias = stream as u32;
                let declare = encoded(&[ClientFrame::Topic { alias, name: "greedy" }]);
                let _ = tx.write_all(&declare).await;
                let (number, payload) = (0, &[7; 4000][..]);
                let refused = encoded(&[ClientFrame::Publish { alias, number, stamp: 0, payload }]);
                while tx.write_all(&refused).await.is_ok() {
                    taken.fetch_add(refused.len() as u64, Relaxed);
                }
            });
        }
        peers.push(raw);
    }
    // Waits until the daemon reads no more.
    let mut last = u64::MAX;
    while last != taken.load(Relaxed) {
        last = taken.load(Relaxed);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    goes_on(&client).await;
    let (peak, now) = (served.kib("VmHWM"), served.kib("VmRSS"));
    let each = (now - before) / SESSIONS;
    println!("{} KiB taken of each, {each} KiB held for each; peak {peak}", last / 1024 / SESSIONS);
    assert!(peak < bound_kib(SESSIONS, 0), "{peak} KiB, the bound is {}", bound_kib(SESSIONS, 0));
    // In the end the close tells them the code, because they read nothing else.
    for raw in peers {
        match within(raw.connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code.into_inner(), u64::from(Code::TIMED_OUT.0));
            }
            other => panic!("{other}"),
        }
    }
}

// An answer holds its message, even after that has left the cache. So only a few answers exist at
// once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_read() {
    const SESSIONS: u64 = 8;
    const GETS: u64 = 200;
    let state = tempfile::tempdir().unwrap();
    let (served, server) = served(&state);
    let client = honest(&served).await;
    let fill = async |with: u8| {
        let mut receipts = Vec::new();
        for n in 0..2 * GETS {
            let mut payload = vec![with; 60_000];
            payload[..8].copy_from_slice(&n.to_le_bytes());
            receipts.push(client.send("asked/for", payload).await.unwrap());
        }
        for receipt in receipts {
            within(receipt).await.unwrap();
        }
    };
    fill(0).await;
    let before = served.kib("VmRSS");
    let mut peers = Vec::new();
    for peer in 1..=SESSIONS {
        // The daemon may open no streams for answers.
        let mut transport = quinn::TransportConfig::default();
        transport.max_concurrent_uni_streams(0_u32.into());
        let mut raw = Raw::with(server, transport).await.greet().await;
        let newest = 2 * GETS * peer;
        let gets: Vec<_> = (0..GETS)
            .map(|n| ClientFrame::Get {
                request: n as u32 + 2,
                topic: "asked/for",
                which: wire::Which::Sequence(newest - n),
            })
            .collect();
        let ping = ClientFrame::Ping { request: 1 };
        raw.send(&[&[ping][..], &gets].concat()).await;
        let pong = raw.frame().await;
        assert!(matches!(DaemonFrame::decode(&pong), Ok(DaemonFrame::Pong { .. })));
        peers.push(raw);
        // The requested messages leave the cache.
        fill(peer as u8).await;
    }
    let (peak, now) = (served.kib("VmHWM"), served.kib("VmRSS"));
    println!("RSS {before} KiB before, {now} KiB with {SESSIONS} × {GETS} answers, peak {peak}");
    assert!(peak < bound_kib(SESSIONS, 0), "{peak} KiB, the bound is {}", bound_kib(SESSIONS, 0));
    drop(peers);
}
