//! Every attack that the daemon must withstand, all at once, beside honest peers.
//!
//! The test takes 20 s. `WEIR_SIEGE_SECONDS=600` gives the figures, with `WEIR_BIN` for the release
//! build and `--nocapture` for the tables. It asserts the losses of the honest pairs and the memory
//! of the daemon. Times are only printed, because they depend on other work of the machine.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]
// Megabytes and milliseconds, only for printing.
#![allow(clippy::cast_precision_loss, clippy::cast_sign_loss)]

mod attacks;
#[path = "../common/mod.rs"]
mod common;
mod foe;
#[path = "../common/h2.rs"]
mod h2;
mod honest;
mod publishing;
mod subscribing;
mod web;

use common::Served;
use foe::Siege;
use honest::{Newcomer, Pair, Target};
use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use weir::Transport;

/// The daemon's cache. A quarter of it is the budget for what peers make the daemon hold.
const CACHE_MIB: u64 = 32;

/// Memory of a session beside the cache, KiB. Over QUIC: its receive window and its send window, 2
/// MiB each. Over WebSocket there are no such windows. A connection over HTTP: 64 KiB in the
/// transport, and as much in TLS.
const QUIC_KIB: u64 = 4 << 10;
const WEBSOCKET_KIB: u64 = 1 << 10;
const HTTP_KIB: u64 = 128;

/// The honest sessions: two of each pair, and that of the newcomers.
const HONEST_QUIC: u64 = 3;
const HONEST_WEBSOCKET: u64 = 2;

fn seconds() -> u64 {
    std::env::var("WEIR_SIEGE_SECONDS").map_or(20, |seconds| seconds.parse().unwrap())
}

/// Threads with a lower priority than the daemon and the honest peers.
fn attackers() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(|| {
            // The nice value of one thread: Linux has one for each.
            let thread = std::fs::read_link("/proc/thread-self").unwrap();
            let thread = thread.file_name().unwrap().to_owned();
            let mut renice = Command::new("renice");
            renice.args(["-n", "10", "-p"]).arg(thread).stdout(std::process::Stdio::null());
            if !renice.status().is_ok_and(|status| status.success()) {
                println!("the attackers do not give target: there is no renice");
            }
        })
        .build()
        .unwrap()
}

