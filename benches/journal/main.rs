//! What the journal costs: receipts a second, the time to a receipt, relaying beside it, starting
//! with a full cache, bytes on the disk. `cargo bench --bench journal` prints the tables of
//! `docs/benchmarks.md`.
//!
//! Everything is in one process: the daemon, publishers that call it, and clients over QUIC on
//! loopback. Settings take turns, and medians over the rounds count, so that other work of the
//! machine concerns all of them alike. `WEIR_ROUNDS` sets the number of rounds, `WEIR_DIR` the
//! directory of the files, `WEIR_ONLY`
//! one of the tables: `receipts`, `truncation`, `relaying`, `restart`, `handover`.
#![allow(missing_docs, clippy::unwrap_used)]
// Figures for a table.
#![allow(clippy::cast_precision_loss, clippy::cast_sign_loss)]

mod handover;
mod relaying;
mod restart;
mod truncation;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use weir::Daemon;
use weir::daemon::{JournalOptions, JournalSync};
use weir::engine::Limits;

// The allocator of the daemon.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The settings that are compared.
const SETTINGS: [(&str, Option<JournalSync>); 4] = [
    ("none", None),
    ("exit", Some(JournalSync::AtExit)),
    ("1s", Some(JournalSync::EachSecond)),
    ("always", Some(JournalSync::Always)),
];

/// Time of one turn of a setting.
const TURN: Duration = Duration::from_secs(3);

/// Publishers at once, and publications of each between two waits for receipts. 64 publishers
/// with 64 publications under way are what a dozen busy sessions make.
const PUBLISHERS: usize = 64;
const BATCH: usize = 64;

fn rounds() -> usize {
    std::env::var("WEIR_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5)
}

fn directory() -> TempDir {
    let parent = std::env::var_os("WEIR_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(parent).unwrap()
}

async fn daemon(state: &TempDir, sync: Option<JournalSync>, cache: usize) -> Daemon {
    Daemon::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .state(state.path())
        .limits(Limits::default().with_cache(cache))
        .journal(sync.map(|sync| JournalOptions::default().with_sync(sync)))
        .spawn()
        .await
        .unwrap()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn quantile(sorted: &[Duration], q: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * q) as usize]
}

fn payload(publisher: usize, n: u64) -> Vec<u8> {
    let mut payload = vec![b'x'; 100];
    payload[..8].copy_from_slice(&n.to_le_bytes());
    payload[8] = publisher as u8;
    payload
}

/// Returns receipts a second, and the longest wait for a batch of them.
async fn throughput(sync: Option<JournalSync>) -> (f64, Duration) {
    let state = directory();
    let daemon = Arc::new(daemon(&state, sync, 64 << 20).await);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (daemon, stop, done) = (daemon.clone(), stop.clone(), done.clone());
            tokio::spawn(async move {
                let topic = format!("bench/{publisher}");
                let (mut n, mut longest) = (0, Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    for _ in 0..BATCH {
                        n += 1;
                        daemon.publish(&topic, payload(publisher, n)).unwrap();
                    }
                    daemon.kept().await;
                    longest = longest.max(begun.elapsed());
                    done.fetch_add(BATCH as u64, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
                longest
            })
        })
        .collect();
    tokio::time::sleep(TURN).await;
    let receipts = done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut longest = Duration::ZERO;
    for publisher in publishers {
        longest = longest.max(publisher.await.unwrap());
    }
    Arc::into_inner(daemon).unwrap().shutdown().await;
    (receipts, longest)
}

/// Returns the times from a publication to its receipt, one at a time, sorted.
async fn latency(sync: Option<JournalSync>) -> Vec<Duration> {
    let state = directory();
    let daemon = daemon(&state, sync, 64 << 20).await;
    let (end, mut times) = (Instant::now() + TURN, Vec::new());
    let mut n = 0;
    while Instant::now() < end {
        n += 1;
        let begun = Instant::now();
        daemon.publish("bench/a", payload(0, n)).unwrap();
        daemon.kept().await;
        times.push(begun.elapsed());
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    daemon.shutdown().await;
    times.sort_unstable();
    times
}

async fn receipts() {
    println!("{PUBLISHERS} publishers, {BATCH} publications of 100 B under way each:");
    println!("{:8} {:>14} {:>10} {:>14}", "sync", "receipts/s", "of none", "longest");
    let mut all = vec![(Vec::new(), Vec::new()); SETTINGS.len()];
    for _ in 0..rounds() {
        for (n, (_, sync)) in SETTINGS.iter().enumerate() {
            let (receipts, longest) = throughput(*sync).await;
            all[n].0.push(receipts);
            all[n].1.push(longest.as_secs_f64() * 1e3);
        }
    }
    let none = median(all[0].0.clone());
    for ((name, _), (receipts, longest)) in SETTINGS.iter().zip(all) {
        let receipts = median(receipts);
        let (ratio, longest) = (receipts / none, median(longest));
        println!("{name:8} {receipts:>14.0} {ratio:>10.2} {longest:>11.1} ms");
    }
    println!("\none publication at a time, to its receipt:");
    println!("{:8} {:>12} {:>12} {:>12}", "sync", "p50", "p99", "longest");
    let mut all = vec![(Vec::new(), Vec::new(), Vec::new()); SETTINGS.len()];
    for _ in 0..rounds() {
        for (n, (_, sync)) in SETTINGS.iter().enumerate() {
            let times = latency(*sync).await;
            let ms = |q| quantile(&times, q).as_secs_f64() * 1e3;
            all[n].0.push(ms(0.5));
            all[n].1.push(ms(0.99));
            all[n].2.push(ms(1.0));
        }
    }
    for ((name, _), (p50, p99, most)) in SETTINGS.iter().zip(all) {
        let [p50, p99, most] = [p50, p99, most].map(median);
        println!("{name:8} {p50:>9.3} ms {p99:>9.3} ms {most:>9.3} ms");
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let only = std::env::var("WEIR_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only == name;
    if wanted("receipts") {
        receipts().await;
    }
    if wanted("truncation") {
        truncation::run().await;
    }
    if wanted("relaying") {
        relaying::run().await;
    }
    if wanted("restart") {
        restart::run().await;
    }
    if wanted("handover") {
        handover::run().await;
    }
}
