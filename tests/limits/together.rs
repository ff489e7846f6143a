//! Sessions of one address together: each begins with a full bucket, and a peer may open many.

use crate::raw::Raw;
use crate::{address, count, daemon, publish};
use std::time::{Duration, Instant};
use weir::Daemon;
use weir::daemon::Limit;
use weir::wire::{ClientFrame, DaemonFrame, Delivery, Lag, Start};

const SESSIONS: usize = 20;

async fn greeted(daemon: &Daemon, n: u8, producer: u8) -> Raw {
    let transport = quinn::TransportConfig::default();
    let mut raw = Raw::try_from(daemon.local_addr(), address(n), transport).await.unwrap();
    let ClientFrame::Hello { version, token, agent, .. } = crate::raw::hello(weir::wire::VERSION)
    else {
        unreachable!()
    };
    let producer = weir::wire::ProducerId([producer; 16]);
    raw.send(&[ClientFrame::Hello { version, producer, token, agent }]).await;
    raw.frame().await;
    raw
}

/// Publishes what one session may at once, and waits for the receipts.
async fn burst(daemon: &Daemon, n: u8, producer: u8, messages: u64) {
    let mut raw = greeted(daemon, n, producer).await;
    raw.send(&[ClientFrame::Topic { alias: 1, name: "a" }]).await;
    for first in (1..=messages).step_by(50) {
        let frames: Vec<_> = (first..first + 50).map(|number| publish(1, number, b"x")).collect();
        raw.send(&frames).await;
    }
    for _ in 0..messages {
        let frame = raw.frame().await;
        assert!(matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Receipt { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_eight_times_as_much_as_one() {
    let daemon = daemon(|limits| limits.messages = 200).await;
    let begun = Instant::now();
    let all = (0..SESSIONS as u8).map(|n| burst(&daemon, 1, n + 1, 200));
    futures_util::future::join_all(all).await;
    // 4,000 in all, of which eight bursts are free, and 1,600 take a second.
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1100), "{took:?}");
    // Another address has a bucket of its own.
    let begun = Instant::now();
    burst(&daemon, 2, 100, 150).await;
    assert!(begun.elapsed() < took / 2, "{:?} and {took:?}", begun.elapsed());
    assert_eq!(count(&daemon, Limit::RateLimited), 0);
}

/// Reads a MiB of the past.
async fn replay(daemon: &Daemon, n: u8, producer: u8) {
    let mut raw = greeted(daemon, n, producer).await;
    let (start, delivery, lag) = (Start::All, Delivery::Ordered, Lag::Oldest);
    let filter = "past";
    raw.send(&[ClientFrame::Subscribe { request: 1, filter, start, delivery, lag, deadline: 0 }])
        .await;
    let mut stream = raw.connection.accept_uni().await.unwrap();
    let mut received = 0;
    while received < 1 << 20 {
        received += stream.read_chunk(1 << 20, true).await.unwrap().unwrap().bytes.len();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn are_sent_eight_times_as_much_as_one() {
    let daemon = daemon(|limits| limits.replay = 1 << 20).await;
    for n in 0..64_u8 {
        daemon.publish("past", [vec![n], vec![7; 16 << 10]].concat()).unwrap();
    }
    let begun = Instant::now();
    futures_util::future::join_all((0..SESSIONS as u8).map(|n| replay(&daemon, 1, n + 1))).await;
    // 20 MiB, of which 8 are free, and 8 take a second. Each session may be ahead by a batch.
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1100), "{took:?}");
    let begun = Instant::now();
    replay(&daemon, 2, 100).await;
    assert!(begun.elapsed() < took / 2, "{:?} and {took:?}", begun.elapsed());
}

// The hello waited with everything else of its address for up to 17 s. The peer was told that it had sent
// none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn do_not_keep_a_hello_waiting() {
    let daemon = daemon(|limits| limits.messages = 20).await;
    let mut flooders = Vec::new();
    for n in 0..SESSIONS as u8 {
        let mut raw = greeted(&daemon, 1, n + 1).await;
        raw.send(&[ClientFrame::Topic { alias: 1, name: "a" }]).await;
        flooders.push(raw);
    }
    for raw in &mut flooders {
        let frames: Vec<_> = (1..=1000).map(|number| publish(1, number, b"x")).collect();
        raw.send(&frames).await;
    }
    while count(&daemon, Limit::Slowed) < SESSIONS as u64 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let late = async |producer| {
        let transport = quinn::TransportConfig::default();
        let mut raw = Raw::try_from(daemon.local_addr(), address(1), transport).await.unwrap();
        let producer = weir::wire::ProducerId([producer; 16]);
        let hello =
            ClientFrame::Hello { version: weir::wire::VERSION, producer, token: None, agent: "" };
        // What comes with the hello is not free.
        raw.send(&[hello, ClientFrame::Topic { alias: 1, name: "a" }, publish(1, 1, b"x")]).await;
        let frame = raw.frame().await;
        let welcome = DaemonFrame::decode(&frame).unwrap();
        assert!(matches!(welcome, DaemonFrame::Welcome { .. }), "{welcome:?}");
        let frame = raw.frame().await;
        matches!(DaemonFrame::decode(&frame).unwrap(), DaemonFrame::Rejected { .. })
    };
    let late = futures_util::future::join_all((100..110).map(late)).await;
    assert!(late.iter().any(|rejected| *rejected), "{late:?}");
}
