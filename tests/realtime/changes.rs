//! Subscriptions that end, and topics that are forgotten, while messages are in flight.

use crate::common::{daemon, daemon_with, within};
use crate::lossy::{Lossy, ROUGH, Rules};
use crate::tally::{Tally, content, options, publish, pump, through};
use weir::client::SubscribeError;
use weir::engine::Limits;
use weir::wire::{Code, Delivery};
use weir::{SubscribeOptions, Transport};

const BOTH: [Transport; 2] = [Transport::Quic, Transport::WebTransport];

// Datagrams of the first subscription of a session do not name it. This holds after it has ended,
// too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_ends_does_not_affect_the_others() {
    for transport in BOTH {
        let daemon = daemon().await;
        let lossy = Lossy::start(daemon.local_addr(), ROUGH);
        let client = through(&lossy, &daemon, transport).await;
        let realtime = options(Delivery::Realtime);
        let first = client.subscribe("many/*", &realtime).await.unwrap();
        let mut second = client.subscribe("many/a", &realtime).await.unwrap();
        let (mut tally, mut first) = (Tally::default(), Some(first));
        pump(&mut tally, &mut second, 1500, 100, |n| {
            publish(&daemon, "many/a", n, 60);
            // Not read: it is dropped with all the messages in flight to it.
            if n == 500 {
                first = None;
            }
        })
        .await;
        tally.assert_all("many/a", 1500);
        let mut third = client.subscribe("many/*", &realtime).await.unwrap();
        let mut tally = Tally::default();
        drop(second);
        pump(&mut tally, &mut third, 1000, 100, |n| publish(&daemon, "many/b", n, 60)).await;
        tally.assert_all("many/b", 1000);
        assert_eq!(tally.missed, 0);
        assert!(third.stats().datagrams > 500, "{:?}", third.stats());
    }
}

// In an earlier version the client took a refused subscription for the first of the session, whose
// datagrams do not name it. The daemon did not, so the client missed every message.
#[tokio::test]
async fn a_refused_subscription_is_not_the_first() {
    let mut limits = Limits::default();
    limits.subscriptions = 1;
    let daemon = daemon_with(limits).await;
    for transport in BOTH {
        let client = crate::common::client(&daemon, transport).await;
        let ordered = client.subscribe("other", &SubscribeOptions::default()).await.unwrap();
        let realtime = options(Delivery::Realtime);
        let error = client.subscribe("x", &realtime).await.unwrap_err();
        let refused = Code::TOO_MANY_SUBSCRIPTIONS;
        assert!(matches!(&error, SubscribeError::Refused(why) if why.code == refused), "{error}");
        drop(ordered);
        let topic = transport.to_string();
        let mut subscription = client.subscribe(&topic, &realtime).await.unwrap();
        let mut tally = Tally::default();
        pump(&mut tally, &mut subscription, 200, 1, |n| publish(&daemon, &topic, n, 60)).await;
        tally.assert_all(&topic, 200);
        let stats = subscription.stats();
        assert!(stats.datagrams >= 150 && stats.asked < 50, "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_forgotten_begins_anew() {
    let mut limits = Limits::default();
    limits.topics = 1;
    for transport in BOTH {
        let daemon = daemon_with(limits).await;
        let lossy = Lossy::start(daemon.local_addr(), ROUGH);
        let client = through(&lossy, &daemon, transport).await;
        let mut subscription =
            client.subscribe("again", &options(Delivery::Realtime)).await.unwrap();
        let (mut tally, mut epochs) = (Tally::default(), Vec::new());
        for _ in 0..20 {
            for n in 1..=30 {
                publish(&daemon, "again", n, 60);
            }
            let until = tally.total() + 30;
            while tally.total() < until {
                epochs.extend(tally.next(&mut subscription).await.map(|message| message.epoch));
            }
            // This topic takes its place.
            daemon.publish("other", "x").unwrap();
        }
        assert_eq!((tally.messages, tally.missed), (600, 0));
        epochs.sort_unstable();
        epochs.dedup();
        assert_eq!(epochs.len(), 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_and_subscribing_in_one_session_over_a_rough_network() {
    for transport in BOTH {
        let daemon = daemon().await;
        let lossy = Lossy::start(daemon.local_addr(), Rules { loss: 0.3, ..ROUGH });
        let client = through(&lossy, &daemon, transport).await;
        let mut subscription =
            client.subscribe("echo/**", &options(Delivery::Realtime)).await.unwrap();
        let mut tally = Tally::default();
        let mut waiting = Vec::new();
        // Sizes that fit a datagram and sizes that do not. The first of each topic declares it.
        for n in 1..=600_usize {
            let topic = format!("echo/{}", n % 30);
            let payload = content(&topic, n as u64, if n % 9 == 0 { 3000 } else { 40 });
            waiting.push(client.send_realtime(&topic, payload).await.unwrap());
        }
        for accepted in waiting {
            within(accepted).await.unwrap();
        }
        while tally.total() < 600 {
            let event = within(subscription.next()).await.unwrap().unwrap();
            tally.take(event);
        }
        (0..30).for_each(|n| tally.assert_all(&format!("echo/{n}"), 20));
        assert_eq!(tally.missed, 0);
    }
}
