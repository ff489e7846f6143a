//! Publishing while snapshots replace the log, several times a second.

use super::{TURN, daemon, directory, median, payload, quantile, rounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use weir::daemon::JournalSync;

/// Bytes of the cache, and of each publication of the load.
const CACHE: usize = 16 << 20;
const LARGE: usize = 10_000;

// Returns the times of the calls that publish, and those to the receipts, sorted; and the bytes a
// second of the load.
async fn turn(sync: Option<JournalSync>) -> (Vec<Duration>, Vec<Duration>, f64) {
    let state = directory();
    let daemon = Arc::new(daemon(&state, sync, CACHE).await);
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (daemon, stop) = (daemon.clone(), stop.clone());
        async move {
            let (start, mut n) = (Instant::now(), 0_u64);
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..50 {
                    n += 1;
                    let mut payload = vec![b'x'; LARGE];
                    payload[..8].copy_from_slice(&n.to_le_bytes());
                    daemon.publish("bench/load", payload).unwrap();
                }
                daemon.kept().await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (n * LARGE as u64) as f64 / start.elapsed().as_secs_f64()
        }
    });
    let (end, mut n) = (Instant::now() + TURN, 0);
    let (mut calls, mut receipts) = (Vec::new(), Vec::new());
    while Instant::now() < end {
        n += 1;
        let payload = payload(0, n);
        let begun = Instant::now();
        daemon.publish("bench/a", payload).unwrap();
        calls.push(begun.elapsed());
        daemon.kept().await;
        receipts.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let rate = load.await.unwrap();
    Arc::into_inner(daemon).unwrap().shutdown().await;
    calls.sort_unstable();
    receipts.sort_unstable();
    (calls, receipts, rate)
}

pub(super) async fn run() {
    println!("\none publication a millisecond beside a load, {} MiB of cache:", CACHE >> 20);
    println!(
        "{:8} {:>10} {:>14} {:>14} {:>14}",
        "sync", "load MB/s", "call longest", "receipt p99", "longest"
    );
    for (name, sync) in [("none", None), ("1s", Some(JournalSync::EachSecond))] {
        let mut all = [const { Vec::new() }; 4];
        for _ in 0..rounds() {
            let (calls, receipts, rate) = turn(sync).await;
            let ms = |times: &[Duration], q| quantile(times, q).as_secs_f64() * 1e3;
            let figures = [rate / 1e6, ms(&calls, 1.0), ms(&receipts, 0.99), ms(&receipts, 1.0)];
            all.iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
        }
        let [rate, call, p99, longest] = all.map(median);
        println!("{name:8} {rate:>10.0} {call:>11.2} ms {p99:>11.2} ms {longest:>11.2} ms");
    }
}
