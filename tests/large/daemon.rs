//! The same with a real daemon.

use crate::common::{TRANSPORTS, client, daemon, message, within};
use crate::raw::{Raw, encoded};
use crate::{CHUNK, payload};
use bytes::Bytes;
use weir::wire::{ClientFrame, Delivery, Digest, GapCause, Which};
use weir::{Event, Gap, Start, SubscribeOptions};

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
            let options = |start| SubscribeOptions::from(start).with_delivery(delivery);
            let mut live = subscriber.subscribe(&topic, &options(Start::New)).await.unwrap();
            let sent = publisher.send(&topic, large.clone()).await.unwrap();
            let received = message(&mut live).await;
            assert!(received.payload == large, "{transport} {delivery:?}");
            let receipt = within(sent).await.unwrap();
            assert_eq!((received.sequence, received.count), (receipt.sequence, receipt.count));
            assert_eq!(
                (received.digest(), receipt.digest),
                (Digest::of(&large), Digest::of(&large))
            );
            // Late subscribers, when the message is complete.
            let mut late = subscriber.subscribe(&topic, &options(Start::All)).await.unwrap();
            assert!(message(&mut late).await == received);
            assert!(within(subscriber.get(&topic, Which::Latest)).await.unwrap() == received);
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
            let options = SubscribeOptions::default().with_delivery(delivery);
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
        let received = message(&mut slow).await;
        assert_eq!(
            (&*received.topic, received.payload[0], received.payload.len()),
            ("demo/large", n, 3 << 20)
        );
        assert!(received.payload[1..] == large[1..]);
        let received = message(&mut slow).await;
        assert_eq!((&*received.topic, received.payload[0]), ("demo/small", n));
    }
    daemon.shutdown().await;
}
