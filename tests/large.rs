//! Large payloads in chunks, as a client sends and receives them: with a scripted daemon, and at
//! the end with a real one.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/raw.rs"]
mod raw;
#[path = "common/staged.rs"]
mod staged;

use bytes::Bytes;
use common::{TRANSPORTS, client, daemon, gap, message, within};
use raw::{Raw, encoded};
use staged::{Stage, staged};
use tokio::task::JoinHandle;
use weir::client::{RequestError, Subscription};
use weir::wire::{ClientFrame, Code, DaemonFrame, Delivery, Digest, FrameReader, GapCause, Which};
use weir::{Client, Event, Gap, Start, SubscribeOptions, Trust};

const LIMIT: u64 = 1 << 20;
const CHUNK: usize = 64 << 10;

/// Returns a client and its session at the scripted daemon.
async fn session() -> (Client, Stage) {
    let (endpoint, hash) = staged();
    let server = endpoint.local_addr().unwrap().to_string();
    let daemon = tokio::spawn(async move { Stage::accept_with(&endpoint, LIMIT).await });
    let connecting = Client::builder(server).trust(Trust::Pinned(hash.into())).connect();
    let client = within(connecting).await.unwrap();
    (client, within(daemon).await.unwrap())
}

/// Subscribes. The subscription has request 1, the first.
async fn subscribed(delivery: Delivery) -> (Client, Stage, Subscription) {
    let (client, mut stage) = session().await;
    let options = SubscribeOptions { delivery, ..SubscribeOptions::default() };
    let asking = client.clone();
    let subscription = tokio::spawn(async move { asking.subscribe("demo/*", &options).await });
    let frame = stage.frame().await;
    assert!(matches!(ClientFrame::decode(&frame), Ok(ClientFrame::Subscribe { request: 1, .. })));
    stage.say(&DaemonFrame::Subscribed { request: 1, position: 0 }).await;
    let subscription = within(subscription).await.unwrap().unwrap();
    (client, stage, subscription)
}

fn payload(size: usize) -> Bytes {
    (0..size).map(|n| ((n * n) >> 7) as u8).collect()
}

const FOR: DaemonFrame<'_> = DaemonFrame::For { request: 1 };

fn topic(id: u64) -> DaemonFrame<'static> {
    let name = ["demo/a", "demo/b"][id as usize - 1];
    DaemonFrame::Topic { id, epoch: 7, next: 1, name }
}

fn small(topic: u64, sequence: u64) -> DaemonFrame<'static> {
    DaemonFrame::Message { topic, sequence, count: 1, stamp: 0, payload: b"small" }
}

fn begin(topic: u64, sequence: u64, size: usize) -> DaemonFrame<'static> {
    DaemonFrame::Begin { topic, sequence, stamp: 9, size: size as u64 }
}

fn end(payload: &[u8]) -> DaemonFrame<'static> {
    DaemonFrame::End { count: 3, digest: Digest::of(payload) }
}

fn chunks(payload: &[u8]) -> impl Iterator<Item = DaemonFrame<'_>> {
    payload.chunks(CHUNK).map(|bytes| DaemonFrame::Chunk { bytes })
}

