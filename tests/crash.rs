//! A daemon that is killed, and one that is stopped, again and again, under traffic: every publication
//! that was acknowledged arrives once and in order at every subscriber, counts are exact, and no
//! sequence ever has two payloads.
//!
//! `WEIR_KILLS=20 WEIR_STOPS=10 cargo test --test crash -- --nocapture` is the long run. The moments of
//! the ends come from a seed, which is printed; `WEIR_SEED` sets it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use weir::wire::{Delivery, GapCause};
use weir::{Client, Event, SubscribeOptions, Transport};

const PUBLISHERS: u64 = 4;

fn serve(state: &Path, port: u16) -> (Child, u16) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["serve", "--http", "off", "--json", "--listen", &format!("127.0.0.1:{port}")])
        .env("WEIR_STATE", state)
        .env("WEIR_DRAIN", "1s")
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address: std::net::SocketAddr = ready["listen"].as_str().unwrap().parse().unwrap();
    (child, address.port())
}

fn end(mut child: Child, signal: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    let status = child.wait().unwrap();
    assert!(signal == "-KILL" || status.success(), "{status}");
}

async fn client(state: &Path, port: u16, transport: Transport) -> Client {
    Client::builder(format!("localhost:{port}"))
        .transport(transport)
        .state(state)
        .connect()
        .await
        .unwrap()
}

/// What one subscriber has of a topic.
#[derive(Debug, Default)]
struct Received {
    // Payloads by sequence. What was lost is taken out again.
    messages: HashMap<u64, (u64, Vec<u8>)>,
    next: u64,
    lost: u64,
    repeated: u64,
    gaps: Vec<String>,
}

type All = Arc<Mutex<HashMap<String, Received>>>;

/// Every payload that was ever shown, by topic, epoch and sequence.
type Shown = Arc<Mutex<HashMap<(String, u64, u64), Vec<u8>>>>;

