//! Starting with a full cache: after an end in good order, and after a kill.

use super::{daemon, directory, median, payload, rounds};
use std::path::Path;
use std::time::{Duration, Instant};
use weir::daemon::JournalSync;

/// Bytes of the cache.
const CACHE: usize = 256 << 20;

/// Topics.
const TOPICS: u64 = 100;

fn bytes_on_disk(state: &Path) -> u64 {
    let files = std::fs::read_dir(state.join("journal")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

pub(super) async fn run() {
    println!("\nstarting with {} MiB of cache, payloads of 100 B:", CACHE >> 20);
    let [mut closed, mut killed] = [Vec::new(), Vec::new()];
    let (mut stopping, mut each, mut messages) = (Vec::new(), 0.0, 0);
    for _ in 0..rounds() {
        let state = directory();
        let first = daemon(&state, Some(JournalSync::EachSecond), CACHE).await;
        let before = bytes_on_disk(state.path());
        // Until it evicts.
        let mut n = 0;
        while first.get("bench/0", weir::wire::Which::Sequence(1)).is_ok() || n == 0 {
            for _ in 0..10_000 {
                n += 1;
                let topic = format!("bench/{}", n % TOPICS);
                first.publish(&topic, payload(0, n)).unwrap();
            }
            if n == 100_000 {
                first.kept().await;
                each = (bytes_on_disk(state.path()) - before) as f64 / n as f64;
            }
            first.kept().await;
        }
        messages = n;
        let begun = Instant::now();
        first.shutdown().await;
        stopping.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let second = daemon(&state, Some(JournalSync::EachSecond), CACHE).await;
        closed.push(begun.elapsed().as_secs_f64());
        // As a kill leaves it: as much log as there may be, beside the snapshot.
        let twice = 2 * n;
        while n < twice {
            n += 1;
            let topic = format!("bench/{}", n % TOPICS);
            second.publish(&topic, payload(0, n)).unwrap();
            if n % 10_000 == 0 {
                second.kept().await;
            }
        }
        second.kept().await;
        drop(second);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        let third = daemon(&state, Some(JournalSync::EachSecond), CACHE).await;
        killed.push(begun.elapsed().as_secs_f64());
        third.shutdown().await;
    }
    let [stopping, closed, killed] = [stopping, closed, killed].map(median);
    println!("{messages} messages; {each:.0} bytes on the disk for each");
    println!("from the call of shutdown to its end, with a snapshot: {stopping:.2} s");
    println!("from start to serving, after that:                     {closed:.2} s");
    println!("from start to serving, after a kill:                   {killed:.2} s");
}
