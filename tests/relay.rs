//! Publish, subscribe, look up: the client library against a daemon, over every transport.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{TRANSPORTS, client, daemon, daemon_with, gap, message, within};
use futures_util::FutureExt as _;
use weir::client::{PublishError, RequestError, SubscribeError};
use weir::engine::Limits;
use weir::wire::{Code, Delivery, Digest, GapCause, Lag, Which};
use weir::{Client, Daemon, Event, Start, SubscribeOptions};

#[tokio::test]
async fn every_message_once_in_order_on_every_transport_and_across() {
    let daemon = daemon().await;
    let mut subscriptions = Vec::new();
    for transport in TRANSPORTS {
        let subscriber = client(&daemon, transport).await;
        let options = SubscribeOptions::default();
        subscriptions.push(subscriber.subscribe("demo/*", &options).await.unwrap());
    }
    for (round, transport) in TRANSPORTS.into_iter().enumerate() {
        let publisher = client(&daemon, transport).await;
        let mut pending = Vec::new();
        for n in 1..=1000_u32 {
            pending.push(publisher.send("demo/a", n.to_string()).await.unwrap());
        }
        for (n, receipt) in (1_u64..).zip(pending) {
            let receipt = within(receipt).await.unwrap();
            assert_eq!(receipt.sequence, round as u64 * 1000 + n);
            assert_eq!(receipt.count, round as u64 + 1);
            assert_eq!(receipt.digest, Digest::of(n.to_string().as_bytes()));
            assert!(!receipt.duplicate);
        }
    }
    for subscription in &mut subscriptions {
        let mut epochs = Vec::new();
        for sequence in 1..=3000_u64 {
            let message = message(subscription).await;
            assert_eq!(message.sequence, sequence);
            assert_eq!(message.count, (sequence - 1) / 1000 + 1);
            assert_eq!(message.payload, ((sequence - 1) % 1000 + 1).to_string());
            assert!(message.stamp.is_some());
            epochs.push(message.epoch);
        }
        epochs.dedup();
        assert_eq!(epochs.len(), 1, "one run of sequences");
    }
}

#[tokio::test]
async fn a_latecomer_begins_at_the_requested_start() {
    let daemon = daemon().await;
    for n in 1..=20 {
        daemon.publish("demo/a", n.to_string()).unwrap();
    }
    let client = client(&daemon, TRANSPORTS[0]).await;
    for (start, first) in [
        (Start::Last(10), 11),
        (Start::Latest, 20),
        (Start::All, 1),
        (Start::Sequence(5), 5),
        (Start::New, 21),
    ] {
        let options = SubscribeOptions::from(start);
        let mut subscription = client.subscribe("demo/*", &options).await.unwrap();
        if first == 21 {
            daemon.publish("demo/a", "new").unwrap();
        }
        assert_eq!(message(&mut subscription).await.sequence, first);
    }
}

#[tokio::test]
async fn a_reconnect_misses_and_repeats_nothing() {
    let daemon = daemon().await;
    let mut start = Start::New;
    let mut seen = Vec::new();
    for round in 0..6_u64 {
        let transport = TRANSPORTS[round as usize % 3];
        let client = client(&daemon, transport).await;
        let options = SubscribeOptions::from(start);
        let mut subscription = client.subscribe("chat/**", &options).await.unwrap();
        let topics = ["chat/a", "chat/b", "chat/b/c"];
        for n in 0..9 {
            daemon.publish(topics[n % 3], format!("{round} {n}")).unwrap();
        }
        // Leaves in the middle; the first time before anything has arrived.
        let read = if round == 5 { 54 - seen.len() } else { round as usize * 2 };
        for _ in 0..read {
            seen.push(message(&mut subscription).await.payload);
        }
        start = subscription.resume();
    }
    let all: Vec<_> =
        (0..6).flat_map(|round| (0..9).map(move |n| format!("{round} {n}"))).collect();
    assert_eq!(seen, all);
}

// The daemon ends a session that declares too many topics. The client refuses before that.
#[tokio::test]
async fn one_topic_too_many_is_refused_and_the_session_goes_on() {
    let daemon = daemon().await;
    let client = client(&daemon, TRANSPORTS[0]).await;
    let mut pending = Vec::new();
    for n in 0..weir::wire::MAX_ALIASES {
        pending.push(within(client.send(&format!("many/{n}"), "x")).await.unwrap());
    }
    for receipt in pending {
        within(receipt).await.unwrap();
    }
    let error = client.publish("one/more", "x").await.unwrap_err();
    assert!(error.to_string().contains("4096 topics"), "{error}");
    assert_eq!(within(client.publish("many/0", "x")).await.unwrap().sequence, 2);
}

// In an earlier version two sessions of one builder had the same producer. Both number from 1, so
// publications of the second were taken for duplicates of the first.
#[tokio::test]
async fn sessions_of_one_builder_are_producers_of_their_own() {
    let daemon = daemon().await;
    let trust = weir::Trust::Pinned(daemon.certificate_hash().into());
    let builder = Client::builder(daemon.local_addr().to_string()).trust(trust);
    for sequence in 1..=3 {
        let client = within(builder.clone().connect()).await.unwrap();
        let receipt = within(client.publish("demo/a", "x")).await.unwrap();
        assert_eq!((receipt.sequence, receipt.duplicate), (sequence, false));
    }
}