async fn send(stream: &mut quinn::SendStream, frames: &[DaemonFrame<'_>]) {
    for frame in frames {
        stream.write_chunk(frame.to_bytes()).await.unwrap();
    }
}

/// Returns the code with which the client closes the connection.
async fn closed(stage: &Stage) -> u64 {
    match within(stage.connection.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

// Messages that arrive.

#[tokio::test]
async fn other_topics_overtake_a_message_that_is_arriving() {
    let (_client, mut stage, mut subscription) = subscribed(Delivery::Ordered).await;
    let large = payload(200_000);
    let head = [FOR, topic(1), topic(2), begin(1, 1, large.len())];
    let mut stream = stage.stream(&head).await;
    for (sequence, chunk) in (1..).zip(chunks(&large)) {
        send(&mut stream, &[chunk, small(2, sequence)]).await;
        let between = message(&mut subscription).await;
        assert_eq!((&*between.topic, between.sequence), ("demo/b", sequence));
    }
    send(&mut stream, &[end(&large), small(1, 2)]).await;
    let whole = message(&mut subscription).await;
    assert_eq!((&*whole.topic, whole.sequence, whole.count), ("demo/a", 1, 3));
    assert_eq!((whole.stamp, whole.digest()), (Some(9), Digest::of(&large)));
    assert!(whole.payload == large);
    assert_eq!(message(&mut subscription).await.sequence, 2);
}

#[tokio::test]
async fn an_aborted_message_is_a_gap_and_nothing_else() {
    let (_client, mut stage, mut subscription) = subscribed(Delivery::Ordered).await;
    let large = payload(200_000);
    let mut stream = stage.stream(&[FOR, topic(1), begin(1, 1, large.len())]).await;
    let parts: Vec<_> = chunks(&large).collect();
    send(&mut stream, &parts[..2]).await;
    let cause = GapCause::Aborted;
    let rest = [
        DaemonFrame::Abort { code: Code::PUBLISHER_GONE },
        DaemonFrame::Gap { topic: 1, first: 1, last: 1, cause },
        small(1, 2),
    ];
    send(&mut stream, &rest).await;
    let told = gap(&mut subscription).await;
    assert_eq!((told.first, told.last, told.cause), (1, 1, cause));
    assert_eq!(message(&mut subscription).await.sequence, 2);
}

#[tokio::test]
async fn a_stream_that_is_reset_half_way_is_a_gap_and_nothing_else() {
    for delivery in [Delivery::Unordered, Delivery::Realtime] {
        let (_client, mut stage, mut subscription) = subscribed(delivery).await;
        let large = payload(200_000);
        let mut own = stage.stream(&[FOR, topic(1), begin(1, 1, large.len())]).await;
        let mut stream = stage.stream(&[FOR, topic(1), topic(2), small(2, 1)]).await;
        assert_eq!(&*message(&mut subscription).await.topic, "demo/b");
        send(&mut own, &chunks(&large).take(2).collect::<Vec<_>>()).await;
        own.reset(Code::PUBLISHER_GONE.0.into()).unwrap();
        let cause = GapCause::Aborted;
        send(&mut stream, &[DaemonFrame::Gap { topic: 1, first: 1, last: 1, cause }]).await;
        let told = gap(&mut subscription).await;
        assert_eq!((told.first, told.last, told.cause), (1, 1, cause));
        send(&mut stream, &[small(1, 2)]).await;
        assert_eq!(message(&mut subscription).await.sequence, 2);
    }
}

// The client does not request a message that is already arriving, but requests the others that are
// missing.
#[tokio::test]
async fn a_message_that_is_arriving_is_not_requested() {
    let (_client, mut stage, mut subscription) = subscribed(Delivery::Realtime).await;
    let large = payload(200_000);
    // All of it is in one packet: a client that has read the small message has also received the
    // beginning of the large one.
    let mut own = stage.stream(&[]).await;
    let mut head = Vec::new();
    let frames = [FOR, topic(1), topic(2), small(2, 1), begin(1, 1, large.len())];
    frames.iter().for_each(|frame| frame.encode(&mut head));
    own.write_chunk(head.into()).await.unwrap();
    assert_eq!(&*message(&mut subscription).await.topic, "demo/b");
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        while got.len() < 3 {
            got.push(message(&mut subscription).await.sequence);
        }
        got
    });
    let _stream = stage.stream(&[FOR, topic(1), small(1, 2), small(1, 4)]).await;
    let asked = within(stage.connection.read_datagram()).await.unwrap();
    let mut reader = FrameReader::new(asked.len());
    reader.push(asked);
    let frame = reader.next_frame().unwrap().unwrap();
    let holes = vec![(3, 3)];
    let repair = ClientFrame::Repair { subscription: 1, topic: 1, holes };
    assert_eq!(ClientFrame::decode(&frame), Ok(repair));
    send(&mut own, &chunks(&large).collect::<Vec<_>>()).await;
    send(&mut own, &[end(&large)]).await;
    assert_eq!(within(reading).await.unwrap(), [2, 4, 1]);
}

/// Violations of the protocol by a daemon, after the beginning of a message of 200,000 bytes.
fn wrong(large: &[u8]) -> Vec<(&'static str, Vec<DaemonFrame<'_>>)> {
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

#[tokio::test]
async fn a_daemon_that_breaks_the_protocol_is_left() {
    let large = payload(200_000);
    for delivery in [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime] {
        for (what, frames) in wrong(&large) {
            let (client, mut stage, mut subscription) = subscribed(delivery).await;
            let mut own = stage.stream(&[FOR, topic(1), begin(1, 1, large.len())]).await;
            send(&mut own, &frames).await;
            let error = within(subscription.next()).await.unwrap().expect_err(what);
            assert!(error.to_string().contains("broke the protocol"), "{what}: {error}");
            assert_eq!(closed(&stage).await, u64::from(Code::MALFORMED.0), "{what}");
            assert_eq!(within(client.closed()).await.code, None, "{what}");
        }
    }
}

// Answers to `Get`.

async fn getting() -> (JoinHandle<Result<weir::Message, RequestError>>, Stage) {
    let (client, mut stage) = session().await;
    let get = tokio::spawn(async move { client.get("demo/a", Which::Latest).await });
    let frame = stage.frame().await;
    assert!(matches!(ClientFrame::decode(&frame), Ok(ClientFrame::Get { request: 1, .. })));
    (get, stage)
}

#[tokio::test]
async fn a_get_is_answered_in_chunks_too() {
    let (get, mut stage) = getting().await;
    let large = payload(LIMIT as usize);
    let mut stream = stage.stream(&[FOR, topic(1), begin(1, 1, large.len())]).await;
    send(&mut stream, &chunks(&large).collect::<Vec<_>>()).await;
    send(&mut stream, &[end(&large)]).await;
    let whole = within(get).await.unwrap().unwrap();
    assert_eq!((&*whole.topic, whole.epoch, whole.sequence, whole.count), ("demo/a", 7, 1, 3));
    assert!(whole.payload == large);
}

#[tokio::test]
async fn an_answer_that_is_aborted_half_way_is_a_refusal() {
    let (get, mut stage) = getting().await;
    let large = payload(200_000);
    let mut stream = stage.stream(&[FOR, topic(1), begin(1, 1, large.len())]).await;
    send(&mut stream, &chunks(&large).take(2).collect::<Vec<_>>()).await;
    send(&mut stream, &[DaemonFrame::Abort { code: Code::EVICTED }]).await;
    match within(get).await.unwrap() {
        Err(RequestError::Refused(refusal)) => assert_eq!(refusal.code, Code::EVICTED),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_broken_answer_ends_the_session() {
    let large = payload(200_000);
    for (what, frames) in wrong(&large) {
        if frames.len() == 2 {
            // The abort is the answer.
            continue;
        }
        let (get, mut stage) = getting().await;
        let mut stream = stage.stream(&[FOR, topic(1), begin(1, 1, large.len())]).await;
        send(&mut stream, &frames).await;
        assert!(matches!(within(get).await.unwrap(), Err(RequestError::Closed(_))), "{what}");
        assert_eq!(closed(&stage).await, u64::from(Code::MALFORMED.0), "{what}");
    }
}

// Publications.

/// A stream of the client's, and what the daemon read from it.
struct Published {
    stream: quinn::RecvStream,
    reader: FrameReader,
}

impl Published {
    async fn accept(stage: &Stage) -> Self {
        let stream = within(stage.connection.accept_uni()).await.unwrap();
        Self { stream, reader: FrameReader::new(1 << 20) }
    }

    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.reader.next_frame().unwrap() {
                return Some(frame);
            }
            let chunk = within(self.stream.read_chunk(1 << 16, true)).await.unwrap();
            self.reader.push(chunk?.bytes);
        }
    }

    /// Reads the topic and the beginning. Returns alias, number and size.
    async fn begun(&mut self) -> (u32, u64, u64) {
        let frame = self.frame().await.unwrap();
        let Ok(ClientFrame::Topic { alias: declared, name: "demo/a" }) =
            ClientFrame::decode(&frame)
        else {
            panic!("no topic first");
        };
        let frame = self.frame().await.unwrap();
        let Ok(ClientFrame::Begin { alias, number, stamp, size }) = ClientFrame::decode(&frame)
        else {
            panic!("no beginning after it");
        };
        assert!(alias == declared && stamp > 0);
        (alias, number, size)
    }
}

fn receipt(alias: u32, number: u64, duplicate: bool) -> DaemonFrame<'static> {
    let digest = Digest([0; 32]);
    DaemonFrame::Receipt { alias, number, sequence: 5, count: 1, since: 0, digest, duplicate }
}

#[tokio::test]
async fn a_large_payload_goes_in_chunks_on_a_stream_of_its_own() {
    let (client, mut stage) = session().await;
    for (number, size) in [(1, CHUNK + 1), (2, 200_000), (3, LIMIT as usize)] {
        let large = payload(size);
        let sent = client.send("demo/a", large.clone()).await.unwrap();
        let mut stream = Published::accept(&stage).await;
        let (alias, begun, told) = stream.begun().await;
        assert_eq!((begun, told), (number, size as u64));
        let mut got = Vec::new();
        loop {
            let frame = stream.frame().await.unwrap();
            match ClientFrame::decode(&frame).unwrap() {
                ClientFrame::Chunk { bytes } => {
                    assert!((1..=CHUNK).contains(&bytes.len()));
                    got.extend_from_slice(bytes);
                }
                ClientFrame::End { digest } => {
                    assert_eq!(digest, Digest::of(&large));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(got == large);
        assert_eq!(stream.frame().await, None, "it ends there");
        stage.say(&receipt(alias, number, false)).await;
        assert_eq!(within(sent).await.unwrap().sequence, 5);
    }
}

// A client whose stream is stopped waits for the answer on the control stream, which may arrive
// before or after the stop.
#[tokio::test]
async fn a_client_that_is_stopped_waits_for_its_answer() {
    let (client, mut stage) = session().await;
    let large = payload(LIMIT as usize);
    // More publications than may be in flight at once: a stopped one must free its place.
    for number in 1..=40 {
        let sent = client.send("demo/a", large.clone()).await.unwrap();
        let mut stream = Published::accept(&stage).await;
        let (alias, begun, _) = stream.begun().await;
        assert_eq!(begun, number);
        let answer_first = number % 2 == 0;
        if answer_first {
            stage.say(&receipt(alias, number, true)).await;
        }
        stream.stream.stop(Code::DONE.0.into()).unwrap();
        if !answer_first {
            let (code, reason) = (Code::STALE, "too old");
            stage.say(&DaemonFrame::Rejected { alias, number, code, reason }).await;
        }
        match within(sent).await {
            Ok(receipt) => assert!(answer_first && receipt.duplicate),
            Err(error) => assert!(!answer_first && error.to_string().contains("too old")),
        }
    }
}

// Each publication has its own stream, so that large ones do not wait for one another, nor small
// ones for them.
#[tokio::test]
async fn several_large_payloads_are_in_flight_beside_small_ones() {
    let (client, stage) = session().await;
    let large = payload(LIMIT as usize);
    let mut streams = Vec::new();
    for number in 1..=4 {
        drop(client.send("demo/a", large.clone()).await.unwrap());
        let mut stream = Published::accept(&stage).await;
        assert_eq!(stream.begun().await.1, number);
        streams.push(stream);
    }
    drop(client.send("demo/a", "small").await.unwrap());
    let mut stream = Published::accept(&stage).await;
    let frame = stream.frame().await.unwrap();
    assert!(matches!(ClientFrame::decode(&frame), Ok(ClientFrame::Topic { .. })));
    let frame = stream.frame().await.unwrap();
    assert!(matches!(ClientFrame::decode(&frame), Ok(ClientFrame::Publish { number: 5, .. })));
    drop(streams);
}

// With a real daemon.

const DELIVERIES: [Delivery; 3] = [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_payload_is_delivered_over_each_transport_in_each_mode() {
    let daemon = daemon().await;
    for transport in TRANSPORTS {
        let publisher = client(&daemon, transport).await;
        let subscriber = client(&daemon, transport).await;
        let size = publisher.max_payload() as usize;
        assert_eq!(size, 16 << 20);
        for (index, delivery) in (0..).zip(DELIVERIES) {
            let topic = format!("demo/{transport}/{index}");
            let mut large = payload(size).to_vec();
            large[..topic.len()].copy_from_slice(topic.as_bytes());
            let large = Bytes::from(large);
            let options = |start| SubscribeOptions { delivery, start, ..Default::default() };
            let mut live = subscriber.subscribe(&topic, &options(Start::New)).await.unwrap();
            let sent = publisher.send(&topic, large.clone()).await.unwrap();
            let came = message(&mut live).await;
            assert!(came.payload == large, "{transport} {delivery:?}");
            let receipt = within(sent).await.unwrap();
            assert_eq!((came.sequence, came.count), (receipt.sequence, receipt.count));
            assert_eq!((came.digest(), receipt.digest), (Digest::of(&large), Digest::of(&large)));
            // Late subscribers, when the message is complete.
            let mut late = subscriber.subscribe(&topic, &options(Start::All)).await.unwrap();
            assert!(message(&mut late).await == came);
            assert!(within(subscriber.get(&topic, Which::Latest)).await.unwrap() == came);
        }
        publisher.close().await;
        subscriber.close().await;
    }
    daemon.shutdown().await;
}

#[tokio::test]
async fn a_publisher_that_goes_away_half_way_leaves_a_gap_and_nothing_else() {
    let daemon = daemon().await;
    for transport in TRANSPORTS {
        let client = client(&daemon, transport).await;
        for (index, delivery) in (0..).zip(DELIVERIES) {
            let name = format!("demo/{transport}/{index}");
            let options = SubscribeOptions { delivery, ..Default::default() };
            let mut subscription = client.subscribe(&name, &options).await.unwrap();
            let raw = Raw::greeted(&daemon).await;
            let mut stream = raw.connection.open_uni().await.unwrap();
            let (alias, size) = (1, 1 << 20);
            let half = vec![7; CHUNK];
            let frames = [
                ClientFrame::Topic { alias, name: &name },
                ClientFrame::Begin { alias, number: 1, stamp: 0, size },
                ClientFrame::Chunk { bytes: &half },
            ];
            stream.write_all(&encoded(&frames)).await.unwrap();
            // Waits until the message has a sequence.
            let mut published = 0;
            let skipped = loop {
                published += 1;
                let receipt = within(client.publish(&name, "small")).await.unwrap();
                if receipt.sequence > published {
                    break published;
                }
            };
            raw.connection.close(0_u32.into(), b"");
            let (mut sequences, mut gaps) = (Vec::new(), Vec::new());
            while sequences.len() + gaps.len() <= published as usize {
                match within(subscription.next()).await.unwrap().unwrap() {
                    Event::Message(message) => {
                        assert_eq!(message.payload, "small");
                        sequences.push(message.sequence);
                    }
                    Event::Gap(Gap { first, last, cause, .. }) => gaps.push((first, last, cause)),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(gaps, [(skipped, skipped, GapCause::Aborted)], "{transport} {delivery:?}");
            sequences.sort_unstable();
            assert!((1..=published + 1).filter(|n| *n != skipped).eq(sequences));
        }
    }
    daemon.shutdown().await;
}

// A reader that is too slow for all of its subscriptions misses nothing on the channel that they
// share.
#[tokio::test]
async fn a_slow_reader_over_websocket_gets_large_messages_whole() {
    let daemon = daemon().await;
    let client = client(&daemon, weir::Transport::WebSocket).await;
    let mut slow = client.subscribe("demo/*", &SubscribeOptions::default()).await.unwrap();
    let large = payload(3 << 20);
    for n in 0..8_u8 {
        let mut large = large.to_vec();
        large[0] = n;
        within(client.publish("demo/large", large)).await.unwrap();
        within(client.publish("demo/small", [n].to_vec())).await.unwrap();
    }
    for n in 0..8 {
        let came = message(&mut slow).await;
        assert_eq!((&*came.topic, came.payload[0], came.payload.len()), ("demo/large", n, 3 << 20));
        assert!(came.payload[1..] == large[1..]);
        let came = message(&mut slow).await;
        assert_eq!((&*came.topic, came.payload[0]), ("demo/small", n));
    }
    daemon.shutdown().await;
}