/// CPU time of a process, in ticks of 10 ms.
fn ticks(process: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Packets that the kernel dropped at a UDP port because its buffer was full.
fn dropped(port: u16) -> u64 {
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
    let local = format!(":{port:04X}");
    let of = |line: &&str| line.split_whitespace().nth(1).is_some_and(|at| at.ends_with(&local));
    let drops = |line: &str| line.split_whitespace().last().unwrap().parse::<u64>().unwrap();
    sockets.lines().find(of).map_or(0, drops)
}

/// Times in microseconds. A row has the median, the 99th percentile and the maximum, in
/// milliseconds.
struct Times(Vec<u32>);

impl Times {
    fn at(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let at = (self.0.len() as f64 * share) as usize;
        self.0
            .get(at.min(self.0.len().saturating_sub(1)))
            .map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
    }

    fn row(&mut self) -> String {
        format!("{:7.2} {:7.2} {:7.2}", self.at(0.5), self.at(0.99), self.at(1.0))
    }
}

struct Watch {
    served: Served,
    pairs: Vec<Arc<Pair>>,
    newcomer: Arc<Newcomer>,
    siege: Arc<Siege>,
    begun: Instant,
    ticks: (u64, u64),
    // KiB, one value a second.
    rss: Vec<u64>,
    // Delay of the honest publishers themselves.
    late: Vec<u32>,
}

impl Watch {
    /// Watches for this many seconds, and prints a row every `every` seconds. Returns the latencies
    /// of each pair.
    fn watch(&mut self, seconds: u64, every: u64) -> Vec<Times> {
        let mut all: Vec<Times> = self.pairs.iter().map(|_| Times(Vec::new())).collect();
        for second in 1..=seconds {
            std::thread::sleep(Duration::from_secs(1));
            let ended = self.served.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {ended:?}\n{}", self.siege.tally());
            self.rss.push(self.served.kib("VmRSS:"));
            if second % every == 0 || second == seconds {
                let since: Vec<_> = self.pairs.iter().map(|pair| Times(pair.latencies())).collect();
                self.row(since, &mut all, if second % every == 0 { every } else { second % every });
            }
        }
        all
    }

    fn row(&mut self, since: Vec<Times>, all: &mut [Times], seconds: u64) {
        let mut line = format!("{:5} ", self.begun.elapsed().as_secs());
        let _ = write!(line, "{:6.1} ", *self.rss.last().unwrap() as f64 / 1024.0);
        for (times, all) in since.into_iter().zip(all) {
            let mut times = times;
            let _ = write!(line, "| {} ", times.row());
            all.0.append(&mut times.0);
        }
        let mut late = Times(self.pairs.iter().flat_map(|pair| pair.late()).collect());
        let _ = write!(line, "| {:6.2} ", late.at(0.99));
        self.late.append(&mut late.0);
        let faults: usize = self.pairs.iter().map(|pair| pair.faults().len()).sum();
        let received: u64 = self.pairs.iter().map(|pair| pair.received.load(Relaxed)).sum();
        let (woken, silent) =
            (self.newcomer.received.load(Relaxed), self.newcomer.silent.load(Relaxed));
        let now = (ticks(&self.served.child.id().to_string()), ticks("self"));
        let load = |now: u64, before: u64| (now - before) / seconds;
        let (daemon, here) = (load(now.0, self.ticks.0), load(now.1, self.ticks.1));
        self.ticks = now;
        let _ =
            write!(line, "| {received:6} {faults:4} {woken:5} {silent:3} | {daemon:3} {here:3} | ");
        let dropped = dropped(self.siege.server.port());
        println!("{line}{dropped:5} | {}", self.siege.goodbyes());
    }

    fn head() {
        println!(
            "    s    RSS | quic p50     p99     max | ws   p50     p99     max |   late |   came lost woken sil | cpu test | drops | sessions ended"
        );
    }
}

fn mean(of: &[u64]) -> f64 {
    of.iter().sum::<u64>() as f64 / of.len().max(1) as f64 / 1024.0
}

#[test]
fn every_attack_at_once_beside_an_honest_pair() {
    let seconds = seconds();
    let (alone, every) = ((seconds / 5).clamp(4, 60), (seconds / 4).clamp(1, 30));
    let state = tempfile::tempdir().unwrap();
    let cache = format!("{CACHE_MIB}MiB");
    // A limit of topics at which topics are forgotten. The largest payload is an eighth of the
    // cache.
    let environment = [
        ("WEIR_CACHE__BYTES", &*cache),
        ("WEIR_LIMITS__PAYLOAD", "4MiB"),
        ("WEIR_LIMITS__TOPICS", "4096"),
    ];
    let served = Served::start(state.path(), &["--http", "127.0.0.1:0"], &environment);
    let target = Target { server: served.server.clone(), hash: served.hash.clone() };
    let siege = Siege::new(served.server.parse().unwrap(), served.http.unwrap());
    let pairs: Vec<_> = [Transport::Quic, Transport::WebSocket].map(Pair::new).into();
    let newcomer = Arc::new(Newcomer::default());
    let honest = {
        let (pairs, newcomer, target) = (pairs.clone(), newcomer.clone(), target.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for pair in pairs {
                    tasks.spawn(pair.run(target.clone()));
                }
                tasks.spawn(newcomer.run(target));
                while let Some(ended) = tasks.join_next().await {
                    ended.unwrap();
                }
            });
        })
    };
    let ticks = (ticks(&served.child.id().to_string()), ticks("self"));
    let (begun, rss, late) = (Instant::now(), Vec::new(), Vec::new());
    let mut watch = Watch { served, pairs, newcomer, siege, begun, ticks, rss, late };
    // Times are in milliseconds. `late` is the 99th percentile of the publisher's own delay, `cpu`
    // the daemon's share of one processor, and `test` that of this process, in percent. `drops`
    // counts packets for which the daemon's socket had no room.
    println!("alone");
    Watch::head();
    let mut before = watch.watch(alone, alone);
    let relayed = |watch: &Watch| -> Vec<_> {
        watch.pairs.iter().map(|pair| Times(pair.relayed())).collect()
    };
    let mut relayed_before = relayed(&watch);
    println!("beside every attack at once");
    Watch::head();
    watch.rss.clear();
    let attackers = attackers();
    attackers.block_on(async { attacks::all(&watch.siege, &target) });
    let mut beside = watch.watch(seconds, every);
    let mut relayed_beside = relayed(&watch);
    // Read before the attacks end.
    let peak = watch.served.kib("VmHWM:");
    watch.newcomer.stop.store(true, Relaxed);
    // Newcomers wait for publications of the pairs.
    while !watch.newcomer.done.load(Relaxed) && !honest.is_finished() {
        std::thread::sleep(Duration::from_millis(100));
    }
    watch.pairs.iter().for_each(|pair| pair.stop());
    honest.join().unwrap();
    attackers.shutdown_timeout(Duration::from_secs(5));
    println!("{}", watch.siege.tally());
    // Timers are a millisecond late, and processes wait for a processor. Neither is a fault of the
    // daemon.
    for (n, pair) in watch.pairs.iter().enumerate() {
        let (before, beside) = (&mut relayed_before[n], &mut relayed_beside[n]);
        let (alone, now) = (before.at(0.99), beside.at(0.99));
        println!(
            "{}, from when it was really sent: p50 {:.2} → {:.2} ms, p99 {alone:.2} → {now:.2} ms ({:.1} ×)",
            pair.transport,
            before.at(0.5),
            beside.at(0.5),
            now / alone
        );
    }
    verdict(&mut watch, &mut before, &mut beside, peak);
}