// In an earlier version a topic without messages during a session was missing from the next resume,
// and was delivered from its beginning again.
#[tokio::test]
async fn a_topic_without_messages_during_a_session_is_not_repeated_after_it() {
    let daemon = daemon().await;
    let client = client(&daemon, TRANSPORTS[0]).await;
    let mut start = Start::All;
    daemon.publish("quiet", "once").unwrap();
    let mut seen = Vec::new();
    for round in 0..4 {
        daemon.publish("busy", round.to_string()).unwrap();
        let options = SubscribeOptions::from(start);
        let mut subscription = client.subscribe("*", &options).await.unwrap();
        for _ in 0..if round == 0 { 2 } else { 1 } {
            seen.push(message(&mut subscription).await.payload);
        }
        start = subscription.resume();
    }
    assert_eq!(seen, ["once", "0", "1", "2", "3"]);
}

#[tokio::test]
async fn binary_and_large_payloads_come_back_unchanged() {
    let daemon = daemon().await;
    let limit = daemon.limits().payload;
    for transport in TRANSPORTS {
        let client = client(&daemon, transport).await;
        let options = SubscribeOptions::default();
        let mut subscription = client.subscribe("big", &options).await.unwrap();
        for size in [0, 1, 255, 4096, 4097, 65_536, 65_537, 1 << 20, limit] {
            let payload: Vec<u8> = (0..size).map(|n| (n * 31 % 251) as u8).collect();
            let receipt = within(client.publish("big", payload.clone())).await.unwrap();
            assert_eq!(receipt.digest, Digest::of(&payload));
            let message = message(&mut subscription).await;
            assert!(message.payload == payload, "{size} bytes are not the same");
            let got = within(client.get("big", Which::Digest(receipt.digest))).await.unwrap();
            assert!(got.payload == payload, "{size} bytes are not the same when asked for");
        }
        let error = client.publish("big", vec![0; limit + 1]).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, PublishError::TooLarge { .. }), "{text}");
        assert!(text.contains(&limit.to_string()), "{text}");
        // The session goes on.
        client.publish("big", "small").await.unwrap();
    }
}

#[tokio::test]
async fn large_payloads_do_not_delay_small_ones() {
    let daemon = daemon().await;
    let client = client(&daemon, TRANSPORTS[0]).await;
    let large = client.send("big", vec![7; 8 << 20]).await.unwrap();
    let small = client.send("small", "x").await.unwrap();
    assert_eq!(within(small).await.unwrap().sequence, 1);
    assert_eq!(within(large).await.unwrap().sequence, 1);
}

#[tokio::test]
async fn evicted_messages_are_reported_as_a_gap() {
    let limits = Limits::default().with_cache(1 << 20).with_payload(64 << 10);
    let daemon = daemon_with(limits).await;
    for n in 0..1000_u32 {
        daemon.publish("flood", [&n.to_le_bytes()[..], &[0; 4096]].concat()).unwrap();
    }
    for transport in TRANSPORTS {
        told_as_a_gap(&client(&daemon, transport).await).await;
    }
}

async fn told_as_a_gap(client: &Client) {
    let mut options = SubscribeOptions::from(Start::Sequence(1));
    let mut subscription = client.subscribe("flood", &options).await.unwrap();
    let missed = gap(&mut subscription).await;
    assert_eq!((missed.first, missed.cause), (1, GapCause::Evicted));
    for sequence in missed.last + 1..=1000 {
        assert_eq!(message(&mut subscription).await.sequence, sequence);
    }
    options.lag = Lag::Newest;
    let mut subscription = client.subscribe("flood", &options).await.unwrap();
    let skipped = gap(&mut subscription).await;
    assert_eq!((skipped.first, skipped.last, skipped.cause), (1, 999, GapCause::Skipped));
    assert_eq!(message(&mut subscription).await.sequence, 1000);

    options.lag = Lag::Disconnect;
    let mut subscription = client.subscribe("flood", &options).await.unwrap();
    match within(subscription.next()).await {
        Some(Err(SubscribeError::Refused(refusal))) => assert_eq!(refusal.code, Code::LAGGED),
        other => panic!("{other:?}"),
    }
    assert!(subscription.next().await.is_none());
    let error = client.get("flood", Which::Sequence(1)).await.unwrap_err();
    assert!(matches!(&error, RequestError::Refused(why) if why.code == Code::EVICTED), "{error}");
}

