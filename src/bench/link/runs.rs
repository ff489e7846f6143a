//! Runs, one after the other. All modes of a run are measured side by side.

use super::arguments::{Arguments, Legs};
use super::figures::Figures;
use super::lane::run as run_lane;
use super::mode::Mode;
use super::plan::{Phase, Plan};
use crate::bench::prng::Random;
use crate::bench::progress;
use crate::bench::report::{Outcome, Report};
use crate::bench::traffic::messages;
use anyhow::bail;
use indicatif::ProgressBar;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Time from when the last lane is ready to the first message.
const LEAD: Duration = Duration::from_millis(200);

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bar = progress::time(arguments.duration * arguments.runs as u32);
    let mut report = Report::new(arguments, arguments.json, arguments.svg.as_deref());
    let mut interrupted = pin!(interrupted());
    let result = (1..=arguments.runs).try_for_each(|number| {
        let outcomes = one(arguments, number, &runtime, interrupted.as_mut(), &bar)?;
        bar.suspend(|| {
            for (mode, outcome) in arguments.modes.iter().zip(&outcomes) {
                if let Some(doubt) = outcome.row().and_then(Figures::doubt) {
                    tracing::warn!("{mode}, run {number}: {doubt}");
                }
            }
            report.add(number, outcomes)
        })
    });
    bar.finish_and_clear();
    // The thread that reads standard input cannot be stopped.
    runtime.shutdown_background();
    result?;
    report.finish()
}

fn one(
    arguments: &Arguments,
    number: u64,
    runtime: &tokio::runtime::Runtime,
    interrupted: Pin<&mut impl Future<Output = anyhow::Result<()>>>,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Outcome<Figures>>> {
    let (control, phase) = watch::channel(Phase::Preparing);
    let (ready, mut preparing) = mpsc::channel(1);
    let (done, mut finishing) = mpsc::channel::<Infallible>(1);
    let plans = plans(arguments, number);
    std::thread::scope(|scope| {
        let mut lanes = Vec::new();
        for plan in &plans {
            let (phase, ready, done) = (phase.clone(), ready.clone(), done.clone());
            lanes.push(scope.spawn(move || {
                let _done = done;
                run_lane(plan, &phase, ready)
            }));
        }
        drop((ready, done));
        let conducted = runtime.block_on(async {
            tokio::select! {
                () = conduct(&control, &mut preparing, &mut finishing, arguments, bar) => Ok(()),
                why = interrupted => why,
            }
        });
        // Fails if all lanes have ended.
        let _ = control.send(Phase::Stopping);
        let mut outcomes = Vec::new();
        for (plan, lane) in plans.iter().zip(lanes) {
            let outcome = lane.join().map_err(|_| anyhow::anyhow!("{} panicked", plan.mode))?;
            outcomes.push(outcome);
        }
        conducted?;
        let figures = |outcome: Outcome<_>| outcome.map(|all| Figures::new(arguments, &all));
        outcomes.into_iter().map(|outcome| outcome.map(figures)).collect()
    })
}

async fn conduct(
    control: &watch::Sender<Phase>,
    preparing: &mut mpsc::Receiver<Infallible>,
    finishing: &mut mpsc::Receiver<Infallible>,
    arguments: &Arguments,
    bar: &ProgressBar,
) {
    // Ends when all lanes have dropped their end.
    preparing.recv().await;
    let start = Instant::now() + LEAD;
    let _ = control.send(Phase::Running(start));
    let before = bar.position();
    let finished = finishing.recv();
    tokio::pin!(finished);
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            _ = &mut finished => break,
            _ = tick.tick() => {
                let passed = start.elapsed().min(arguments.duration);
                bar.set_position(before + passed.as_millis() as u64);
            }
        }
    }
    bar.set_position(before + arguments.duration.as_millis() as u64);
}

/// Fails when a signal arrives, or when the process outside ends and so closes standard input.
async fn interrupted() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stdin = tokio::io::stdin();
    let mut byte = [0];
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = stdin.read(&mut byte) => {}
    }
    bail!("interrupted")
}

fn plans(arguments: &Arguments, number: u64) -> Vec<Plan> {
    let period = Duration::from_secs_f64(1.0 / arguments.hz);
    let messages = messages(arguments.duration, arguments.hz);
    let modes = arguments.modes.len() as u32;
    let plan = |(place, mode): (u32, &Mode)| Plan {
        mode: *mode,
        delivery: mode.delivery(),
        transport: arguments.transport_of(*mode),
        number,
        seed: Random::new(arguments.seed, &[number]).next(),
        link: arguments.spec(),
        both_legs: arguments.legs == Legs::Both,
        messages,
        period,
        offset: period * place / modes,
        size: arguments.size.0 as usize,
        bulk: arguments.bulk.map(|bulk| bulk.0 as usize),
        topic: "bench/messages".into(),
        bulk_topic: "bench/bulk".into(),
    };
    (0..).zip(&arguments.modes).map(plan).collect()
}
