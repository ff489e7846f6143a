//! Publishers, subscribers, and servers and daemons that are killed: in the end everything that was
//! acknowledged is at all daemons, once, and in one order.
//!
//! A failure prints its seed; `WEIR_SEED` takes it, and `WEIR_CLUSTER_SECONDS` is how long it goes on.

use super::common::within;
use super::server::Server;
use super::{daemon, until_published};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use weir::client::Reconnect;
use weir::{Client, Daemon, Event, Start, SubscribeOptions, Transport, Trust};

const TOPICS: usize = 4;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn topic(n: u64) -> String {
    format!("t/{}", n % TOPICS as u64)
}

/// Every payload is another one.
fn payload(publisher: u64, n: u64) -> Bytes {
    let mut text = format!("{publisher} {n} ").into_bytes();
    if n % 40 == 7 {
        text.resize(100_000, b'.');
    }
    text.into()
}

#[derive(Default)]
struct Said {
    // Topic and sequence, by payload.
    acknowledged: HashMap<Bytes, (String, u64)>,
    // It is not known whether these were accepted.
    unknown: HashSet<Bytes>,
}

async fn publish(
    address: String,
    trust: Trust,
    publisher: u64,
    (seed, stop): (u64, Arc<AtomicBool>),
) -> Said {
    let transport = [Transport::Quic, Transport::WebTransport, Transport::WebSocket];
    let soon = Reconnect::default().pauses(Duration::from_millis(20), Duration::from_millis(200));
    let builder =
        Client::builder(address).transport(transport[publisher as usize % 3]).trust(trust);
    let client = within(builder.reconnect(soon).connect()).await.unwrap();
    let (mut random, mut said) = (Random(seed), Said::default());
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (topic, payload) = (topic(random.below(TOPICS as u64)), payload(publisher, n));
        match within(client.publish(&topic, payload.clone())).await {
            Ok(receipt) => {
                assert_eq!(receipt.count, 1, "{payload:?}");
                said.acknowledged.insert(payload, (topic, receipt.sequence));
            }
            Err(_) => {
                said.unknown.insert(payload);
                sleep(Duration::from_millis(100)).await;
            }
        }
        sleep(Duration::from_millis(1 + random.below(8))).await;
    }
    said
}

/// What a daemon has delivered: payloads, by topic and sequence.
type Seen = BTreeMap<(String, u64), Bytes>;

// Reads everything that a daemon has, until there is a last message in each topic.
async fn read(daemon: &Daemon) -> Seen {
    let options = SubscribeOptions::from(Start::All);
    let mut subscription = daemon.subscribe("t/*", &options).unwrap();
    let (mut seen, mut last) = (Seen::new(), 0);
    while last < TOPICS {
        match within(subscription.next()).await.unwrap().unwrap() {
            Event::Message(message) => {
                last += usize::from(message.payload == "last");
                let place = (message.topic.to_string(), message.sequence);
                assert!(seen.insert(place.clone(), message.payload).is_none(), "{place:?} twice");
            }
            other => panic!("{other:?}"),
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_at_all_daemons_once_and_in_one_order() {
    let seed = number("WEIR_SEED").unwrap_or_else(rand::random);
    let seconds = number("WEIR_CLUSTER_SECONDS").unwrap_or(20);
    eprintln!("to see this again: WEIR_SEED={seed} tests/cluster/run.sh what_is_acknowledged");
    let mut random = Random(seed);
    let mut servers = Server::cluster();
    let mut daemons = Vec::new();
    for _ in 0..3 {
        daemons.push(daemon(&servers).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..6 {
        // The third daemon is for those who read, and is stopped and started again.
        let at = &daemons[publisher as usize % 2];
        let (address, hash) = (at.local_addr().to_string(), at.certificate_hash());
        let of = (seed ^ publisher, stop.clone());
        publishers.spawn(publish(address, Trust::Pinned(hash.into()), publisher, of));
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut down: Option<usize> = None;
    let mut happened = Vec::new();
    while Instant::now() < until {
        sleep(Duration::from_millis(500 + random.below(2500))).await;
        match (down, random.below(4)) {
            (Some(at), _) => {
                servers[at].again();
                down = None;
            }
            (None, 0) => {
                daemons.pop().unwrap().shutdown().await;
                daemons.push(daemon(&servers).await);
                happened.push("daemon".into());
            }
            (None, _) => {
                let at = random.below(3) as usize;
                servers[at].kill();
                happened.push(format!("server {at}"));
                down = Some(at);
            }
        }
    }
    if let Some(at) = down {
        servers[at].again();
    }
    stop.store(true, Ordering::Relaxed);
    let mut all = Said::default();
    while let Some(said) = publishers.join_next().await {
        let said = said.unwrap();
        all.acknowledged.extend(said.acknowledged);
        all.unknown.extend(said.unknown);
    }
    for daemon in &daemons {
        until_published(daemon, None).await;
    }
    for n in 0..TOPICS {
        while within(daemons[0].publish_kept(&topic(n as u64), "last")).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    }
    let mut views = Vec::new();
    for daemon in &daemons {
        views.push(read(daemon).await);
    }
    let seen = &views[0];
    eprintln!(
        "{} acknowledged, {} unknown, {} delivered; stopped: {}",
        all.acknowledged.len(),
        all.unknown.len(),
        seen.len(),
        happened.join(", ")
    );
    for (at, view) in views.iter().enumerate().skip(1) {
        assert_eq!(view.len(), seen.len(), "daemon {at}");
        assert!(view == seen, "daemon {at} has another order");
    }
    // Sequences have no holes, and each payload has one.
    let (mut before, mut places) = (("", 0), HashMap::new());
    for ((topic, sequence), payload) in seen {
        let expected = if before.0 == topic { before.1 + 1 } else { 1 };
        assert_eq!(*sequence, expected, "{topic}");
        before = (topic, *sequence);
        if payload != "last" {
            let place = (topic.clone(), *sequence);
            assert!(places.insert(payload.clone(), place).is_none(), "{payload:?} twice");
        }
    }
    for (payload, place) in &all.acknowledged {
        assert_eq!(places.get(payload), Some(place), "{payload:?} was acknowledged");
    }
    for payload in places.keys() {
        let known = all.acknowledged.contains_key(payload) || all.unknown.contains(payload);
        assert!(known, "{payload:?} was never published");
    }
    assert!(all.acknowledged.len() > 100 && !happened.is_empty());
}