#[tokio::test]
async fn requests_are_answered() {
    let daemon = daemon().await;
    for payload in ["a", "b", "a", "c", "a", "b"] {
        daemon.publish("votes", payload).unwrap();
    }
    for transport in TRANSPORTS {
        let client = client(&daemon, transport).await;
        let top = within(client.top("votes", 2)).await.unwrap();
        let top: Vec<_> =
            top.iter().map(|entry| (entry.count, entry.payload.clone().unwrap())).collect();
        assert_eq!(top, [(3, "a".into()), (2, "b".into())]);
        assert_eq!(client.get("votes", Which::Latest).await.unwrap().sequence, 6);
        let third = client.get("votes", Which::Sequence(3)).await.unwrap();
        assert_eq!((third.payload, third.count), ("a".into(), 2));
        let by_digest = client.get("votes", Which::Digest(Digest::of(b"a"))).await.unwrap();
        assert_eq!((by_digest.sequence, by_digest.count), (5, 3));
        for (error, code) in [
            (client.get("votes", Which::Sequence(7)).await.unwrap_err(), Code::NOT_FOUND),
            (client.get("none", Which::Latest).await.unwrap_err(), Code::NOT_FOUND),
        ] {
            let why = error.to_string();
            assert!(
                matches!(error, RequestError::Refused(refusal) if refusal.code == code),
                "{why}"
            );
        }
        client.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_session_has_as_many_subscriptions_as_its_limit() {
    let daemon = daemon().await;
    let client = client(&daemon, TRANSPORTS[0]).await;
    let options = SubscribeOptions::default();
    let mut subscriptions = Vec::new();
    for _ in 0..256 {
        subscriptions.push(client.subscribe("demo/**", &options).await.unwrap());
    }
    let error = client.subscribe("demo/**", &options).await.unwrap_err();
    assert!(error.to_string().contains("256"), "{error}");
    daemon.publish("demo/a", "x").unwrap();
    for subscription in &mut subscriptions {
        assert_eq!(message(subscription).await.payload, "x");
    }
    // Dropping one makes room for another.
    subscriptions.pop();
    drop(client.subscribe("demo/**", &options).await.unwrap());
}

// The future was dropped before the answer: by a timeout, or a `select!`.
#[tokio::test]
async fn a_subscription_that_is_dropped_before_its_answer_ends() {
    let daemon = daemon().await;
    for transport in TRANSPORTS {
        let client = client(&daemon, transport).await;
        for delivery in [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime] {
            let options = SubscribeOptions::default().with_delivery(delivery);
            // As many as there is room for. The daemon handles requests in their order.
            for _ in 0..256 {
                assert!(client.subscribe("a", &options).now_or_never().is_none(), "it has to wait");
            }
            let mut second = within(client.subscribe("a", &options)).await.unwrap();
            daemon.publish("a", "x").unwrap();
            assert_eq!(message(&mut second).await.payload, "x");
        }
    }
}

#[tokio::test]
async fn a_daemon_that_is_full_refuses_and_serves_again_when_it_is_not() {
    let listen = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let daemon = Daemon::builder().listen(listen).sessions(1).spawn().await.unwrap();
    let first = client(&daemon, TRANSPORTS[0]).await;
    let trust = weir::Trust::Pinned(daemon.certificate_hash().into());
    let second = Client::builder(daemon.local_addr().to_string()).trust(trust);
    let error = within(second.clone().connect()).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    first.publish("demo/a", "x").await.unwrap();
    first.close().await;
    // The daemon notices the end of the session a moment later.
    within(async { while second.clone().connect().await.is_err() {} }).await;
}

#[tokio::test]
async fn a_daemon_that_stops_says_goodbye_and_leaves_its_port() {
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        let (address, client) = (daemon.local_addr(), client(&daemon, transport).await);
        let options = SubscribeOptions::default();
        let mut subscription = client.subscribe("demo/a", &options).await.unwrap();
        daemon.publish("demo/a", "last words").unwrap();
        assert_eq!(message(&mut subscription).await.payload, "last words");
        within(daemon.shutdown()).await;
        match within(subscription.next()).await {
            Some(Err(SubscribeError::Closed(closed))) => {
                assert_eq!(closed.code, Some(Code::SHUTTING_DOWN), "{closed}");
            }
            other => panic!("{other:?}"),
        }
        let error = client.publish("demo/a", "x").await.unwrap_err();
        assert!(matches!(error, PublishError::Closed(_)), "{error}");
        drop(Daemon::builder().listen(address).spawn().await.unwrap());
    }
}

#[tokio::test]
async fn subscribing_in_process_is_the_same() {
    let daemon = daemon().await;
    daemon.publish("demo/a", "first").unwrap();
    let options = SubscribeOptions::from(Start::All);
    let mut subscription = daemon.subscribe("demo/*", &options).unwrap();
    let client = client(&daemon, TRANSPORTS[1]).await;
    client.publish("demo/b", "second").await.unwrap();
    for (topic, payload) in [("demo/a", "first"), ("demo/b", "second")] {
        match within(subscription.next()).await.unwrap().unwrap() {
            Event::Message(message) => {
                assert_eq!((&*message.topic, &message.payload[..]), (topic, payload.as_bytes()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(daemon.subscribe("a**", &options).is_err());
    assert_eq!(daemon.publish("a/*", "x").unwrap_err().code, Code::BAD_TOPIC);
    assert_eq!(daemon.publish("$weir/x", "x").unwrap_err().code, Code::RESERVED);
}
