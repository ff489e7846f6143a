//! The daemon, the honest pairs, and the table of what happened.

use crate::common::Served;
use crate::honest::{Pair, Target};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use weir::Transport;

/// The daemon's cache.
const CACHE_MIB: u64 = 64;

/// The memory of the daemon with all that peers make it hold: a quarter more than the cache, and 32 MiB
/// for the program, its sessions and connections.
const BOUND_KIB: u64 = CACHE_MIB * 1024 * 5 / 4 + (32 << 10);

/// Limits that attacks of a few seconds reach, also in a debug build.
pub const MESSAGES: u64 = 5000;
const BYTES: u64 = 16 << 20;
pub const REPLAY: u64 = 8 << 20;
pub const HANDSHAKES: u64 = 20;
pub const SESSIONS: u64 = 40;

/// What an attack needs to know.
#[derive(Clone)]
pub struct Field {
    pub server: SocketAddr,
    pub http: SocketAddr,
    /// The addresses of this attack begin with it: 127.N.
    pub network: u8,
    pub until: Instant,
}

impl Field {
    /// An address of the attackers.
    pub fn address(&self, n: u16) -> Ipv4Addr {
        Ipv4Addr::new(127, self.network, (n >> 8) as u8, n as u8)
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// How long the attack has taken, seconds.
    pub fn seconds(begun: Instant) -> f64 {
        begun.elapsed().as_secs_f64()
    }
}

struct Row {
    name: String,
    outcome: String,
    // Of both pairs: the 99th percentile while the attack ran, ms.
    p99: [f64; 2],
    rss_mib: f64,
}

pub struct Arena {
    served: Served,
    pairs: [Arc<Pair>; 2],
    honest: Option<JoinHandle<()>>,
    pub attackers: Runtime,
    quiet: [f64; 2],
    rows: Vec<Row>,
    seconds: u64,
    network: u8,
    peak: u64,
    _state: tempfile::TempDir,
}

// Threads with a lower priority than the daemon and the honest pairs.
fn attackers() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(|| {
            let thread = std::fs::read_link("/proc/thread-self").unwrap();
            let thread = thread.file_name().unwrap().to_owned();
            let mut renice = Command::new("renice");
            renice.args(["-n", "10", "-p"]).arg(thread).stdout(Stdio::null());
            let _ = renice.status();
        })
        .build()
        .unwrap()
}

