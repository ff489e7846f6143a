//! Relaying beside a journal: one publisher and ten subscribers over QUIC.

use super::{SETTINGS, TURN, daemon, directory, median, payload, quantile, rounds};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use weir::client::Reconnect;
use weir::daemon::JournalSync;
use weir::{Client, Event, SubscribeOptions, Trust};

/// Subscribers, and publications a second.
const SUBSCRIBERS: usize = 10;
const RATE: u64 = 1000;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

// Returns the times from publishing to arrival, sorted.
async fn turn(sync: Option<JournalSync>) -> Vec<Duration> {
    let state = directory();
    let daemon = daemon(&state, sync, 64 << 20).await;
    let address = daemon.local_addr();
    let server = format!("localhost:{}", address.port());
    let hash = daemon.certificate_hash();
    let connect = || {
        let client = Client::builder(&server).trust(Trust::Pinned(hash.into()));
        // So that subscriptions end with the daemon.
        client.reconnect(Reconnect::never()).connect()
    };
    let subscriber = connect().await.unwrap();
    let mut arrivals = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let mut events =
            subscriber.subscribe("bench/a", &SubscribeOptions::default()).await.unwrap();
        arrivals.push(tokio::spawn(async move {
            let mut times = Vec::new();
            while let Some(Ok(event)) = events.next().await {
                if let Event::Message(message) = event {
                    let stamp = message.stamp.unwrap_or_default();
                    times.push(Duration::from_micros(now().saturating_sub(stamp)));
                }
            }
            times
        }));
    }
    let publisher = connect().await.unwrap();
    let (start, mut n) = (Instant::now(), 0);
    while start.elapsed() < TURN {
        n += 1;
        drop(publisher.send("bench/a", payload(0, n)).await.unwrap());
        let due = start + Duration::from_micros(n * 1_000_000 / RATE);
        tokio::time::sleep_until(due.into()).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    daemon.shutdown().await;
    let mut all = Vec::new();
    for arrivals in arrivals {
        all.extend(arrivals.await.unwrap());
    }
    all.sort_unstable();
    all
}

pub(super) async fn run() {
    println!("\n1 publisher at {RATE} Hz, {SUBSCRIBERS} subscribers over QUIC, to arrival:");
    println!("{:8} {:>12} {:>12} {:>16}", "sync", "p50", "p99", "p99 of none");
    let mut all = vec![(Vec::new(), Vec::new()); SETTINGS.len()];
    for _ in 0..rounds() {
        for (n, (_, sync)) in SETTINGS.iter().enumerate() {
            let times = turn(*sync).await;
            let ms = |q| quantile(&times, q).as_secs_f64() * 1e3;
            all[n].0.push(ms(0.5));
            all[n].1.push(ms(0.99));
        }
    }
    let none = all[0].1.clone();
    for ((name, _), (p50, p99)) in SETTINGS.iter().zip(all) {
        // Of the two that were measured one after the other.
        let ratios = p99.iter().zip(&none).map(|(one, none)| one / none).collect();
        let [p50, p99, ratio] = [p50, p99, ratios].map(median);
        println!("{name:8} {p50:>9.3} ms {p99:>9.3} ms {ratio:>16.2}");
    }
}
