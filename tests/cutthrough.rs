//! Large payloads are relayed while they still arrive, over every transport and in every mode. The
//! tests prove the order of events by tasks that wait for one another, and not by clocks.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/hand.rs"]
mod hand;

use bytes::Bytes;
use common::{Served, TRANSPORTS, daemon, daemon_with, within};
use hand::{Hand, StreamEvent, Upload, decode};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weir::engine::Limits;
use weir::wire::{ClientFrame, Code, DaemonFrame, Delivery, Digest, GapCause, Start, Which};
use weir::{Daemon, Event, SubscribeOptions, Transport};

const CHUNK: usize = 65_520;
const MODES: [Delivery; 3] = [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime];

fn payload(n: u8, size: usize) -> Bytes {
    (0..size).map(|at| (at / 3) as u8 ^ n).collect::<Vec<_>>().into()
}

fn topic(name: &str) -> ClientFrame<'_> {
    ClientFrame::Topic { alias: 1, name }
}

fn begin(number: u64, size: usize) -> ClientFrame<'static> {
    ClientFrame::Begin { alias: 1, number, stamp: 5, size: size as u64 }
}

fn chunks(payload: &[u8]) -> Vec<ClientFrame<'_>> {
    payload.chunks(CHUNK).map(|bytes| ClientFrame::Chunk { bytes }).collect()
}

async fn publish_all(hand: &mut Hand, name: &str, number: u64, payload: &[u8]) -> Upload {
    let mut out = hand.open().await;
    hand.publish(&mut out, &[topic(name), begin(number, payload.len())]).await;
    hand.publish(&mut out, &chunks(payload)).await;
    hand.publish(&mut out, &[ClientFrame::End { digest: Digest::of(payload) }]).await;
    out
}

/// A message that is arriving in chunks.
struct Arriving {
    sequence: u64,
    stamp: u64,
    size: usize,
    bytes: Vec<u8>,
}

impl Arriving {
    async fn begin(hand: &mut Hand, request: u32) -> Self {
        let frame = hand.frame(request).await;
        let DaemonFrame::Begin { sequence, stamp, size, .. } = decode(&frame) else {
            panic!("{:?}", decode(&frame));
        };
        Self { sequence, stamp, size: size as usize, bytes: Vec::new() }
    }

    /// Reads until this many bytes have arrived.
    async fn read_to(&mut self, hand: &mut Hand, request: u32, bytes: usize) {
        while self.bytes.len() < bytes {
            let frame = hand.frame(request).await;
            let DaemonFrame::Chunk { bytes } = decode(&frame) else {
                panic!("{:?}", decode(&frame))
            };
            assert!((1..=65_536).contains(&bytes.len()));
            self.bytes.extend_from_slice(bytes);
        }
    }

    async fn end(mut self, hand: &mut Hand, request: u32, payload: &[u8]) -> u64 {
        self.read_to(hand, request, self.size).await;
        let frame = hand.frame(request).await;
        let DaemonFrame::End { count, digest } = decode(&frame) else { panic!("{frame:?}") };
        assert!(self.bytes == payload && digest == Digest::of(payload));
        count
    }
}

async fn receipt(hand: &mut Hand) -> (u64, u64, bool) {
    let frame = hand.frame(0).await;
    match decode(&frame) {
        DaemonFrame::Receipt { sequence, count, duplicate, .. } => (sequence, count, duplicate),
        other => panic!("{other:?}"),
    }
}

async fn rejected(hand: &mut Hand) -> (u64, Code) {
    let frame = hand.frame(0).await;
    match decode(&frame) {
        DaemonFrame::Rejected { number, code, .. } => (number, code),
        other => panic!("{other:?}"),
    }
}

async fn greet(daemon: &Daemon, transport: Transport, producer: u8) -> Hand {
    Hand::greet(daemon.local_addr(), transport, producer).await
}

