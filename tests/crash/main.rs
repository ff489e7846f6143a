//! A daemon that is killed, and one that is stopped, again and again, under traffic: every publication
//! that was acknowledged arrives once and in order at every subscriber, counts are exact, and no
//! sequence ever has two payloads.
//!
//! `WEIR_KILLS=20 WEIR_STOPS=10 cargo test --test crash every_end -- --nocapture` is the long run. The
//! moments of the ends come from a seed, which is printed; `WEIR_SEED` sets it.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]
// Megabytes, only for printing.
#![allow(clippy::cast_precision_loss)]

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod gone;
mod guests;
#[path = "../common/http.rs"]
mod http;
mod ledger;
#[path = "../common/link.rs"]
mod link;
#[path = "../common/lossy.rs"]
mod lossy;
mod native;
mod over_http;
mod peers;
mod relay;
mod soak;

use lossy::Random;
use peers::Peers;
use relay::{End, Relay};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Returns the number in an environment variable.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Returns random numbers from `WEIR_SEED`, and prints the seed.
fn random() -> Random {
    let seed = number("WEIR_SEED", rand::random::<u32>().into());
    eprintln!("WEIR_SEED={seed}");
    Random(seed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_every_end() {
    let (kills, stops) = (number("WEIR_KILLS", 3), number("WEIR_STOPS", 1));
    let mut random = random();
    let begun = Instant::now();
    let mut relay = Relay::start(&[]);
    let mut peers = Peers::default();
    peers.subscribe(&relay.target, "crash").await;
    peers.publish(&relay.target, "crash", Duration::from_millis(4)).await;
    let (mut left, mut checked) = ((kills, stops), 0);
    while left.0 + left.1 > 0 {
        sleep(Duration::from_millis(200 + random.below(800))).await;
        let how = if random.below(left.0 + left.1) < left.0 { End::Kill } else { End::Stop };
        *if how == End::Kill { &mut left.0 } else { &mut left.1 } -= 1;
        // Receipts that were given before the end.
        let receipts = peers.newest(5);
        relay.end(how);
        relay.begin();
        checked += peers.hold(&relay.target, &receipts).await;
    }
    let report = peers.settle(&relay.target).await;
    eprintln!(
        "{kills} kills, {stops} stops, {checked} receipts looked up after them, {:.1} s\n{report}",
        begun.elapsed().as_secs_f64()
    );
    relay.end(End::Stop);
}
