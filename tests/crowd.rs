//! A crowd of peers that publish, subscribe, drop their sessions and come back. All of them receive
//! everything once and in the same order. With large payloads, which others may overtake while they
//! arrive, the order is the same in each topic.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use bytes::Bytes;
use common::{TRANSPORTS, client, daemon, within};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use weir::{Daemon, Event, Start, SubscribeOptions};

const PEERS: usize = 24;
const EACH: usize = 60;

/// The messages that one peer received: topic, sequence, payload, in the order of arrival.
type View = Vec<(Arc<str>, u64, Bytes)>;

/// Publishes `EACH` messages and reads until it has those of all peers. In between it drops its
/// session without a goodbye, and continues in a new one, on any transport.
async fn peer(
    daemon: Arc<Daemon>,
    accepted: Arc<AtomicUsize>,
    (number, sizes): (usize, [usize; 4]),
    seed: u64,
) -> View {
    let mut random = StdRng::seed_from_u64(seed ^ (number as u64) << 32);
    let (mut view, mut start, mut published) = (View::new(), Start::All, 0);
    while view.len() < PEERS * EACH {
        let client = client(&daemon, TRANSPORTS[random.random_range(0..3)]).await;
        let options = SubscribeOptions::from(start);
        let mut subscription = within(client.subscribe("crowd/**", &options)).await.unwrap();
        let steps = random.random_range(20..400);
        for _ in 0..steps {
            // A peer that has received everything publishes next, because there is nothing to wait
            // for.
            let all_seen = view.len() >= accepted.load(Relaxed);
            if published < EACH && (all_seen || random.random_bool(0.3)) {
                let topic = TOPICS[random.random_range(0..4)];
                let size = sizes[random.random_range(0..4)];
                let mut payload = vec![number as u8; size];
                payload[..8].copy_from_slice(&(published as u64).to_le_bytes());
                // Waits for the receipt: a publication in flight when the session is dropped may or
                // may not have been counted.
                within(client.publish(topic, payload)).await.unwrap();
                published += 1;
                accepted.fetch_add(1, Relaxed);
            } else if view.len() == PEERS * EACH {
                break;
            } else {
                match within(subscription.next()).await.unwrap().unwrap() {
                    Event::Message(message) => {
                        view.push((message.topic, message.sequence, message.payload));
                    }
                    other => panic!("{other:?}"),
                }
            }
            if published == EACH && view.len() == PEERS * EACH {
                break;
            }
        }
        start = subscription.resume();
    }
    view
}

const TOPICS: [&str; 4] = ["crowd/a", "crowd/b", "crowd/b/c", "crowd/d"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_see_everything_once_and_in_one_order() {
    let (seed, views) = crowd([8, 100, 3000, 65_536]).await;
    agree(seed, &views);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_see_large_ones_once_and_each_topic_in_one_order() {
    let (seed, views) = crowd([8, 100, 3000, 70_000]).await;
    for topic in TOPICS {
        let of = |view: &View| view.iter().filter(|(of, _, _)| **of == *topic).cloned().collect();
        agree(seed, &views.iter().map(of).collect::<Vec<View>>());
    }
}

fn agree(seed: u64, views: &[View]) {
    let (first, others) = views.split_first().unwrap();
    for (number, view) in others.iter().enumerate() {
        let differ = first.iter().zip(view).position(|(a, b)| a != b);
        assert_eq!(differ, None, "seed {seed}: peers 0 and {} see another order", number + 1);
        assert_eq!(view.len(), first.len());
    }
}

async fn crowd(sizes: [usize; 4]) -> (u64, Vec<View>) {
    let seed =
        std::env::var("WEIR_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("WEIR_SEED={seed}");
    let daemon = Arc::new(daemon().await);
    let accepted = Arc::new(AtomicUsize::new(0));
    let peers: Vec<_> = (0..PEERS)
        .map(|number| tokio::spawn(peer(daemon.clone(), accepted.clone(), (number, sizes), seed)))
        .collect();
    let mut views = Vec::new();
    for peer in peers {
        views.push(within(peer).await.unwrap());
    }
    let first = &views[0];
    let mut all: Vec<_> = first.iter().map(|(topic, sequence, _)| (topic, sequence)).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), PEERS * EACH, "seed {seed}: something arrived twice");
    for topic in TOPICS {
        let sequences: Vec<_> = all.iter().filter(|(name, _)| &***name == topic).collect();
        assert!(sequences.iter().zip(1..).all(|((_, sequence), n)| **sequence == n));
    }
    (seed, views)
}
