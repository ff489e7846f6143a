//! Peers that break the protocol, speak it at the level of frames, or do not exist.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/raw.rs"]
mod raw;

use common::{NOBODY, TRANSPORTS, client, daemon, message, within};
use raw::{Raw, encoded, hello};
use weir::client::ConnectError;
use weir::wire::{self, ClientFrame, Code, DaemonFrame, FrameReader};
use weir::{CertificateHash, Client, SubscribeOptions, Trust};

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_gets_the_reason_and_no_other_is_affected() {
    let daemon = daemon().await;
    let bystander = client(&daemon, TRANSPORTS[0]).await;
    let options = SubscribeOptions::default();
    let mut news = bystander.subscribe("demo/a", &options).await.unwrap();
    let publish = ClientFrame::Publish { alias: 9, number: 1, stamp: 0, payload: b"x" };
    let topic = |name| ClientFrame::Topic { alias: 1, name };
    let oversized = [0xff, 0xff, 0xff, 0x7f, 0, 0];
    let control: [(Vec<u8>, Code, &str); 8] = [
        (vec![0], Code::MALFORMED, "length"),
        (vec![3, 0xff, 0xff, 0xff], Code::MALFORMED, "docs/protocol.md"),
        (oversized.to_vec(), Code::FRAME_TOO_LARGE, "limit"),
        (encoded(&[hello(1)]), Code::UNEXPECTED, "hello"),
        (encoded(std::slice::from_ref(&publish)), Code::BAD_ALIAS, "alias 9"),
        (encoded(&[topic("a"), topic("b")]), Code::BAD_ALIAS, "already stands for a"),
        (
            encoded(&[ClientFrame::Begin { alias: 9, number: 1, stamp: 0, size: 1 }]),
            Code::BAD_ALIAS,
            "alias 9",
        ),
        (
            encoded(&[ClientFrame::Repair { subscription: 1, topic: 1, holes: vec![(2, 1)] }]),
            Code::MALFORMED,
            "holes",
        ),
    ];
    for (bytes, code, words) in control {
        let mut raw = Raw::greeted(&daemon).await;
        raw.tx.write_all(&bytes).await.unwrap();
        let (received, reason) = raw.goodbye().await;
        assert_eq!(received, code, "{reason}");
        assert!(reason.contains(words), "{reason}");
    }
    let streams: [(Vec<u8>, Code); 4] = [
        (vec![5, 1], Code::MALFORMED),
        (vec![1, 0x63], Code::MALFORMED),
        (encoded(&[publish]), Code::BAD_ALIAS),
        (encoded(&[ClientFrame::Ping { request: 1 }]), Code::UNEXPECTED),
    ];
    for (bytes, code) in streams {
        let mut raw = Raw::greeted(&daemon).await;
        let mut stream = raw.connection.open_uni().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.finish().unwrap();
        assert_eq!(raw.goodbye().await.0, code);
    }
    let datagrams: [(Vec<u8>, Code); 7] = [
        (b"x".to_vec(), Code::MALFORMED),
        (vec![0], Code::MALFORMED),
        (vec![1, 0x63], Code::MALFORMED),
        ([&encoded(&[topic("a")])[..], &[9, 2]].concat(), Code::MALFORMED),
        (encoded(&[topic("a"), topic("b")]), Code::BAD_ALIAS),
        (encoded(&[ClientFrame::Ping { request: 1 }]), Code::UNEXPECTED),
        (
            encoded(&[ClientFrame::Repair { subscription: 1, topic: 1, holes: vec![(2, 1)] }]),
            Code::MALFORMED,
        ),
    ];
    for (bytes, code) in datagrams {
        let mut raw = Raw::greeted(&daemon).await;
        raw.connection.send_datagram(bytes.into()).unwrap();
        assert_eq!(raw.goodbye().await.0, code);
    }

    let mut raw = Raw::greeted(&daemon).await;
    let (mut second, _rx) = raw.connection.open_bi().await.unwrap();
    second.write_all(&encoded(&[hello(1)])).await.unwrap();
    assert_eq!(raw.goodbye().await.0, Code::UNEXPECTED);

    bystander.publish("demo/a", "still here").await.unwrap();
    assert_eq!(message(&mut news).await.payload, "still here");
}

#[tokio::test]
async fn frames_before_a_damaged_one_count() {
    let daemon = daemon().await;
    let mut raw = Raw::greeted(&daemon).await;
    let mut bytes = encoded(&[
        ClientFrame::Topic { alias: 0, name: "demo/a" },
        ClientFrame::Publish { alias: 0, number: 1, stamp: 0, payload: b"good" },
    ]);
    bytes.push(0);
    raw.tx.write_all(&bytes).await.unwrap();
    let receipt = raw.frame().await;
    assert!(matches!(DaemonFrame::decode(&receipt), Ok(DaemonFrame::Receipt { sequence: 1, .. })));
    assert_eq!(raw.goodbye().await.0, Code::MALFORMED);
}

#[tokio::test]
async fn an_unsupported_version_is_reported() {
    let daemon = daemon().await;
    let mut raw = Raw::connect(&daemon).await;
    raw.send(&[hello(99)]).await;
    let (code, reason) = raw.goodbye().await;
    assert_eq!(code, Code::VERSION);
    assert!(reason.contains("99"), "{reason}");
}

#[tokio::test]
async fn the_second_publishing_stream_brings_room_for_a_hundred() {
    let daemon = daemon().await;
    let raw = Raw::greeted(&daemon).await;
    // None of the streams ends: only the daemon's limit makes room.
    let mut open = Vec::new();
    while open.len() < 100 {
        let mut stream = within(raw.connection.open_uni()).await.unwrap();
        let frame = encoded(&[ClientFrame::Topic { alias: 0, name: "demo/a" }]);
        stream.write_all(&frame).await.unwrap();
        open.push(stream);
    }
}

