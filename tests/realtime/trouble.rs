//! Networks that almost fail, readers that pause, and caches that are too small.

use crate::common::{client, daemon, daemon_with, within};
use crate::lossy::{CLEAN, DEAD, Lossy, ROUGH, Rules};
use crate::tally::{Tally, content, options, publish, pump, through};
use std::time::Duration;
use weir::engine::Limits;
use weir::wire::{Delivery, GapCause};
use weir::{Daemon, Start, SubscribeOptions, Transport};

const BOTH: [Transport; 2] = [Transport::Quic, Transport::WebTransport];

// Receives everything over a network without loss. When it has, the daemon has sent everything.
async fn witness(daemon: &Daemon, topic: &str, total: u64, publish: impl FnMut(u64)) {
    let witness = client(daemon, Transport::Quic).await;
    let mut subscription = witness.subscribe(topic, &options(Delivery::Ordered)).await.unwrap();
    let mut tally = Tally::default();
    pump(&mut tally, &mut subscription, total, 200, publish).await;
    assert_eq!(tally.missed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_almost_fails_and_recovers() {
    for transport in BOTH {
        for delivery in [Delivery::Realtime, Delivery::Unordered] {
            let daemon = daemon().await;
            let lossy = Lossy::start(daemon.local_addr(), CLEAN);
            let client = through(&lossy, &daemon, transport).await;
            let mut subscription = client.subscribe("bad", &options(delivery)).await.unwrap();
            let mut tally = Tally::default();
            let failing = Rules { loss: 0.3, burst: 3.0, ..ROUGH };
            pump(&mut tally, &mut subscription, 1500, 50, |n| {
                let _ = lossy.set(if (200..700).contains(&n) { failing } else { CLEAN });
                publish(&daemon, "bad", n, 100);
            })
            .await;
            tally.assert_all("bad", 1500);
            assert_eq!(tally.missed, 0);
        }
    }
}

// More messages than the client queues: the client discards the rest, and requests it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_pauses_gets_everything_afterwards() {
    const MESSAGES: u64 = 10_000;
    for transport in BOTH {
        let daemon = daemon().await;
        let lossy =
            Lossy::start(daemon.local_addr(), Rules { delay: Duration::from_millis(1), ..CLEAN });
        let client = through(&lossy, &daemon, transport).await;
        let mut subscription =
            client.subscribe("rest", &options(Delivery::Realtime)).await.unwrap();
        let mut tally = Tally::default();
        publish(&daemon, "rest", 1, 100);
        tally.until(&mut subscription, 1).await;
        witness(&daemon, "rest", MESSAGES - 1, |n| publish(&daemon, "rest", n + 1, 100)).await;
        tally.until(&mut subscription, MESSAGES).await;
        tally.assert_all("rest", MESSAGES);
        assert_eq!(tally.missed, 0);
        println!("{transport} {:?}", subscription.stats());
        assert!(subscription.stats().datagrams < MESSAGES, "nothing was dropped");
        // Then it receives new messages again.
        let before = subscription.stats().datagrams;
        pump(&mut tally, &mut subscription, 100, 1, |n| {
            publish(&daemon, "rest", MESSAGES + n, 100);
        })
        .await;
        assert!(subscription.stats().datagrams > before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_evicted_before_their_repair_are_reported() {
    const MESSAGES: u64 = 10_000;
    let limits = Limits::default().with_cache(1 << 20);
    for transport in BOTH {
        let daemon = daemon_with(limits).await;
        let lossy = Lossy::start(daemon.local_addr(), ROUGH);
        let client = through(&lossy, &daemon, transport).await;
        let mut subscription =
            client.subscribe("small", &options(Delivery::Realtime)).await.unwrap();
        let mut tally = Tally::default();
        publish(&daemon, "small", 1, 200);
        tally.until(&mut subscription, 1).await;
        witness(&daemon, "small", MESSAGES - 1, |n| publish(&daemon, "small", n + 1, 200)).await;
        tally.until(&mut subscription, MESSAGES).await;
        tally.assert_all("small", MESSAGES);
        println!("{transport}: {} arrived, {} missed", tally.messages, tally.missed);
        assert!(tally.missed > 0 && tally.messages > 1000);
        assert_eq!(tally.causes(), [GapCause::Evicted]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_past_their_deadline_are_reported_and_none_is_lost_silently() {
    for transport in BOTH {
        let daemon = daemon().await;
        let lossy = Lossy::start(daemon.local_addr(), Rules { loss: 0.2, burst: 2.0, ..CLEAN });
        let client = through(&lossy, &daemon, transport).await;
        // Shorter than one repair takes.
        let deadline = Some(Duration::from_millis(12));
        let hurried = options(Delivery::Realtime).with_deadline(deadline);
        let mut subscription = client.subscribe("late", &hurried).await.unwrap();
        let mut tally = Tally::default();
        pump(&mut tally, &mut subscription, 2000, 50, |n| publish(&daemon, "late", n, 100)).await;
        tally.assert_all("late", 2000);
        println!(
            "{transport}: {} arrived, {} late; {:?}",
            tally.messages,
            tally.missed,
            subscription.stats()
        );
        assert!(tally.missed > 0 && tally.messages > 500);
        assert_eq!(tally.causes(), [GapCause::Late]);
        // A subscriber without a deadline gets everything.
        let patient = SubscribeOptions::from(Start::All).with_delivery(Delivery::Realtime);
        let mut subscription = client.subscribe("late", &patient).await.unwrap();
        let mut tally = Tally::default();
        tally.until(&mut subscription, 2000).await;
        assert_eq!(tally.missed, 0);
    }
}

// A reader that pauses for longer than the deadline: the daemon skips the messages that it has not
// sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_pauses_past_the_deadline_gets_gaps_on_every_transport() {
    for transport in crate::common::TRANSPORTS {
        let daemon = daemon().await;
        let client = client(&daemon, transport).await;
        let deadline = Some(Duration::from_millis(1));
        let hurried = options(Delivery::Realtime).with_deadline(deadline);
        let mut subscription = client.subscribe("late", &hurried).await.unwrap();
        // Far more than may be in flight, 5 KB each, so that they go on streams.
        witness(&daemon, "late", 3000, |n| publish(&daemon, "late", n, 5000)).await;
        let mut tally = Tally::default();
        tally.until(&mut subscription, 3000).await;
        tally.assert_all("late", 3000);
        println!("{transport}: {} arrived, {} late", tally.messages, tally.missed);
        assert!(tally.missed > 0 && tally.causes() == [GapCause::Late]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_with_holes_and_resumed_nothing_is_missed_or_repeated() {
    let daemon = daemon().await;
    let lossy = Lossy::start(daemon.local_addr(), Rules { loss: 0.15, ..ROUGH });
    let topics = ["on/a", "on/b"];
    let (mut tally, mut start, mut published) = (Tally::default(), Start::New, 0_u64);
    let modes = [Delivery::Realtime, Delivery::Realtime, Delivery::Ordered, Delivery::Unordered];
    for round in 0..12 {
        let transport = BOTH[round / 2 % 2];
        let client = through(&lossy, &daemon, transport).await;
        let resumed = SubscribeOptions::from(start).with_delivery(modes[round % 4]);
        let mut subscription = client.subscribe("on/*", &resumed).await.unwrap();
        for _ in 0..300 {
            published += 1;
            publish(&daemon, topics[published as usize % 2], published.div_ceil(2), 80);
        }
        // Leaves in the middle, with a hundred messages to come.
        let most = if round == 11 { published } else { published - 100 };
        while tally.total() < most {
            tally.next(&mut subscription).await;
        }
        start = subscription.resume();
    }
    topics.iter().for_each(|topic| tally.assert_all(topic, published / 2));
    assert_eq!((tally.missed, tally.messages), (0, 3600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_subscriber_wakes_up_to_the_first_message_in_a_while() {
    let daemon = daemon().await;
    let lossy = Lossy::start(daemon.local_addr(), ROUGH);
    let client = through(&lossy, &daemon, Transport::Quic).await;
    let mut subscription = client.subscribe("idle", &options(Delivery::Realtime)).await.unwrap();
    let mut tally = Tally::default();
    for n in 1..=20 {
        let publisher = through(&lossy, &daemon, BOTH[n as usize % 2]).await;
        let accepted = publisher.send_realtime("idle", content("idle", n, 30)).await.unwrap();
        within(accepted).await.unwrap();
        tally.until(&mut subscription, n).await;
    }
    tally.assert_all("idle", 20);
}

// The last message and its repeat are lost, on a path that has lost nothing before, and no later
// message shows it. The daemon sends a head soon, and not only when it sends those of messages that
// arrived. On a busy machine this must succeed at least once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_a_lone_last_message_is_noticed() {
    for transport in BOTH {
        let daemon = daemon().await;
        let lossy = Lossy::start(daemon.local_addr(), CLEAN);
        let mut soon = false;
        for round in 0..20 {
            let topic = format!("last/{round}");
            let client = through(&lossy, &daemon, transport).await;
            let mut subscription =
                client.subscribe(&topic, &options(Delivery::Realtime)).await.unwrap();
            let mut tally = Tally::default();
            for n in 1..=3 {
                publish(&daemon, &topic, n, 100);
                tally.until(&mut subscription, n).await;
                // Long enough for the message to stand alone, and for the topic to be known.
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            let (_, lost) = lossy.counts();
            let _ = lossy.set(DEAD);
            publish(&daemon, &topic, 4, 100);
            while lossy.counts().1 < lost + 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let _ = lossy.set(CLEAN);
            let begun = std::time::Instant::now();
            tally.until(&mut subscription, 4).await;
            assert_eq!((tally.messages, tally.missed), (4, 0));
            soon |= begun.elapsed() < Duration::from_secs(1);
            if soon && round >= 2 {
                break;
            }
        }
        assert!(soon, "the head was sent as late as for a message that arrived");
    }
}
