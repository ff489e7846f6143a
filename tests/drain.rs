//! A daemon that drains: each client is asked to leave, and what is in flight completes.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/hand.rs"]
mod hand;
#[path = "common/http.rs"]
mod http;
#[path = "common/lossy.rs"]
mod lossy;

use bytes::Bytes;
use common::{Served, TRANSPORTS, within};
use hand::{Hand, Upload, decode};
use http::ask;
use lossy::{CLEAN, Lossy, Rules};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use weir::wire::{ClientFrame, Code, DaemonFrame, Delivery, Digest, Start, Which};
use weir::{Client, Daemon, Transport, Trust};

/// Longer than any test. A drain that takes it fails the test.
const LONG: Duration = Duration::from_secs(600);

/// A drain that cannot complete takes this long.
const SHORT: Duration = Duration::from_millis(500);

/// A round trip of 200 ms.
const LONG_PATH: Rules = Rules { delay: Duration::from_millis(100), ..CLEAN };

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Three chunks.
fn payload() -> Bytes {
    (0..150_000_u32).map(|at| (at / 7) as u8).collect::<Vec<_>>().into()
}

async fn daemon() -> Daemon {
    Daemon::builder().listen(LOOPBACK).http(LOOPBACK).spawn().await.unwrap()
}

/// Drains a daemon that waits for something which does not come.
async fn takes_all_its_time(daemon: &Daemon) {
    let begun = Instant::now();
    within(daemon.drain(SHORT)).await;
    assert!(begun.elapsed() >= SHORT, "it was not waited for");
}

/// Returns the time after which the session is to leave.
async fn asked_to_leave(hand: &mut Hand) -> u32 {
    match decode(&hand.frame(0).await) {
        DaemonFrame::Drain { within, reason } => {
            assert!(reason.contains("connect again"), "{reason}");
            within
        }
        other => panic!("{other:?}"),
    }
}

/// Reads up to the goodbye.
async fn goodbye(hand: &mut Hand) -> Code {
    loop {
        if let DaemonFrame::Goodbye { code, retry, .. } = decode(&hand.frame(0).await) {
            assert_eq!(retry, code.retry());
            return code;
        }
    }
}

/// Sends the first chunk of a publication, and waits until the daemon has it.
async fn half(daemon: SocketAddr, publisher: &mut Hand, payload: &Bytes) -> Upload {
    let mut subscriber = Hand::greet(daemon, Transport::Quic, 200).await;
    subscriber.subscribe(1, "a", Start::New, Delivery::Ordered).await;
    let mut out = publisher.open().await;
    let begin = ClientFrame::Begin { alias: 1, number: 1, stamp: 0, size: payload.len() as u64 };
    let chunk = ClientFrame::Chunk { bytes: &payload[..60_000] };
    publisher.publish(&mut out, &[ClientFrame::Topic { alias: 1, name: "a" }, begin, chunk]).await;
    loop {
        if let DaemonFrame::Chunk { .. } = decode(&subscriber.frame(1).await) {
            return out;
        }
    }
}

