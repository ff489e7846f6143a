//! Everything at once for a long time: restarts, kills, loss, large payloads, and guests that come and
//! go. Memory, descriptors, threads and files are flat at the end, and everything that the crash test
//! asserts holds.
//!
//! `cargo test --test crash soak -- --ignored --nocapture` takes ten minutes, and
//! `WEIR_SOAK_SECONDS=3600` sets another time. The first part has restarts. The second, three fifths of
//! the time, is one life of the daemon; in its last part the guests have left.

use crate::guests;
use crate::lossy::{CLEAN, Lossy, Random, Rules};
use crate::peers::Peers;
use crate::relay::{End, Figures, Relay, Target};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The daemon's cache, MiB. Its journal takes four times as much.
const CACHE: u64 = 32;

const LOSS: Rules = Rules { loss: 0.02, burst: 1.5, reorder: 0.02, duplicate: 0.02, ..CLEAN };

struct Soak {
    begun: Instant,
    relay: Relay,
    // Figures by phase: while guests come and go, and after they have left.
    rows: Vec<(&'static str, u64, Figures)>,
}

impl Soak {
    fn row(&mut self, phase: &'static str) {
        let (life, figures) = (self.relay.life, self.relay.figures());
        if self.rows.is_empty() {
            eprintln!("     s life phase       RSS MiB descriptors threads files  MiB on disk");
        }
        eprintln!(
            "{:6.0} {life:4} {phase:9} {:9.1} {:11} {:7} {:5} {:12.1}",
            self.begun.elapsed().as_secs_f64(),
            figures.rss as f64 / 1024.0,
            figures.descriptors,
            figures.threads,
            figures.files,
            figures.bytes as f64 / f64::from(1 << 20)
        );
        self.rows.push((phase, life, figures));
    }

    /// Prints a row every `every` until this time.
    async fn watch(&mut self, phase: &'static str, until: Duration, every: Duration) {
        while self.begun.elapsed() < until {
            sleep(every.min(until.saturating_sub(self.begun.elapsed()))).await;
            self.row(phase);
        }
    }

    fn of(&self, phase: &str) -> Vec<Figures> {
        self.rows.iter().filter(|row| row.0 == phase).map(|row| row.2).collect()
    }
}

fn mean(of: &[Figures], figure: fn(&Figures) -> u64) -> u64 {
    of.iter().map(figure).sum::<u64>() / of.len().max(1) as u64
}

async fn soak(seconds: u64) {
    let total = Duration::from_secs(seconds);
    let mut random = crate::random();
    let cache = format!("{CACHE}MiB");
    let relay = Relay::start(&[("WEIR_CACHE__BYTES", &cache), ("WEIR_LIMITS__PAYLOAD", "4MiB")]);
    let lossy = Lossy::start(relay.target.listen, LOSS);
    let direct = relay.target.clone();
    let target = Target { udp: lossy.address, ..direct.clone() };
    let mut soak = Soak { begun: Instant::now(), relay, rows: Vec::new() };
    let mut peers = Peers::default();
    peers.subscribe(&target, "soak").await;
    peers.publish(&target, "soak", Duration::from_millis(25)).await;
    soak.row("alone");
    let stop = Arc::new(AtomicBool::new(false));
    let seed = Random(random.next());
    let every = Duration::from_secs(1);
    let coming = guests::come(direct.clone(), peers.shown(), seed, every, stop.clone());
    let guests = tokio::spawn(coming);
    let (mut kills, mut stops) = (0, 0);
    while soak.begun.elapsed() < total * 2 / 5 {
        sleep(Duration::from_millis(2000 + random.below(8000))).await;
        soak.row("restarts");
        let how = if random.below(3) < 2 { End::Kill } else { End::Stop };
        *if how == End::Kill { &mut kills } else { &mut stops } += 1;
        let receipts = peers.newest(5);
        soak.relay.end(how);
        soak.relay.begin();
        peers.hold(&direct, &receipts).await;
        peers.check();
    }
    // Each guest stays for at most a minute and a half, and the daemon waits 44 s for one that has
    // vanished.
    let calm = Duration::from_secs(if seconds >= 300 { 100 } else { 0 });
    let every_row = (total / 40).max(Duration::from_secs(4));
    soak.watch("guests", total.saturating_sub(calm), every_row).await;
    stop.store(true, Relaxed);
    soak.watch("leaving", total, every_row).await;
    let counts = if seconds >= 300 {
        guests.await.unwrap().to_string()
    } else {
        guests.abort();
        "did not all leave in the short run".into()
    };
    soak.row("calm");
    let report = peers.settle(&direct).await;
    eprintln!("{kills} kills, {stops} stops\n{report}\nguests: {counts}");
    verdict(&soak, seconds);
    soak.relay.end(End::Stop);
}

fn verdict(soak: &Soak, seconds: u64) {
    let most = soak.rows.iter().map(|row| row.2.bytes).max().unwrap_or_default();
    // The journal, a snapshot that is being written, and the records of what is not on the disk yet.
    let bound = (CACHE * 6 + 32) << 20;
    assert!(most < bound, "{most} bytes in the state directory");
    if seconds < 300 {
        return;
    }
    let guests = soak.of("guests");
    let (early, late) = guests[guests.len() / 4..].split_at(guests.len() * 3 / 8);
    let rss = (mean(early, |one| one.rss), mean(late, |one| one.rss));
    eprintln!("RSS in the last life: {} KiB on average, then {} KiB", rss.0, rss.1);
    assert!(rss.1 < rss.0 + rss.0 / 10 + (4 << 10), "RSS grows: {rss:?} KiB");
    let (alone, calm) = (soak.of("alone")[0], soak.of("calm")[0]);
    assert!(calm.descriptors <= alone.descriptors + 4, "{alone:?} {calm:?}");
    assert!(calm.threads <= alone.threads + 4, "{alone:?} {calm:?}");
    assert!(calm.rss < (CACHE * 5 / 4 + 48) << 10, "{calm:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_soak() {
    soak(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes"]
async fn a_long_soak_stays_flat() {
    soak(crate::number("WEIR_SOAK_SECONDS", 600)).await;
}
