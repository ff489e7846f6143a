//! The time for which the engine is locked: the worst of each call, in engines as large as the
//! default limits allow, under everything that peers can do to them. `cargo bench --bench lock`
//! prints the table of `docs/benchmarks.md`.
//!
//! Each call is made as the shell makes it: the call and its outputs under one lock. The work that
//! it defers follows in portions of [`Engine::run_deferred`], each under its own lock. The scenes are the
//! same in every run, call by call. The shortest time of each call over all runs counts, so that
//! other work of the machine does not.
#![allow(missing_docs, clippy::unwrap_used)]

mod scenes;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};
use weir::engine::{Engine, Item, Limits, Publication, ReadOptions, SubscriptionId};
use weir::wire::{Digest, Refusal};

// The allocator of the daemon.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Maximum time of a call.
const GOAL: Duration = Duration::from_millis(1);

/// Number of runs of each scene. `WEIR_RUNS` sets another.
const RUNS: usize = 5;

/// The times of one run by call, in order.
type Times = BTreeMap<String, Vec<Duration>>;

/// The engine, and the times of its calls under the lock.
struct Shell {
    engine: Engine,
    scene: &'static str,
    times: Times,
    ids: Vec<SubscriptionId>,
    named: Vec<SubscriptionId>,
}

impl Shell {
    fn new(scene: &'static str) -> Self {
        Self {
            engine: Engine::new(Limits::default(), 1, [7; 32]),
            scene,
            times: Times::new(),
            ids: Vec::new(),
            named: Vec::new(),
        }
    }

    fn record(&mut self, call: &str, took: Duration) {
        let call = format!("{call}; {}", self.scene);
        self.times.entry(call).or_default().push(took);
    }

    /// Measures a call, and then the portions of work that it leaves.
    fn with<T>(&mut self, call: &str, run: impl FnOnce(&mut Engine) -> T) -> T {
        let start = Instant::now();
        self.engine.begin_work();
        let result = run(&mut self.engine);
        self.outputs();
        self.record(call, start.elapsed());
        while self.engine.has_deferred() {
            let start = Instant::now();
            self.engine.begin_work();
            self.engine.run_deferred();
            self.outputs();
            self.record(&format!("run_deferred after {call}"), start.elapsed());
        }
        result
    }

    fn outputs(&mut self) {
        self.engine.take_ended(&mut self.ids);
        self.engine.take_wakes(&mut self.ids);
        self.named.append(&mut self.ids);
    }

    fn publish(&mut self, call: &str, topic: &str, payload: &bytes::Bytes) {
        let digest = Digest::of(payload);
        let publication =
            Publication { topic, payload: &payload.clone().into(), digest, stamp: 0, origin: None };
        self.with(call, |engine| engine.publish(1, &publication).map(drop)).unwrap();
    }

    /// Reads a subscription until it has everything.
    fn read(&mut self, call: &str, id: SubscriptionId, wanted: ReadOptions) -> Result<(), Refusal> {
        loop {
            let start = Instant::now();
            self.engine.begin_work();
            let more = self.engine.read(id, wanted, &mut |item: Item<'_>| {
                black_box(&item);
            });
            let rests = self.engine.park_if_idle(id);
            self.record(call, start.elapsed());
            if !more? || rests {
                return Ok(());
            }
        }
    }

    /// Reads all subscriptions that were woken. Those that must end do.
    fn deliver(&mut self, call: &str, wanted: ReadOptions) {
        let named = std::mem::take(&mut self.named);
        for id in named {
            if self.read(call, id, wanted).is_err() {
                self.with("unsubscribe, lost", |engine| engine.unsubscribe(id));
            }
        }
    }
}

/// Returns the shortest time of each call over all runs.
fn shortest(runs: &[Times]) -> Times {
    let of = |call: &String| {
        let all: Vec<_> = runs.iter().filter_map(|run| run.get(call)).collect();
        let calls = all.iter().map(|times| times.len()).min().unwrap_or(0);
        let shortest = |at: usize| all.iter().map(|times| times[at]).min().unwrap_or_default();
        (0..calls).map(shortest).collect::<Vec<_>>()
    };
    runs[0].keys().map(|call| (call.clone(), of(call))).collect()
}

fn print(times: &Times) -> usize {
    let ms = |time: Duration| format!("{:.3}", time.as_secs_f64() * 1000.0);
    let mut missed = 0;
    for (call, times) in times {
        let mut times = times.clone();
        times.sort_unstable();
        let Some(worst) = times.last() else { continue };
        let ok = if *worst <= GOAL { "ok" } else { "MISSED" };
        missed += usize::from(*worst > GOAL);
        let (calls, p50) = (times.len(), ms(times[times.len() / 2]));
        println!("| {call} | {calls} | {p50} | {} | {} | {ok} |", ms(*worst), ms(GOAL));
    }
    missed
}

fn main() {
    // Arguments are names of scenes, and options of `cargo bench`.
    let asked: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let runs = std::env::var("WEIR_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs: usize = runs.unwrap_or(RUNS);
    println!("| call; scene | calls | p50, ms | worst, ms | goal, ms | |");
    println!("|---|---|---|---|---|---|");
    let mut missed = 0;
    for (scene, play) in scenes::ALL {
        if !asked.is_empty() && !asked.iter().any(|asked| scene.contains(&**asked)) {
            continue;
        }
        let times: Vec<_> = (0..runs.max(1))
            .map(|_| {
                let mut shell = Shell::new(scene);
                play(&mut shell);
                shell.times
            })
            .collect();
        missed += print(&shortest(&times));
    }
    println!("\n{missed} missed.");
}