async fn other_half(publisher: &mut Hand, out: &mut Upload, payload: &Bytes) {
    let chunk = |bytes| ClientFrame::Chunk { bytes };
    let end = ClientFrame::End { digest: Digest::of(payload) };
    let frames = [chunk(&payload[60_000..120_000]), chunk(&payload[120_000..]), end];
    publisher.publish(out, &frames).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_session_is_asked_to_leave_at_another_time() {
    let daemon = daemon().await;
    let mut hands = Vec::new();
    for n in 0..12_u8 {
        let transport = TRANSPORTS[usize::from(n) % 3];
        hands.push(Hand::greet(daemon.local_addr(), transport, n).await);
    }
    let clients = async {
        let mut times = Vec::new();
        for hand in &mut hands {
            times.push(asked_to_leave(hand).await);
        }
        times.sort_unstable();
        assert_eq!(times, (0..12).collect::<Vec<_>>());
        // These leave by themselves.
        hands.truncate(9);
        for mut hand in hands {
            assert_eq!(goodbye(&mut hand).await, Code::SHUTTING_DOWN);
        }
    };
    within(async { tokio::join!(daemon.drain(LONG), clients) }).await;
    within(daemon.shutdown()).await;
}

#[tokio::test]
async fn without_sessions_it_takes_no_time() {
    let daemon = daemon().await;
    let mut kept = TcpStream::connect(daemon.http_addr().unwrap()).await.unwrap();
    kept.write_all(b"GET /v1/topics/none HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    within(kept.read_exact(&mut [0; 12])).await.unwrap();
    // A connection without a request.
    let _idle = TcpStream::connect(daemon.http_addr().unwrap()).await.unwrap();
    within(daemon.drain(LONG)).await;
    // The connection was told to close.
    let _ = within(kept.read_to_end(&mut Vec::new())).await;
    within(daemon.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_is_arriving_completes_while_others_are_refused() {
    let payload = payload();
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        let (address, http) = (daemon.local_addr(), daemon.http_addr().unwrap());
        let mut publisher = Hand::greet(address, transport, 1).await;
        let mut out = half(address, &mut publisher, &payload).await;
        takes_all_its_time(&daemon).await;
        let clients = async {
            asked_to_leave(&mut publisher).await;
            for transport in TRANSPORTS {
                let trust = Trust::Pinned(daemon.certificate_hash().into());
                let builder = Client::builder(address.to_string()).transport(transport);
                let refused = Box::pin(within(builder.trust(trust).connect())).await;
                assert!(refused.is_err(), "{transport}");
            }
            for (method, target) in
                [("GET", "/v1/topics/a"), ("POST", "/v1/topics/b"), ("GET", "/")]
            {
                let refused = ask(http, method, target).send().await;
                assert_eq!(refused.status, 503, "{method} {target}");
                assert_eq!(refused.json()["name"], "shutting_down");
                assert!(refused.header("retry-after").is_some());
            }
            other_half(&mut publisher, &mut out, &payload).await;
            let receipt = publisher.frame(0).await;
            assert!(matches!(decode(&receipt), DaemonFrame::Receipt { sequence: 1, .. }));
            assert_eq!(goodbye(&mut publisher).await, Code::SHUTTING_DOWN);
            drop(publisher);
        };
        let clients = Box::pin(clients);
        within(async { tokio::join!(daemon.drain(LONG), clients) }).await;
        assert_eq!(daemon.get("a", Which::Latest).unwrap().payload, payload);
        within(daemon.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_reads_late_gets_everything() {
    const MESSAGES: u64 = 400;
    let modes = [
        (Transport::Quic, Delivery::Ordered),
        (Transport::Quic, Delivery::Unordered),
        (Transport::Quic, Delivery::Realtime),
        (Transport::WebTransport, Delivery::Ordered),
        (Transport::WebSocket, Delivery::Ordered),
    ];
    for (transport, delivery) in modes {
        let daemon = daemon().await;
        let mut hand = Hand::greet(daemon.local_addr(), transport, 1).await;
        hand.subscribe(1, "a", Start::New, delivery).await;
        hand.set_reading(false);
        // More than all buffers on the way hold.
        for n in 0..MESSAGES {
            let mut payload = vec![7; 60_000];
            payload[..8].copy_from_slice(&n.to_le_bytes());
            daemon.publish("a", payload).unwrap();
        }
        takes_all_its_time(&daemon).await;
        let client = async {
            hand.set_reading(true);
            let mut sequences = Vec::new();
            while sequences.len() < MESSAGES as usize {
                match decode(&hand.frame(1).await) {
                    DaemonFrame::Message { sequence, .. } => sequences.push(sequence),
                    other => panic!("{transport} {delivery:?}: {other:?}"),
                }
            }
            sequences.sort_unstable();
            assert_eq!(sequences, (1..=MESSAGES).collect::<Vec<_>>(), "{transport} {delivery:?}");
            assert_eq!(goodbye(&mut hand).await, Code::SHUTTING_DOWN);
            drop(hand);
        };
        within(async { tokio::join!(daemon.drain(LONG), client) }).await;
        within(daemon.shutdown()).await;
    }
}

// The daemon has handed everything to its transport long before the first of it arrives.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_arrives_over_a_long_path() {
    const MESSAGES: usize = 20;
    for transport in [Transport::Quic, Transport::WebTransport] {
        let daemon = daemon().await;
        let network = Lossy::start(daemon.local_addr(), LONG_PATH);
        let mut hand = Hand::greet(network.address, transport, 1).await;
        for n in 0..MESSAGES {
            daemon.publish("a", vec![n as u8; 50_000]).unwrap();
        }
        hand.subscribe(1, "a", Start::All, Delivery::Ordered).await;
        let client = async {
            for _ in 0..MESSAGES {
                assert!(matches!(decode(&hand.frame(1).await), DaemonFrame::Message { .. }));
            }
            assert_eq!(goodbye(&mut hand).await, Code::SHUTTING_DOWN);
            drop(hand);
        };
        within(async { tokio::join!(daemon.drain(LONG), client) }).await;
        within(daemon.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_has_begun_completes() {
    let payload = payload();
    let daemon = daemon().await;
    let http = daemon.http_addr().unwrap();
    let mut subscriber = Hand::greet(daemon.local_addr(), Transport::Quic, 2).await;
    subscriber.subscribe(1, "a", Start::New, Delivery::Ordered).await;
    let mut post = TcpStream::connect(http).await.unwrap();
    let size = payload.len();
    let head =
        format!("POST /v1/topics/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n");
    post.write_all(head.as_bytes()).await.unwrap();
    post.write_all(&payload[..70_000]).await.unwrap();
    assert!(matches!(decode(&subscriber.frame(1).await), DaemonFrame::Begin { .. }));
    takes_all_its_time(&daemon).await;
    let clients = async {
        post.write_all(&payload[70_000..]).await.unwrap();
        let mut answer = String::new();
        within(post.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    };
    within(async { tokio::join!(daemon.drain(LONG), clients) }).await;
    assert_eq!(daemon.get("a", Which::Latest).unwrap().payload, payload);
    within(daemon.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_events_are_sent_to_their_end_and_end_with_the_daemon() {
    const MESSAGES: u64 = 300;
    let daemon = daemon().await;
    let http = daemon.http_addr().unwrap();
    let mut live = ask(http, "GET", "/v1/events/a").events().await;
    live.block().await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut late = socket.connect(http).await.unwrap();
    late.write_all(b"GET /v1/events/b HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    within(late.read_exact(&mut [0; 12])).await.unwrap();
    for _ in 0..MESSAGES {
        daemon.publish("b", vec![b'x'; 30_000]).unwrap();
    }
    // The live stream does not hold it, but the late one does.
    takes_all_its_time(&daemon).await;
    let all = tokio::spawn(async move {
        let mut text = String::new();
        within(late.read_to_string(&mut text)).await.unwrap();
        text
    });
    within(daemon.drain(LONG)).await;
    daemon.publish("a", "to the live one").unwrap();
    let event = within(live.event()).await.unwrap();
    assert_eq!(event.json()["payload"], "to the live one");
    within(daemon.shutdown()).await;
    let text = all.await.unwrap();
    assert_eq!(text.matches("\"payload\"").count() as u64, MESSAGES);
    assert!(text.contains("event: ended") && text.ends_with("0\r\n\r\n"));
    let ended = within(live.event()).await.unwrap();
    assert!(ended.is("ended") && ended.json()["name"] == "shutting_down");
    assert!(live.id.is_some() && within(live.block()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_hurries_a_drain() {
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        let mut publisher = Hand::greet(daemon.local_addr(), transport, 1).await;
        let _out = half(daemon.local_addr(), &mut publisher, &payload()).await;
        tokio::select! {
            () = daemon.drain(LONG) => panic!("a publication was still arriving"),
            _ = asked_to_leave(&mut publisher) => {}
        }
        let hurried = async { assert_eq!(goodbye(&mut publisher).await, Code::SHUTTING_DOWN) };
        within(async { tokio::join!(daemon.shutdown(), hurried) }).await;
    }
}

#[test]
fn signals_drain_and_hurry() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let state = tempfile::tempdir().unwrap();
    let environment = [("WEIR_DRAIN", "10min")];
    // Nothing is in flight.
    let mut served = Served::start(state.path(), &[], &environment);
    served.signal("TERM");
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
    for second in ["TERM", "INT"] {
        let mut served = Served::start(state.path(), &[], &environment);
        let address = served.server.parse().unwrap();
        runtime.block_on(async {
            let mut publisher = Hand::greet(address, Transport::Quic, 1).await;
            let _out = half(address, &mut publisher, &payload()).await;
            served.signal("TERM");
            asked_to_leave(&mut publisher).await;
            served.signal(second);
            assert_eq!(goodbye(&mut publisher).await, Code::SHUTTING_DOWN);
        });
        assert_eq!(served.child.wait().unwrap().code(), Some(0));
    }
}