#[tokio::test]
async fn the_first_half_is_there_before_the_second_was_sent() {
    let daemon = daemon().await;
    let payload = payload(1, 10 * CHUNK + 77);
    let (first, second) = payload.split_at(4 * CHUNK);
    let mut number = 0;
    for publishes in TRANSPORTS {
        let mut publisher = greet(&daemon, publishes, 1).await;
        for receives in TRANSPORTS {
            for mode in MODES {
                number += 1;
                let mut subscriber = greet(&daemon, receives, 2).await;
                subscriber.subscribe(1, "demo/*", Start::New, mode).await;
                let mut out = publisher.open().await;
                publisher.publish(&mut out, &[topic("demo/a"), begin(number, payload.len())]).await;
                publisher.publish(&mut out, &chunks(first)).await;
                // The subscriber has the first half, and the publisher has not sent the rest.
                let mut message = Arriving::begin(&mut subscriber, 1).await;
                let head = (message.sequence, message.stamp, message.size);
                assert_eq!(head, (number, 5, payload.len()));
                message.read_to(&mut subscriber, 1, first.len()).await;
                assert_eq!(message.bytes, first);
                assert!(publisher.is_quiet(0), "a receipt for half of it");
                publisher.publish(&mut out, &chunks(second)).await;
                publisher
                    .publish(&mut out, &[ClientFrame::End { digest: Digest::of(&payload) }])
                    .await;
                assert_eq!(message.end(&mut subscriber, 1, &payload).await, number, "its count");
                assert_eq!(receipt(&mut publisher).await, (number, number, false));
            }
        }
    }
}

/// Whether the frame is the gap of this sequence.
fn is_gap(frame: &Bytes, sequence: u64, because: GapCause) -> bool {
    matches!(decode(frame), DaemonFrame::Gap { first, last, cause, .. }
        if (first, last, cause) == (sequence, sequence, because))
}

