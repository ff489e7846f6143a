//! The guarantees of each mode, on each transport that has datagrams.

use crate::common::{TRANSPORTS, daemon, within};
use crate::lossy::{CLEAN, DEAD, Lossy, ROUGH};
use crate::tally::{Tally, content, options, publish, pump, through};
use std::collections::BTreeMap;
use weir::client::SubscribeError;
use weir::wire::Delivery;
use weir::{Event, Transport};

const MODES: [Delivery; 3] = [Delivery::Realtime, Delivery::Unordered, Delivery::Ordered];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_once_over_a_rough_network() {
    for transport in [Transport::Quic, Transport::WebTransport] {
        for delivery in MODES {
            let daemon = daemon().await;
            let lossy = Lossy::start(daemon.local_addr(), ROUGH);
            let client = through(&lossy, &daemon, transport).await;
            let mut subscription = client.subscribe("rt/*", &options(delivery)).await.unwrap();
            let (mut tally, topics) = (Tally::default(), ["rt/a", "rt/b", "rt/c"]);
            let begun = std::time::Instant::now();
            pump(&mut tally, &mut subscription, 3000, 100, |n| {
                publish(&daemon, topics[n as usize % 3], n.div_ceil(3), 20 + n as usize % 300);
            })
            .await;
            topics.iter().for_each(|topic| tally.assert_all(topic, 1000));
            assert_eq!(tally.missed, 0);
            let stats = subscription.stats();
            println!("{transport} {delivery:?} {:?} {stats:?}", begun.elapsed());
            match (delivery, transport) {
                (Delivery::Ordered, _) | (Delivery::Unordered, Transport::Quic) => {
                    assert_eq!((stats.datagrams, stats.asked), (0, 0), "streams need none");
                }
                _ => {
                    assert!(stats.datagrams > 1500, "hardly any datagrams: {stats:?}");
                    assert!(stats.repeated > 100 && stats.asked > 10 && stats.repaired > 10);
                }
            }
        }
    }
}

#[tokio::test]
async fn over_websocket_all_modes_come_in_order() {
    let daemon = daemon().await;
    let client = crate::common::client(&daemon, TRANSPORTS[2]).await;
    for (n, delivery) in MODES.into_iter().enumerate() {
        let topic = format!("ws/{n}");
        let mut subscription = client.subscribe(&topic, &options(delivery)).await.unwrap();
        (1..=500).for_each(|n| publish(&daemon, &topic, n, 100));
        let mut tally = Tally::default();
        for sequence in 1..=500 {
            assert_eq!(tally.next(&mut subscription).await.unwrap().sequence, sequence);
        }
        // Over WebSocket, publications in datagrams go on the channel.
        let accepted = client.send_realtime(&topic, content(&topic, 501, 50)).await.unwrap();
        within(accepted).await.unwrap();
        assert_eq!(tally.next(&mut subscription).await.unwrap().sequence, 501);
    }
}