fn p99(mut times: Vec<u32>) -> f64 {
    times.sort_unstable();
    let at = (times.len() * 99 / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
}

impl Arena {
    pub fn start() -> Self {
        let seconds = std::env::var("WEIR_ATTACK_SECONDS").map_or(3, |n| n.parse().unwrap());
        let state = tempfile::tempdir().unwrap();
        let text = |number: u64| number.to_string();
        let environment = [
            ("WEIR_CACHE__BYTES", format!("{CACHE_MIB}MiB")),
            ("WEIR_LIMITS__PAYLOAD", "4MiB".into()),
            ("WEIR_LIMITS__TOPICS", "4096".into()),
            // Attackers and honest pairs are on this machine, and at different addresses.
            ("WEIR_LIMITS__EXEMPT", "[]".into()),
            ("WEIR_LIMITS__MESSAGES", text(MESSAGES)),
            ("WEIR_LIMITS__BYTES", text(BYTES)),
            ("WEIR_LIMITS__REPLAY", text(REPLAY)),
            ("WEIR_LIMITS__HANDSHAKES_PER_ADDRESS", text(HANDSHAKES)),
            ("WEIR_LIMITS__SESSIONS_PER_ADDRESS", text(SESSIONS)),
            ("WEIR_LIMITS__CONNECTIONS_PER_ADDRESS", text(SESSIONS)),
            ("WEIR_JOURNAL__KIND", "none".into()),
        ];
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (*name, &**value)).collect();
        let served = Served::start(state.path(), &["--http", "127.0.0.1:0"], &environment);
        let target = Target { server: served.server.clone(), hash: served.hash.clone() };
        let pairs = [Transport::Quic, Transport::WebSocket].map(Pair::new);
        let running = pairs.clone();
        let honest = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let [one, other] = running.map(|pair| pair.run(target.clone()));
                tokio::join!(one, other);
            });
        });
        let mut arena = Self {
            served,
            pairs,
            honest: Some(honest),
            attackers: attackers(),
            quiet: [f64::NAN; 2],
            rows: Vec::new(),
            seconds,
            network: 1,
            peak: 0,
            _state: state,
        };
        std::thread::sleep(Duration::from_secs(2));
        arena.latencies();
        std::thread::sleep(Duration::from_secs(seconds.max(3)));
        arena.quiet = arena.latencies();
        println!(
            "quiet: p99 {:.2} ms over QUIC, {:.2} ms over WebSocket; RSS {:.1} MiB, the bound is {} MiB",
            arena.quiet[0],
            arena.quiet[1],
            arena.served.kib("VmRSS:") as f64 / 1024.0,
            BOUND_KIB / 1024
        );
        arena
    }

    /// The field of an attack that has other addresses than those before.
    pub fn field(&mut self) -> Field {
        self.network += 1;
        self.field_of(self.network)
    }

    pub fn field_of(&self, network: u8) -> Field {
        let until = Instant::now() + Duration::from_secs(self.seconds);
        let server = self.served.server.parse().unwrap();
        Field { server, http: self.served.http.unwrap(), network, until }
    }

    // The 99th percentile of each pair since the last call, ms.
    fn latencies(&self) -> [f64; 2] {
        [0, 1].map(|n| p99(self.pairs[n].latencies()))
    }

    /// Runs an attack, which returns what happened.
    pub fn attack<F>(&mut self, name: &str, attack: impl FnOnce(Field) -> F)
    where
        F: Future<Output = String> + Send + 'static,
    {
        if let Ok(only) = std::env::var("WEIR_ATTACK")
            && !name.contains(&only)
        {
            return;
        }
        self.latencies();
        let field = self.field();
        let running = self.attackers.spawn(attack(field));
        let mut rss = 0;
        while !running.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
            rss = rss.max(self.rss());
        }
        let outcome = self.attackers.block_on(running).unwrap();
        self.add(name, outcome, rss);
    }

    /// Adds a row to the table, and checks the honest pairs and the memory.
    pub fn add(&mut self, name: &str, outcome: String, rss: u64) {
        let p99 = self.latencies();
        let rss_mib = rss as f64 / 1024.0;
        println!("{name}: {outcome}; p99 {:.2} and {:.2} ms, {rss_mib:.1} MiB", p99[0], p99[1]);
        assert!(rss < BOUND_KIB, "{name}: RSS was {rss} KiB, the bound is {BOUND_KIB} KiB");
        for pair in &self.pairs {
            let faults = pair.faults();
            assert!(faults.is_empty(), "{name}: {faults:?}");
        }
        self.rows.push(Row { name: name.to_owned(), outcome, p99, rss_mib });
    }

    pub fn rss(&mut self) -> u64 {
        let ended = self.served.child.try_wait().unwrap();
        assert!(ended.is_none(), "the daemon ended: {ended:?}");
        let rss = self.served.kib("VmRSS:");
        self.peak = self.peak.max(rss);
        rss
    }

    /// Ends the honest pairs, checks that they have lost nothing, and prints the table.
    pub fn finish(mut self) {
        self.pairs.iter().for_each(|pair| pair.stop());
        self.honest.take().unwrap().join().unwrap();
        for pair in &self.pairs {
            let (sent, received) = (pair.sent.load(Relaxed), pair.received.load(Relaxed));
            let (receipts, faults) = (pair.receipts.load(Relaxed), pair.faults());
            assert!(faults.is_empty(), "{faults:?}");
            assert_eq!((received, receipts), (sent, sent));
            println!("{}: {sent} sent, {receipts} receipts, {received} received", pair.transport);
        }
        let peak = self.served.kib("VmHWM:");
        let [quic, websocket] = self.quiet;
        println!("| attack | what happened | p99 QUIC, ms | p99 WebSocket, ms | RSS, MiB |");
        println!("|---|---|---|---|---|");
        println!("| none | | {quic:.2} | {websocket:.2} | |");
        let cell = |ms: f64| if ms.is_nan() { String::new() } else { format!("{ms:.2}") };
        for Row { name, outcome, p99: [quic, websocket], rss_mib } in &self.rows {
            let (quic, websocket) = (cell(*quic), cell(*websocket));
            println!("| {name} | {outcome} | {quic} | {websocket} | {rss_mib:.1} |");
        }
        println!(
            "RSS at most {:.1} MiB, the bound is {} MiB",
            peak as f64 / 1024.0,
            BOUND_KIB / 1024
        );
        assert!(peak < BOUND_KIB, "RSS was {peak} KiB, the bound is {BOUND_KIB} KiB");
    }
}
