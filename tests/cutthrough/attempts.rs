//! Publications that are duplicates, are begun again, are contradictory, or stall.

use crate::common::{TRANSPORTS, daemon, within};
use crate::hand::{Upload, decode};
use crate::{
    Arriving, CHUNK, begin, chunks, greet, is_gap, payload, publish_all, receipt, rejected, topic,
};
use weir::wire::{ClientFrame, Code, DaemonFrame, Delivery, Digest, GapCause, Start, Which};
use weir::{Event, SubscribeOptions, Transport};

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
            let DaemonFrame::Goodbye { code: received, .. } = decode(&frame) else {
                panic!("{what}: {:?}", decode(&frame));
            };
            assert_eq!(received, *code, "{what}");
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