fn verdict(watch: &mut Watch, before: &mut [Times], beside: &mut [Times], peak: u64) {
    let Watch { pairs, newcomer, siege, rss, served, .. } = watch;
    for ((pair, before), beside) in pairs.iter().zip(before).zip(beside) {
        let (alone, now) = (before.at(0.99), beside.at(0.99));
        println!(
            "{}: p50 {:.2} → {:.2} ms, p99 {alone:.2} → {now:.2} ms ({:.1} ×), p99.9 {:.2} → {:.2} ms, most {:.1} → {:.1} ms",
            pair.transport,
            before.at(0.5),
            beside.at(0.5),
            now / alone,
            before.at(0.999),
            beside.at(0.999),
            before.at(1.0),
            beside.at(1.0)
        );
    }
    let third = rss.len() / 3;
    let (middle, last) = (mean(&rss[third..2 * third]), mean(&rss[2 * third..]));
    let quic = siege.quic.most.load(Relaxed) + HONEST_QUIC;
    let websocket = siege.websocket.most.load(Relaxed) + HONEST_WEBSOCKET;
    let connections = siege.connections.most.load(Relaxed);
    // The last 16 MiB: the journal's queue and a batch, while the disk is slower than the publishers.
    let base = CACHE_MIB * 1024 * 5 / 4 + (32 << 10) + (16 << 10);
    let bound = base + quic * QUIC_KIB + websocket * WEBSOCKET_KIB + connections * HTTP_KIB;
    println!(
        "RSS: at most {:.1} MiB; {middle:.1} MiB in the middle third, {last:.1} MiB in the last",
        peak as f64 / 1024.0
    );
    println!(
        "the bound: {} MiB, and {quic} × 4 MiB for QUIC, {websocket} × 1 MiB for WebSocket, {connections} × 128 KiB for HTTP: {} MiB",
        base / 1024,
        bound / 1024
    );
    println!("RSS afterwards: {:.1} MiB", served.kib("VmRSS:") as f64 / 1024.0);
    assert!(peak < bound, "RSS was {peak} KiB, the bound is {bound} KiB");
    assert!(served.child.try_wait().unwrap().is_none(), "the daemon ended");
    for pair in pairs {
        let (sent, received) = (pair.sent.load(Relaxed), pair.received.load(Relaxed));
        let (receipts, faults) = (pair.receipts.load(Relaxed), pair.faults());
        println!("{}: {sent} sent, {receipts} receipts, {received} received", pair.transport);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!((received, receipts), (sent, sent));
    }
    let (woken, silent) = (newcomer.received.load(Relaxed), newcomer.silent.load(Relaxed));
    println!("newcomers: {woken} were woken, {silent} were not");
    assert!(silent == 0 && woken > 0);
}