// A large payload needs many round trips, a small one a single packet. All of them are published
// before any gets through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_payloads_delay_no_small_ones() {
    const LARGE: usize = 1 << 20;
    for transport in [Transport::Quic, Transport::WebTransport] {
        for delivery in [Delivery::Realtime, Delivery::Unordered] {
            let daemon = daemon().await;
            let lossy = Lossy::start(daemon.local_addr(), CLEAN);
            let client = through(&lossy, &daemon, transport).await;
            let mut subscription = client.subscribe("mixed", &options(delivery)).await.unwrap();
            // More large payloads than may be in flight at once, and small ones behind them.
            let mut sizes = vec![LARGE; 7];
            sizes.extend([50, 100, 5000, 50].repeat(5));
            lossy.set(DEAD);
            for (n, size) in (1..).zip(&sizes) {
                publish(&daemon, "mixed", n, *size);
            }
            lossy.set(CLEAN);
            let (mut tally, mut order) = (Tally::default(), Vec::new());
            while tally.total() < sizes.len() as u64 {
                order.push(tally.next(&mut subscription).await.unwrap().payload.len());
            }
            let first_large = order.iter().position(|size| *size == LARGE).unwrap();
            assert_eq!(first_large, 20, "{transport} {delivery:?}: {order:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_sizes_all_come_once_over_a_rough_network() {
    for transport in [Transport::Quic, Transport::WebTransport] {
        for delivery in [Delivery::Realtime, Delivery::Unordered] {
            let daemon = daemon().await;
            let lossy = Lossy::start(daemon.local_addr(), ROUGH);
            let client = through(&lossy, &daemon, transport).await;
            let mut subscription = client.subscribe("mixed", &options(delivery)).await.unwrap();
            let mut tally = Tally::default();
            pump(&mut tally, &mut subscription, 120, 40, |n| {
                let size = match n {
                    77 => 2 << 20,
                    n if n % 20 == 3 => 100_000,
                    n if n % 4 == 1 => 5000,
                    _ => 50,
                };
                publish(&daemon, "mixed", n, size);
            })
            .await;
            tally.assert_all("mixed", 120);
            assert_eq!(tally.missed, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_topics_and_new_ones() {
    let daemon = daemon().await;
    let lossy = Lossy::start(daemon.local_addr(), ROUGH);
    for transport in [Transport::Quic, Transport::WebTransport] {
        let client = through(&lossy, &daemon, transport).await;
        let filter = format!("{transport}/**");
        let topic = |n: u64| format!("{transport}/topic/{n}");
        (0..100).for_each(|n| publish(&daemon, &topic(n), 1, 60));
        let mut subscription =
            client.subscribe(&filter, &options(Delivery::Realtime)).await.unwrap();
        // Half of the topics begin now; the others go on with their second message.
        let (mut tally, mut last) = (Tally::default(), BTreeMap::new());
        last.extend((0..100).map(|n| (n, 1)));
        pump(&mut tally, &mut subscription, 2000, 100, |n| {
            let number = n * 7919 % 200;
            let next = last.entry(number).or_insert(0);
            *next += 1;
            publish(&daemon, &topic(number), *next, 60);
        })
        .await;
        assert_eq!((last.len(), tally.missed), (200, 0));
        assert_eq!(last.values().sum::<u64>(), 2100);
    }
}

// The only message of a topic: no later message shows the hole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_a_topics_only_message_is_noticed() {
    let daemon = daemon().await;
    let lossy = Lossy::start(daemon.local_addr(), crate::lossy::Rules { loss: 0.3, ..CLEAN });
    let client = through(&lossy, &daemon, Transport::Quic).await;
    let mut subscription = client.subscribe("tail/*", &options(Delivery::Realtime)).await.unwrap();
    let mut tally = Tally::default();
    for n in 1..=50 {
        publish(&daemon, &format!("tail/{n}"), 1, 50);
        publish(&daemon, "tail/same", n, 50);
        publish(&daemon, "tail/same/not", n, 50);
        tally.until(&mut subscription, 2 * n).await;
    }
    assert_eq!(tally.missed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_of_one_session_share_its_datagrams() {
    for transport in [Transport::Quic, Transport::WebTransport] {
        let daemon = daemon().await;
        let lossy = Lossy::start(daemon.local_addr(), ROUGH);
        let client = through(&lossy, &daemon, transport).await;
        let realtime = options(Delivery::Realtime);
        let mut first = client.subscribe("both/*", &realtime).await.unwrap();
        let mut second = client.subscribe("both/b", &realtime).await.unwrap();
        let mut third = client.subscribe("**", &options(Delivery::Unordered)).await.unwrap();
        let mut tallies = [Tally::default(), Tally::default(), Tally::default()];
        let totals = [2000, 1000, 2000];
        let mut published = 0;
        loop {
            let done = tallies[0].total().min(tallies[1].total() * 2).min(tallies[2].total());
            while published < 2000 && published < done + 100 {
                published += 1;
                let topic = if published % 2 == 0 { "both/b" } else { "both/a" };
                publish(&daemon, topic, u64::midpoint(published, 1), 50);
            }
            let [a, b, c] = &mut tallies;
            if (a.total(), b.total(), c.total()) == totals.into() {
                break;
            }
            let take = |tally: &mut Tally, event: Option<Result<Event, SubscribeError>>| {
                tally.event(event.unwrap().unwrap());
            };
            within(async {
                tokio::select! {
                    event = first.next() => take(a, event),
                    event = second.next() => take(b, event),
                    event = third.next() => take(c, event),
                }
            })
            .await;
        }
        tallies[0].assert_all("both/a", 1000);
        tallies[1].assert_all("both/b", 1000);
        tallies[2].assert_all("both/b", 1000);
        assert_eq!(tallies.iter().map(|tally| tally.missed).sum::<u64>(), 0);
        assert!(first.stats().datagrams > 1000 && second.stats().datagrams > 500);
    }
}