#[tokio::test]
async fn hello_subscribe_and_publish_may_be_sent_at_once() {
    let daemon = daemon().await;
    let mut raw = Raw::connect(&daemon).await;
    // The stream with the publications overtakes the hello.
    let mut stream = raw.connection.open_uni().await.unwrap();
    let publications = encoded(&[
        ClientFrame::Topic { alias: 0, name: "demo/a" },
        ClientFrame::Publish { alias: 0, number: 1, stamp: 5, payload: b"early" },
    ]);
    stream.write_all(&publications).await.unwrap();
    raw.send(&[
        hello(wire::VERSION),
        ClientFrame::Subscribe {
            request: 1,
            filter: "demo/a",
            start: wire::Start::All,
            delivery: wire::Delivery::Ordered,
            lag: wire::Lag::Oldest,
            deadline: 0,
        },
    ])
    .await;
    let mut delivered = within(raw.connection.accept_uni()).await.unwrap();
    let mut reader = FrameReader::new(1 << 20);
    let mut frames = Vec::new();
    while frames.len() < 3 {
        let chunk = within(delivered.read_chunk(1 << 16, true)).await.unwrap().unwrap();
        reader.push(chunk.bytes);
        while let Some(frame) = reader.next_frame().unwrap() {
            frames.push(frame);
        }
    }
    let frames: Vec<_> = frames.iter().map(|frame| DaemonFrame::decode(frame).unwrap()).collect();
    assert_eq!(frames[0], DaemonFrame::For { request: 1 });
    assert!(matches!(frames[1], DaemonFrame::Topic { name: "demo/a", next: 1, .. }));
    assert!(matches!(
        frames[2],
        DaemonFrame::Message { sequence: 1, stamp: 5, payload: b"early", .. }
    ));
}

#[tokio::test]
async fn a_publication_sent_again_after_a_reconnect_counts_once() {
    let daemon = daemon().await;
    let publish = |number, payload| {
        encoded(&[
            ClientFrame::Topic { alias: 0, name: "demo/a" },
            ClientFrame::Publish { alias: 0, number, stamp: 0, payload },
        ])
    };
    let mut receipts = Vec::new();
    // Three sessions of one producer. The second sends a publication of the first again.
    for numbers in [&[1_u64, 2][..], &[2, 3], &[1, 3, 4]] {
        let mut raw = Raw::greeted(&daemon).await;
        for number in numbers {
            raw.tx.write_all(&publish(*number, b"same")).await.unwrap();
            match DaemonFrame::decode(&raw.frame().await).unwrap() {
                DaemonFrame::Receipt { number, sequence, count, duplicate, .. } => {
                    receipts.push((number, sequence, count, duplicate));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let new = |n| (n, n, n, false);
    let old = |n| (n, n, n, true);
    assert_eq!(receipts, [new(1), new(2), old(2), new(3), old(1), old(3), new(4)]);
}

#[tokio::test]
async fn errors_of_connecting_say_what_to_do() {
    let daemon = daemon().await;
    let server = daemon.local_addr().to_string();
    let state = tempfile::tempdir().unwrap();
    for transport in TRANSPORTS {
        let builder = |server: &str| Client::builder(server).transport(transport);
        let wrong = Trust::Pinned(CertificateHash([1; 32]).into());
        let error = builder(&server).trust(wrong).connect().await.unwrap_err();
        assert!(matches!(&error, ConnectError::Certificate { .. }), "{error}");
        assert!(error.to_string().contains(&daemon.certificate_hash().to_string()), "{error}");

        let authority = state.path().join("none.pem");
        std::fs::write(&authority, "").unwrap();
        let error =
            builder(&server).trust(Trust::Authority(authority)).connect().await.unwrap_err();
        assert!(error.to_string().contains("none.pem"), "{error}");

        let error = builder(&server).state(state.path()).connect().await.unwrap_err();
        assert!(matches!(&error, ConnectError::NoCertificate { .. }), "{error}");

        let error = builder(NOBODY).trust(Trust::Insecure).connect().await.unwrap_err();
        assert!(matches!(&error, ConnectError::NotRunning { .. }), "{error}");

        let error = builder("nowhere.invalid").connect().await.unwrap_err();
        assert!(matches!(&error, ConnectError::Address { .. }), "{error}");
    }
}

// In an earlier version a topic that had just been forgotten was never removed, and all calls
// waited for it for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requested_payloads_that_are_published_again_block_no_call() {
    let mut limits = weir::engine::Limits::default();
    limits.topics = 2;
    let daemon = common::daemon_with(limits).await;
    for n in 0..5000_u32 {
        daemon.publish("a", n.to_string()).unwrap();
    }
    daemon.publish("b", "x").unwrap();
    for n in 4997..5000_u32 {
        let digest = wire::Digest::of(n.to_string().as_bytes());
        daemon.get("a", wire::Which::Digest(digest)).unwrap();
    }
    daemon.publish("b", "y").unwrap();
    let mut raw = Raw::greeted(&daemon).await;
    raw.send(&[
        ClientFrame::Topic { alias: 1, name: "a" },
        ClientFrame::Topic { alias: 2, name: "c" },
        ClientFrame::Publish { alias: 2, number: 1, stamp: 0, payload: b"x" },
        ClientFrame::Publish { alias: 1, number: 1, stamp: 0, payload: b"4997" },
        ClientFrame::Publish { alias: 1, number: 2, stamp: 0, payload: b"4998" },
    ])
    .await;
    for _ in 0..3 {
        let frame = raw.frame().await;
        assert!(matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Receipt { .. })));
    }
}