fn take(event: Event, ordered: bool, all: &All, shown: &Shown) {
    let mut all = all.lock().unwrap();
    match event {
        Event::Message(message) => {
            let topic = message.topic.to_string();
            let payload = message.payload.to_vec();
            let key = (topic.clone(), message.epoch, message.sequence);
            let before = shown.lock().unwrap().insert(key, payload.clone());
            assert!(before.is_none_or(|before| before == payload), "two payloads: {message:?}");
            let received = all.entry(topic).or_default();
            assert!(!ordered || message.sequence >= received.next, "out of order: {message:?}");
            received.next = message.sequence + 1;
            let before = received.messages.insert(message.sequence, (message.epoch, payload));
            // In any order, a client shows the lowest sequence that it misses. Under another epoch it
            // is sent what it has above that once more.
            assert!(!ordered || before.is_none(), "twice: {message:?}");
            received.repeated += u64::from(before.is_some());
        }
        Event::Gap(gap) if gap.cause == GapCause::Lost => {
            let received = all.entry(gap.topic.to_string()).or_default();
            for sequence in gap.first..=gap.last {
                // A message of the new epoch may arrive first, on a stream of its own.
                if received.messages.get(&sequence).is_some_and(|(epoch, _)| *epoch != gap.epoch) {
                    received.messages.remove(&sequence);
                    received.lost += 1;
                }
            }
            received.next = gap.first;
        }
        Event::Gap(gap) => {
            let received = all.entry(gap.topic.to_string()).or_default();
            received.gaps.push(format!("{gap:?}"));
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_every_end() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
    };
    let (kills, stops) = (number("WEIR_KILLS", 3), number("WEIR_STOPS", 1));
    let mut seed = number("WEIR_SEED", rand_seed());
    eprintln!("WEIR_SEED={seed}");
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let state = tempfile::tempdir().unwrap();
    let (mut daemon, port) = serve(state.path(), 0);
    let shown = Shown::default();
    let mut subscribers = Vec::new();
    let modes = [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime];
    for transport in [Transport::Quic, Transport::WebTransport, Transport::WebSocket] {
        for delivery in modes {
            let client = client(state.path(), port, transport).await;
            let options = SubscribeOptions { delivery, ..SubscribeOptions::default() };
            let mut events = client.subscribe("crash/**", &options).await.unwrap();
            let (all, seen) = (All::default(), shown.clone());
            subscribers.push((format!("{transport} {delivery:?}"), all.clone(), client));
            let ordered = delivery == Delivery::Ordered;
            tokio::spawn(async move {
                while let Some(Ok(event)) = events.next().await {
                    take(event, ordered, &all, &seen);
                }
            });
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut publishers = Vec::new();
    for n in 0..PUBLISHERS {
        let client = client(state.path(), port, Transport::Quic).await;
        let stop = stop.clone();
        publishers.push(tokio::spawn(async move {
            let (topic, mut receipts, mut i) = (format!("crash/{n}"), Vec::new(), 0_u64);
            while !stop.load(Ordering::Relaxed) {
                i += 1;
                // Each tenth payload comes again and again, so that it is counted.
                let payload = match i % 10 {
                    0 => "again".to_owned(),
                    _ => format!("{n} {i}"),
                };
                let receipt = client.publish(&topic, payload.clone()).await.unwrap();
                receipts.push((payload, receipt));
                sleep(Duration::from_millis(2)).await;
            }
            receipts
        }));
    }
    for round in 0..kills + stops {
        sleep(Duration::from_millis(200 + random(800))).await;
        end(daemon, if round % (kills + stops) < kills { "-KILL" } else { "-TERM" });
        (daemon, _) = serve(state.path(), port);
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    for (n, publisher) in publishers.into_iter().enumerate() {
        let receipts = timeout(Duration::from_secs(60), publisher).await.unwrap().unwrap();
        let topic = format!("crash/{n}");
        acknowledged += receipts.len();
        let mut again = 0;
        let mut sequences = HashMap::new();
        for (payload, receipt) in &receipts {
            let count = if payload == "again" { again + 1 } else { 1 };
            again += u64::from(payload == "again");
            if receipt.sequence == 0 {
                continue;
            }
            assert_eq!(receipt.count, count, "{topic} {payload}: {receipt:?}");
            let before = sequences.insert(receipt.sequence, payload.clone());
            assert_eq!(before, None, "two receipts for one sequence");
        }
        for (name, all, _) in &subscribers {
            // What was published last is still under way.
            let complete = async {
                while !has_all(all, &topic, &sequences) {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            let arrived = timeout(Duration::from_secs(60), complete).await;
            let all = all.lock().unwrap();
            let received = &all[&topic];
            assert!(arrived.is_ok(), "{name}: {topic}: {:?}", missing(received, &sequences));
            assert!(received.gaps.is_empty(), "{name}: {:?}", received.gaps);
        }
    }
    let (mut lost, mut repeated) = (0, 0);
    for (_, all, _) in &subscribers {
        for one in all.lock().unwrap().values() {
            (lost, repeated) = (lost + one.lost, repeated + one.repeated);
        }
    }
    eprintln!(
        "{kills} kills, {stops} stops: {acknowledged} acknowledged, all of them at {} subscribers; \
         {lost} deliveries of what was not kept, all told as lost; {repeated} repeated in any order",
        subscribers.len()
    );
    end(daemon, "-TERM");
}

fn missing<'a>(
    received: &Received,
    sequences: &'a HashMap<u64, String>,
) -> Vec<(&'a u64, &'a String)> {
    let has = |(sequence, payload): &(&u64, &String)| {
        received.messages.get(sequence).is_some_and(|(_, got)| *got == payload.as_bytes())
    };
    let mut missing: Vec<_> = sequences.iter().filter(|one| !has(one)).collect();
    missing.sort_unstable();
    missing
}

fn has_all(all: &All, topic: &str, sequences: &HashMap<u64, String>) -> bool {
    let all = all.lock().unwrap();
    all.get(topic).is_some_and(|received| missing(received, sequences).is_empty())
}

fn rand_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(()) >> 16
}
