//! Subscribers get a message while it arrives, and delay neither one another nor the publisher.

use crate::common::{Served, TRANSPORTS, daemon, within};
use crate::hand::{Hand, decode};
use crate::{Arriving, CHUNK, MODES, begin, chunks, greet, payload, publish_all, receipt, topic};
use std::net::SocketAddr;
use tokio::task::JoinSet;
use weir::wire::{ClientFrame, Code, DaemonFrame, Delivery, Digest, Start};
use weir::{Event, SubscribeOptions};

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
        let client = crate::common::client(&daemon, transport).await;
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
