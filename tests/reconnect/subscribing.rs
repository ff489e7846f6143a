//! Subscriptions over a link that is cut.

use crate::common::{TRANSPORTS, daemon, message, within};
use crate::link::{Link, Mode};
use crate::{back, interruption, linked, over};
use tokio::time::Instant;
use weir::client::{State, Subscription};
use weir::wire::Delivery;
use weir::{Daemon, Event, Start, SubscribeOptions, Transport};

const MODES: [Delivery; 3] = [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime];

fn publish(daemon: &Daemon, numbers: std::ops::Range<u64>) {
    for n in numbers {
        daemon.publish(["t/a", "t/b", "t/c"][n as usize % 3], n.to_string()).unwrap();
    }
}

// Receives until all numbers below `upto` have arrived, each once. Returns the interruptions.
async fn receive(subscription: &mut Subscription, seen: &mut Vec<u64>, upto: usize) -> usize {
    let mut interruptions = 0;
    while seen.len() < upto {
        match within(subscription.next()).await.unwrap().unwrap() {
            Event::Message(message) => {
                let number = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
                assert!(!seen.contains(&number), "{number} arrived twice");
                seen.push(number);
            }
            Event::Interrupted(_) => interruptions += 1,
            other => panic!("{other:?}"),
        }
    }
    interruptions
}

// `docs/client.md` promises it. The clock is paused, and skips the time.
#[tokio::test]
async fn a_client_that_only_listens_notices_in_time_that_its_daemon_has_vanished() {
    for (transport, most) in TRANSPORTS.into_iter().zip([43, 43, 30]) {
        let daemon = daemon().await;
        let (link, client) = linked(&daemon, transport).await;
        let _subscription = client.subscribe("t/*", &SubscribeOptions::default()).await.unwrap();
        // The client's next packet, from which QUIC counts once more, is 13 s later.
        client.ping().await.unwrap();
        tokio::time::pause();
        let vanished = Instant::now();
        link.set(Mode::Gone);
        let mut states = client.watch_state();
        states.wait_for(|state| !matches!(state, State::Open { .. })).await.unwrap();
        let after = vanished.elapsed().as_secs_f64();
        assert!(after < f64::from(most + 1), "{transport}: after {after} s");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn nothing_is_missed_or_repeated_and_each_interruption_is_told() {
    for transport in TRANSPORTS {
        for delivery in MODES {
            let daemon = daemon().await;
            let (link, client) = linked(&daemon, transport).await;
            let options = SubscribeOptions::from(Start::New).with_delivery(delivery);
            let mut subscription = client.subscribe("t/*", &options).await.unwrap();
            let (mut seen, mut sent) = (Vec::new(), 0);
            for round in 1..=3 {
                publish(&daemon, sent..sent + 40);
                sent += 40;
                // In the middle of what has arrived.
                let upto = seen.len() + 20;
                let told = receive(&mut subscription, &mut seen, upto).await;
                assert_eq!(told, 0, "{transport} {delivery:?}, round {round}");
                link.cut(&client).await;
                publish(&daemon, sent..sent + 10);
                sent += 10;
                link.set(Mode::Pass);
                let told = receive(&mut subscription, &mut seen, sent as usize).await;
                assert_eq!(told, 1, "{transport} {delivery:?}, round {round}");
            }
            if delivery == Delivery::Ordered {
                assert!(seen.is_sorted(), "{transport}: out of order");
            }
        }
    }
}

// Each part arrives again: a large message counts as received at its end.
#[tokio::test]
async fn a_large_message_that_was_cut_arrives_from_its_beginning() {
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        let (link, client) = linked(&daemon, transport).await;
        let options = SubscribeOptions::default();
        let mut subscription = client.subscribe("big", &options).await.unwrap();
        let payload = vec![7; 6 << 20];
        daemon.publish("big", payload.clone()).unwrap();
        // Flow control has stopped it, because nothing was read yet.
        link.cut(&client).await;
        link.set(Mode::Pass);
        interruption(&mut subscription).await;
        assert!(message(&mut subscription).await.payload == payload);
    }
}

#[tokio::test]
async fn a_start_without_a_message_begins_as_the_first_time() {
    use Start::{All, Last, Latest, New, Sequence};
    for (start, expected) in [(Latest, 3), (Last(2), 2), (Sequence(2), 2), (New, 1), (All, 1)] {
        let daemon = daemon().await;
        let (link, client) = linked(&daemon, TRANSPORTS[2]).await;
        let options = SubscribeOptions::from(start.clone());
        let mut subscription = client.subscribe("t/*", &options).await.unwrap();
        for published in [0, 3] {
            link.cut(&client).await;
            for n in 0..published {
                daemon.publish("t/a", n.to_string()).unwrap();
            }
            link.set(Mode::Pass);
            interruption(&mut subscription).await;
            back(&client).await;
            // It subscribes when it is polled, and the daemon answers before it answers the ping.
            tokio::select! {
                biased;
                event = subscription.next(), if published == 0 => panic!("{event:?}"),
                pong = client.ping() => assert!(pong.is_ok()),
            }
        }
        assert_eq!(message(&mut subscription).await.sequence, expected, "{start:?}");
    }
}

#[tokio::test]
async fn a_subscription_that_is_not_read_meanwhile_is_interrupted_once() {
    let daemon = daemon().await;
    let (link, client) = linked(&daemon, TRANSPORTS[2]).await;
    let options = SubscribeOptions::default();
    let mut subscription = client.subscribe("t/*", &options).await.unwrap();
    for _ in 0..3 {
        link.cut(&client).await;
        link.set(Mode::Pass);
        back(&client).await;
    }
    publish(&daemon, 0..3);
    let mut seen = Vec::new();
    assert_eq!(receive(&mut subscription, &mut seen, 3).await, 1);
}

// The network blocks UDP after a while, and later passes it again.
#[tokio::test]
async fn the_next_session_may_have_another_transport() {
    for delivery in MODES {
        let daemon = daemon().await;
        let link = Link::start(daemon.local_addr()).await;
        let client = within(over(&link, &daemon, TRANSPORTS[0]).auto().connect()).await.unwrap();
        let options = SubscribeOptions::default().with_delivery(delivery);
        let mut subscription = client.subscribe("t/*", &options).await.unwrap();
        let (mut seen, mut sent) = (Vec::new(), 0);
        for (mode, transport) in [(Mode::Tcp, Transport::WebSocket), (Mode::Pass, Transport::Quic)]
        {
            publish(&daemon, sent..sent + 40);
            let upto = seen.len() + 20;
            receive(&mut subscription, &mut seen, upto).await;
            link.cut(&client).await;
            publish(&daemon, sent + 40..sent + 60);
            sent += 60;
            link.set(mode);
            back(&client).await;
            assert_eq!(client.transport(), transport, "{delivery:?}");
            assert_eq!(receive(&mut subscription, &mut seen, sent as usize).await, 1);
            within(client.publish("other", "x")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_subscription_that_begins_while_away_waits() {
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        let (link, client) = linked(&daemon, transport).await;
        link.cut(&client).await;
        daemon.publish("t/a", "0").unwrap();
        let options = SubscribeOptions::from(Start::All);
        let subscribing = client.subscribe("t/*", &options);
        link.set(Mode::Pass);
        let mut subscription = within(subscribing).await.unwrap();
        assert_eq!(message(&mut subscription).await.payload, "0");
    }
}