#[tokio::test]
async fn half_a_payload_is_a_gap_and_leaves_nothing_behind() {
    let daemon = daemon().await;
    let payload = payload(2, 5 * CHUNK);
    let mut n = 0;
    for publishes in TRANSPORTS {
        for (mode, dies) in MODES.into_iter().zip([true, false, true]) {
            for receives in TRANSPORTS {
                n += 1;
                let name = format!("demo/{n}");
                let mut subscriber = greet(&daemon, receives, 2).await;
                subscriber.subscribe(1, &name, Start::New, mode).await;
                let mut publisher = greet(&daemon, publishes, 3).await;
                let mut out = publisher.open().await;
                publisher.publish(&mut out, &[topic(&name), begin(1, payload.len())]).await;
                publisher.publish(&mut out, &chunks(&payload[..2 * CHUNK])).await;
                let mut message = Arriving::begin(&mut subscriber, 1).await;
                message.read_to(&mut subscriber, 1, 2 * CHUNK).await;
                let again = if dies { publisher.die() } else { publisher.give_up(out) };
                if mode != Delivery::Ordered && receives != Transport::WebSocket {
                    // The stream is reset, and the gap arrives on another.
                    let (mut reset, mut told) = (false, false);
                    while !(reset && told) {
                        match subscriber.next(1).await {
                            StreamEvent::Reset(_) => reset = true,
                            StreamEvent::Frame(frame) => {
                                told |= is_gap(&frame, 1, GapCause::Aborted)
                            }
                            StreamEvent::End => {}
                        }
                    }
                } else {
                    let frame = subscriber.frame(1).await;
                    let code = Code::PUBLISHER_GONE;
                    assert_eq!(decode(&frame), DaemonFrame::Abort { code });
                    let frame = subscriber.frame(1).await;
                    assert!(is_gap(&frame, 1, GapCause::Aborted), "{:?}", decode(&frame));
                }
                // It is not counted, `Get` does not find it, and its number is free.
                let mut publisher = match again {
                    Some(publisher) => publisher,
                    None => greet(&daemon, publishes, 3).await,
                };
                for which in
                    [Which::Latest, Which::Sequence(1), Which::Digest(Digest::of(&payload))]
                {
                    publisher.send(&[ClientFrame::Get { request: 9, topic: &name, which }]).await;
                    let frame = publisher.frame(0).await;
                    assert!(matches!(
                        decode(&frame),
                        DaemonFrame::Failed { code: Code::NOT_FOUND, .. }
                    ));
                }
                publish_all(&mut publisher, &name, 1, &payload).await;
                assert_eq!(receipt(&mut publisher).await, (2, 1, false));
                let message = Arriving::begin(&mut subscriber, 1).await;
                assert_eq!(message.sequence, 2);
                assert_eq!(message.end(&mut subscriber, 1, &payload).await, 1);
            }
        }
    }
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_delays_neither_the_others_nor_the_publisher() {
    let daemon = daemon().await;
    let payload = payload(3, 8 << 20);
    let of = Digest::of(&payload);
    let mut slow = Vec::new();
    for transport in TRANSPORTS {
        for mode in MODES {
            let mut one = greet(&daemon, transport, 4).await;
            one.subscribe(1, "demo/a", Start::New, mode).await;
            one.set_reading(false);
            slow.push(one);
        }
    }
    for (n, transport) in (1..).zip(TRANSPORTS) {
        let mut subscriber = greet(&daemon, transport, 2).await;
        subscriber.subscribe(1, "demo/a", Start::New, Delivery::Ordered).await;
        let mut publisher = greet(&daemon, transport, 1).await;
        publish_all(&mut publisher, "demo/a", n, &payload).await;
        assert_eq!(receipt(&mut publisher).await, (n, n, false));
        Arriving::begin(&mut subscriber, 1).await.end(&mut subscriber, 1, &payload).await;
    }
    // The slow subscribers still get everything once they read, on one stream or on several.
    for mut one in slow {
        one.set_reading(true);
        let (mut bytes, mut ends) = (0, 0);
        while ends < 3 {
            match decode(&one.frame(1).await) {
                DaemonFrame::Chunk { bytes: chunk } => bytes += chunk.len(),
                DaemonFrame::End { digest, .. } => {
                    assert_eq!(digest, of);
                    ends += 1;
                }
                DaemonFrame::Begin { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(bytes, 3 * payload.len());
    }
}

#[tokio::test]
async fn a_slow_publisher_delays_no_other_topic_and_nothing_overtakes_in_its_own() {
    let daemon = daemon().await;
    let payload = payload(4, 3 * CHUNK);
    let local = SubscribeOptions::default();
    for (n, transport) in (1..).zip(TRANSPORTS) {
        let mut subscriber = greet(&daemon, transport, 2).await;
        subscriber.subscribe(1, "**", Start::New, Delivery::Ordered).await;
        let mut inside = daemon.subscribe("**", &local).unwrap();
        let mut publisher = greet(&daemon, transport, 1).await;
        let mut out = publisher.open().await;
        publisher.publish(&mut out, &[topic("slow"), begin(n, payload.len())]).await;
        publisher.publish(&mut out, &chunks(&payload[..CHUNK])).await;
        let mut message = Arriving::begin(&mut subscriber, 1).await;
        message.read_to(&mut subscriber, 1, CHUNK).await;
        daemon.publish("slow", "behind").unwrap();
        daemon.publish("quick", "before").unwrap();
        let frame = subscriber.frame(1).await;
        let DaemonFrame::Message { payload: b"before", .. } = decode(&frame) else {
            panic!("{:?}", decode(&frame));
        };
        let Event::Message(first) = within(inside.next()).await.unwrap().unwrap() else { panic!() };
        assert_eq!(first.payload, "before");
        publisher.publish(&mut out, &chunks(&payload[CHUNK..])).await;
        publisher.publish(&mut out, &[ClientFrame::End { digest: Digest::of(&payload) }]).await;
        message.end(&mut subscriber, 1, &payload).await;
        let frame = subscriber.frame(1).await;
        assert!(matches!(decode(&frame), DaemonFrame::Message { payload: b"behind", .. }));
        let Event::Message(second) = within(inside.next()).await.unwrap().unwrap() else {
            panic!()
        };
        assert_eq!((&*second.topic, second.payload), ("slow", payload.clone()));
    }
}

#[tokio::test]
async fn a_number_that_was_accepted_is_answered_before_the_payload_comes() {
    let daemon = daemon().await;
    let payload = payload(5, 4 * CHUNK);
    let large = (daemon.limits().payload + 1) as u64;
    for (n, transport) in (1..).zip(TRANSPORTS) {
        let mut publisher = greet(&daemon, transport, n).await;
        publish_all(&mut publisher, "demo/a", 1, &payload).await;
        let first = receipt(&mut publisher).await;
        let sequence = 2 * u64::from(n) - 1;
        assert_eq!(first, (sequence, n.into(), false));
        for number in [1, 2] {
            let mut out = publisher.open().await;
            let size = if number == 1 { payload.len() as u64 } else { large };
            let begin = ClientFrame::Begin { alias: 1, number, stamp: 0, size };
            publisher.publish(&mut out, &[topic("demo/a"), begin]).await;
            if number == 1 {
                assert_eq!(receipt(&mut publisher).await, (sequence, n.into(), true));
            } else {
                assert_eq!(rejected(&mut publisher).await, (2, Code::PAYLOAD_TOO_LARGE));
            }
            // The daemon stops the stream, or drops the rest of the payload.
            match &mut out {
                Upload::Quic(tx) => assert!(within(tx.stopped()).await.unwrap().is_some()),
                Upload::WebTransport(tx) => {
                    let stopped = within(tx.quic_stream_mut().stopped()).await;
                    assert!(stopped.unwrap().is_some());
                }
                Upload::Shared => {
                    publisher.publish(&mut out, &chunks(&payload[..2 * CHUNK])).await;
                }
            }
        }
        publish_all(&mut publisher, "demo/a", 3, b"small").await;
        let (_, _, duplicate) = receipt(&mut publisher).await;
        assert!(!duplicate);
        publisher
            .send(&[ClientFrame::Get { request: 7, topic: "demo/a", which: Which::Latest }])
            .await;
        let frame = publisher.frame(7).await;
        assert!(matches!(decode(&frame), DaemonFrame::Message { payload: b"small", .. }));
    }
}

#[tokio::test]
async fn a_publication_that_is_begun_again_goes_on_and_the_first_attempt_is_aborted() {
    let daemon = daemon().await;
    let payload = payload(6, 4 * CHUNK);
    for (n, transport) in (1..).zip(TRANSPORTS) {
        let name = format!("demo/{n}");
        let mut subscriber = greet(&daemon, Transport::WebSocket, 2).await;
        subscriber.subscribe(1, &name, Start::New, Delivery::Ordered).await;
        let mut publisher = greet(&daemon, transport, 9).await;
        let mut out = publisher.open().await;
        publisher.publish(&mut out, &[topic(&name), begin(1, payload.len())]).await;
        publisher.publish(&mut out, &chunks(&payload[..CHUNK])).await;
        Arriving::begin(&mut subscriber, 1).await.read_to(&mut subscriber, 1, CHUNK).await;
        // The daemon has not noticed yet that the first session is dead.
        let mut again = greet(&daemon, transport, 9).await;
        publish_all(&mut again, &name, 1, &payload).await;
        assert_eq!(receipt(&mut again).await, (2, 1, false));
        let frame = subscriber.frame(1).await;
        assert_eq!(decode(&frame), DaemonFrame::Abort { code: Code::PUBLISHER_GONE });
        assert!(is_gap(&subscriber.frame(1).await, 1, GapCause::Aborted));
        Arriving::begin(&mut subscriber, 1).await.end(&mut subscriber, 1, &payload).await;
        publisher.publish(&mut out, &chunks(&payload[CHUNK..])).await;
        publisher.ping(3).await;
        assert!(publisher.is_quiet(0), "the second attempt is answered, not the first");
    }
}

#[tokio::test]
async fn contradictory_publications_are_refused() {
    let daemon = daemon().await;
    let payload = payload(7, 2 * CHUNK);
    let end = ClientFrame::End { digest: Digest::of(&payload) };
    let wrong = ClientFrame::End { digest: Digest::of(b"other") };
    let chunk = |bytes| ClientFrame::Chunk { bytes };
    let too_much = vec![0; 65_537];
    let cases: [(&str, Vec<ClientFrame<'_>>, Code); 7] = [
        ("a chunk alone", vec![chunk(b"x")], Code::UNEXPECTED),
        ("an end alone", vec![end.clone()], Code::UNEXPECTED),
        ("two at a time", vec![begin(1, 99_999), begin(2, 99_999)], Code::UNEXPECTED),
        ("nothing in it", vec![begin(1, 99_999), chunk(b"")], Code::MALFORMED),
        ("a large chunk", vec![begin(1, 99_999), chunk(&too_much)], Code::MALFORMED),
        ("too little", vec![begin(1, 99_999), chunk(b"x"), end.clone()], Code::MALFORMED),
        (
            "too much",
            vec![begin(1, 70_000), chunk(&payload[..60_000]), chunk(&payload[..60_000])],
            Code::MALFORMED,
        ),
    ];
    for (n, transport) in (1..).zip(TRANSPORTS) {
        for (what, frames, code) in &cases {
            let mut publisher = greet(&daemon, transport, n).await;
            let mut out = publisher.open().await;
            publisher.publish(&mut out, &[topic("demo/a")]).await;
            publisher.publish(&mut out, frames).await;
            let frame = publisher.frame(0).await;
            let DaemonFrame::Goodbye { code: told, .. } = decode(&frame) else {
                panic!("{what}: {:?}", decode(&frame));
            };
            assert_eq!(told, *code, "{what}");
        }
        // A wrong digest only refuses the publication.
        let mut publisher = greet(&daemon, transport, n).await;
        let mut out = publisher.open().await;
        publisher.publish(&mut out, &[topic("demo/a"), begin(1, payload.len())]).await;
        publisher.publish(&mut out, &chunks(&payload)).await;
        publisher.publish(&mut out, std::slice::from_ref(&wrong)).await;
        assert_eq!(rejected(&mut publisher).await, (1, Code::MALFORMED));
        let mut out = publisher.open().await;
        publisher.publish(&mut out, &[topic("demo/a"), begin(1, 3), chunk(b"abc")]).await;
        let end = ClientFrame::End { digest: Digest::of(b"abc") };
        publisher.publish(&mut out, &[end]).await;
        let (_, count, duplicate) = receipt(&mut publisher).await;
        assert_eq!((count, duplicate), (n.into(), false), "small, and so published at its end");
    }
    let mut reader = daemon.subscribe("demo/a", &SubscribeOptions::from(weir::Start::All)).unwrap();
    let Event::Gap(gap) = within(reader.next()).await.unwrap().unwrap() else { panic!("no gap") };
    assert_eq!((gap.first, gap.cause), (1, GapCause::Aborted));
}

#[tokio::test]
async fn a_get_returns_a_large_message_in_chunks() {
    let daemon = daemon().await;
    let payload = payload(8, 20 * CHUNK + 1);
    daemon.publish("demo/a", payload.clone()).unwrap();
    for transport in TRANSPORTS {
        let mut hand = greet(&daemon, transport, 1).await;
        for (request, which) in
            (1..).zip([Which::Latest, Which::Sequence(1), Which::Digest(Digest::of(&payload))])
        {
            hand.send(&[ClientFrame::Get { request, topic: "demo/a", which }]).await;
            let frame = hand.frame(request).await;
            let DaemonFrame::Begin { sequence: 1, size, .. } = decode(&frame) else { panic!() };
            let (size, bytes) = (size as usize, Vec::new());
            let message = Arriving { sequence: 1, stamp: 0, size, bytes };
            message.end(&mut hand, request, &payload).await;
        }
    }
}

#[tokio::test]
async fn a_message_evicted_while_it_is_sent_is_aborted_and_a_gap() {
    let limits = Limits::default().with_cache(32 << 20).with_payload(8 << 20);
    let large = payload(9, 8 << 20);
    for transport in TRANSPORTS {
        for mode in MODES {
            let daemon = daemon_with(limits).await;
            let mut subscriber = greet(&daemon, transport, 2).await;
            let mut getter = greet(&daemon, transport, 3).await;
            subscriber.subscribe(1, "demo/a", Start::New, mode).await;
            daemon.publish("demo/a", large.clone()).unwrap();
            // The message has begun, so that the part that has arrived is in the windows of the
            // transport.
            Arriving::begin(&mut subscriber, 1).await;
            subscriber.set_reading(false);
            getter
                .send(&[ClientFrame::Get { request: 1, topic: "demo/a", which: Which::Latest }])
                .await;
            assert!(matches!(decode(&getter.frame(1).await), DaemonFrame::Begin { .. }));
            getter.set_reading(false);
            for n in 0..6 {
                daemon.publish("demo/a", payload(100 + n, 8 << 20)).unwrap();
            }
            subscriber.set_reading(true);
            getter.set_reading(true);
            // The buffers of TCP in the kernel may hold all of it.
            let evicted = is_aborted(&mut getter, 1).await;
            assert!(evicted || transport == Transport::WebSocket);
            if mode != Delivery::Ordered && transport != Transport::WebSocket {
                let (mut reset, mut told) = (false, false);
                while !(reset && told) {
                    match subscriber.next(1).await {
                        StreamEvent::Reset(_) => reset = true,
                        StreamEvent::Frame(frame) => told |= is_gap(&frame, 1, GapCause::Evicted),
                        StreamEvent::End => {}
                    }
                }
            } else if is_aborted(&mut subscriber, 1).await {
                let frame = subscriber.frame(1).await;
                let DaemonFrame::Gap { first: 1, last, cause: GapCause::Evicted, .. } =
                    decode(&frame)
                else {
                    panic!("{:?}", decode(&frame));
                };
                let next = Arriving::begin(&mut subscriber, 1).await;
                assert_eq!(next.sequence, last + 1);
            }
        }
    }
}

// Reads to the end of a message. Returns true if it was aborted, false if it is complete.
async fn is_aborted(hand: &mut Hand, request: u32) -> bool {
    loop {
        let frame = hand.frame(request).await;
        match decode(&frame) {
            DaemonFrame::Chunk { .. } => {}
            DaemonFrame::Abort { code: Code::EVICTED } => return true,
            DaemonFrame::End { .. } => return false,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_publication_that_stalls_is_aborted() {
    let daemon = daemon().await;
    let payload = payload(10, 4 * CHUNK);
    let mut all = Vec::new();
    for (n, transport) in (1..).zip(TRANSPORTS) {
        let mut publisher = greet(&daemon, transport, n).await;
        let mut out = publisher.open().await;
        publisher.publish(&mut out, &[topic("demo/a"), begin(1, payload.len())]).await;
        publisher.publish(&mut out, &chunks(&payload[..CHUNK])).await;
        all.push((publisher, out));
    }
    for (mut publisher, mut out) in all {
        assert_eq!(rejected(&mut publisher).await, (1, Code::TIMED_OUT));
        // The daemon stops the stream or drops the rest, and the session goes on.
        publisher.publish(&mut out, &chunks(&payload[CHUNK..])).await;
        publish_all(&mut publisher, "demo/a", 1, &payload).await;
        let (_, _, duplicate) = receipt(&mut publisher).await;
        assert!(!duplicate);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_subscribers_share_one_copy() {
    let state = tempfile::tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    let server: SocketAddr = served.server.parse().unwrap();
    let payload = payload(11, 8 << 20);
    for (n, transport) in (1_u64..).zip(TRANSPORTS) {
        let name = format!("demo/{n}");
        let mut subscribers = Vec::new();
        for _ in 0..20 {
            let mut one = Hand::greet(server, transport, 2).await;
            one.subscribe(1, &name, Start::New, Delivery::Ordered).await;
            // These subscribers read when all of the message has arrived.
            one.set_reading(false);
            subscribers.push(one);
        }
        let before = served.kib("VmRSS");
        let mut publisher = Hand::greet(server, transport, n as u8).await;
        publish_all(&mut publisher, &name, 1, &payload).await;
        receipt(&mut publisher).await;
        let mut all = JoinSet::new();
        for mut one in subscribers {
            let payload = payload.clone();
            one.set_reading(true);
            all.spawn(async move {
                Arriving::begin(&mut one, 1).await.end(&mut one, 1, &payload).await;
                one
            });
        }
        let all = all.join_all().await;
        let most = served.kib("VmHWM");
        println!("{transport}: {before} KiB before, {most} KiB at most");
        let grown = (most - before) / 1024;
        assert!(grown < 64, "{grown} MiB for one payload of 8 MiB");
        drop(all);
    }
}

#[tokio::test]
async fn over_http_it_is_relayed_while_it_arrives_and_sent_in_pieces() {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let daemon = Daemon::builder().read(any.into()).http(SocketAddr::from(any));
    let daemon = daemon.spawn().await.unwrap();
    let payload = payload(12, 5 * CHUNK + 3);
    let (first, second) = payload.split_at(2 * CHUNK);
    let mut subscriber = greet(&daemon, Transport::Quic, 2).await;
    subscriber.subscribe(1, "demo/a", Start::New, Delivery::Ordered).await;
    let head = format!(
        "POST /v1/topics/demo/a HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: one\r\nWeir-Stamp: 5\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        payload.len()
    );
    for (sequence, breaks_off) in [(1, true), (2, false)] {
        let mut http = TcpStream::connect(daemon.http_addr().unwrap()).await.unwrap();
        http.write_all(head.as_bytes()).await.unwrap();
        http.write_all(first).await.unwrap();
        let mut message = Arriving::begin(&mut subscriber, 1).await;
        assert_eq!((message.sequence, message.stamp), (sequence, 5));
        message.read_to(&mut subscriber, 1, first.len()).await;
        if breaks_off {
            drop(http);
            let frame = subscriber.frame(1).await;
            assert_eq!(decode(&frame), DaemonFrame::Abort { code: Code::PUBLISHER_GONE });
            assert!(is_gap(&subscriber.frame(1).await, 1, GapCause::Aborted));
            continue;
        }
        http.write_all(second).await.unwrap();
        assert_eq!(message.end(&mut subscriber, 1, &payload).await, 1);
        let mut answer = String::new();
        within(http.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"duplicate\":false"));
    }
    // A request with the same key is the same publication.
    let mut http = TcpStream::connect(daemon.http_addr().unwrap()).await.unwrap();
    http.write_all(head.as_bytes()).await.unwrap();
    http.write_all(&payload).await.unwrap();
    let mut answer = String::new();
    within(http.read_to_string(&mut answer)).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"duplicate\":true"),
        "{answer}"
    );
    let get = "GET /v1/topics/demo/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut http = TcpStream::connect(daemon.http_addr().unwrap()).await.unwrap();
    http.write_all(get.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within(http.read_to_end(&mut answer)).await.unwrap();
    let length = format!("content-length: {}\r\n", payload.len());
    assert!(answer.windows(length.len()).any(|part| part == length.as_bytes()));
    assert!(answer.ends_with(&payload));
}

/// On the one stream of a wildcard, a message that arrives slowly does not delay complete messages
/// of other topics. The part that the subscriber has is discarded, and the message is sent again
/// when it is complete.
#[tokio::test]
async fn a_message_that_arrives_slowly_makes_way_for_complete_ones() {
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        let (slow, quick) = (payload(21, 3 * CHUNK), payload(22, 2 * CHUNK));
        let mut subscriber = greet(&daemon, transport, 2).await;
        subscriber.subscribe(1, "**", Start::New, Delivery::Ordered).await;
        let client = common::client(&daemon, transport).await;
        let options = SubscribeOptions::default();
        let mut by_client = within(client.subscribe("**", &options)).await.unwrap();
        let mut publisher = greet(&daemon, transport, 1).await;
        let mut out = publisher.open().await;
        publisher.publish(&mut out, &[topic("slow"), begin(1, slow.len())]).await;
        publisher.publish(&mut out, &chunks(&slow[..CHUNK])).await;
        let mut part = Arriving::begin(&mut subscriber, 1).await;
        part.read_to(&mut subscriber, 1, CHUNK).await;
        daemon.publish("quick", quick.clone()).unwrap();
        let frame = subscriber.frame(1).await;
        assert_eq!(decode(&frame), DaemonFrame::Abort { code: Code::OVERTAKEN }, "{transport}");
        Arriving::begin(&mut subscriber, 1).await.end(&mut subscriber, 1, &quick).await;
        publisher.publish(&mut out, &chunks(&slow[CHUNK..])).await;
        publisher.publish(&mut out, &[ClientFrame::End { digest: Digest::of(&slow) }]).await;
        let again = Arriving::begin(&mut subscriber, 1).await;
        assert_eq!(again.sequence, part.sequence);
        again.end(&mut subscriber, 1, &slow).await;
        for expected in [&quick, &slow] {
            let Event::Message(message) = within(by_client.next()).await.unwrap().unwrap() else {
                panic!("a gap");
            };
            assert!(message.payload == expected, "{}", message.topic);
        }
    }
}

/// Reads a stream of events until it contains this text, and returns what was read.
async fn read_until(http: &mut TcpStream, text: &mut String, what: &str) {
    let mut buffer = [0; 4096];
    while !text.contains(what) {
        let read = within(http.read(&mut buffer)).await.unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

async fn follow(daemon: &Daemon, query: &str) -> TcpStream {
    let mut http = TcpStream::connect(daemon.http_addr().unwrap()).await.unwrap();
    let get = format!("GET /v1/events/**?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    http.write_all(get.as_bytes()).await.unwrap();
    http
}

/// A publisher that is slow delays no other: messages of other topics overtake its own, and the ids
/// of the events name what was overtaken. A stream that is resumed in between misses and repeats
/// nothing.
#[tokio::test]
async fn a_stream_of_events_is_not_delayed_by_arriving_messages() {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let daemon = Daemon::builder().read(any.into()).http(SocketAddr::from(any));
    let daemon = daemon.spawn().await.unwrap();
    let payload = payload(13, 2 * CHUNK);
    let mut publisher = greet(&daemon, Transport::Quic, 1).await;
    let mut out = publisher.open().await;
    publisher.publish(&mut out, &[topic("slow"), begin(1, payload.len())]).await;
    let mut watcher = greet(&daemon, Transport::Quic, 2).await;
    watcher.subscribe(1, "slow", Start::All, Delivery::Ordered).await;
    Arriving::begin(&mut watcher, 1).await;
    let (mut first, mut text) = (follow(&daemon, "from=all").await, String::new());
    read_until(&mut first, &mut text, "retry:").await;
    daemon.publish("quick", "after").unwrap();
    read_until(&mut first, &mut text, "quick").await;
    read_until(&mut first, &mut text, "\n\n").await;
    assert!(!text.contains("\"slow\""));
    let id = text.rsplit("id: ").next().unwrap().split('\n').next().unwrap().to_owned();
    assert!(id.ends_with("~1.1"), "all but the first message of the first topic: {id}");
    let mut second = follow(&daemon, &format!("last_event_id={id}")).await;
    let mut resumed = String::new();
    read_until(&mut second, &mut resumed, "retry:").await;
    publisher.publish(&mut out, &chunks(&payload)).await;
    publisher.publish(&mut out, &[ClientFrame::End { digest: Digest::of(&payload) }]).await;
    daemon.publish("quick", "last").unwrap();
    for (http, text) in [(&mut first, &mut text), (&mut second, &mut resumed)] {
        read_until(http, text, "\"slow\"").await;
        read_until(http, text, "last").await;
    }
    assert_eq!(text.matches("after").count(), 1);
    assert!(!resumed.contains("after"), "it had that");
}
