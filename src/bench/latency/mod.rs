//! `weir bench latency`: transports and delivery modes over loopback. They take turns.

mod report;
mod slice;

use super::daemon::Daemon;
use super::prng::Random;
use super::report::{Outcome, Report};
use super::traffic::{HEADER, messages};
use super::units::usage;
use super::{progress, unless_interrupted};
use crate::console::units::duration;
use crate::wire::Delivery;
use crate::{Client, Transport, Trust};
use anyhow::Context as _;
use bytesize::ByteSize;
use clap::Args;
use indicatif::ProgressBar;
use report::Figures;
use slice::{Pair, Slice, Turn};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
One publisher and one subscriber, each with a connection of its own, in one process on a
multi-threaded runtime, as in an ordinary program; the daemon is a process of its own. All cases
are connected at the same time and take turns in short slices. Their order is shuffled in each
round, so that other work of the machine affects all of them alike.

Examples:
  weir bench latency
  weir bench latency --hz 1000 --size 1kB --runs 3
  weir bench latency --duration 2s --runs 1 --json
  weir bench latency --svg latency.svg")]
pub(crate) struct Arguments {
    /// Messages a second.
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    hz: f64,
    /// Bytes in a message.
    #[arg(long, value_name = "BYTES", default_value = "100")]
    size: ByteSize,
    /// How long each case sends in a run, in slices.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// How long a case sends before it is the next one's turn.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    slice: Duration,
    /// Runs; each has a daemon of its own.
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: u64,
    /// Decides the order in each round.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print JSON objects, one a line: one for each case of each run, and a summary.
    #[arg(long)]
    json: bool,
    /// Plot the distributions of latency.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// A transport and a delivery mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    transport: Transport,
    delivery: Delivery,
}

/// The others are compared with the last one.
const CASES: [Case; 7] = {
    const fn case(transport: Transport, delivery: Delivery) -> Case {
        Case { transport, delivery }
    }
    [
        case(Transport::Quic, Delivery::Ordered),
        case(Transport::Quic, Delivery::Unordered),
        case(Transport::Quic, Delivery::Realtime),
        case(Transport::WebTransport, Delivery::Ordered),
        case(Transport::WebTransport, Delivery::Unordered),
        case(Transport::WebTransport, Delivery::Realtime),
        case(Transport::WebSocket, Delivery::Ordered),
    ]
};

const YARDSTICK: usize = CASES.len() - 1;

impl Case {
    fn mode(self) -> &'static str {
        match self.delivery {
            Delivery::Unordered => "unordered",
            Delivery::Realtime => "realtime",
            Delivery::Ordered => "ordered",
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.transport {
            Transport::WebSocket => f.write_str("websocket"),
            transport => write!(f, "{transport} {}", self.mode()),
        }
    }
}

impl Arguments {
    fn check(&self) -> Result<(), String> {
        let wrong = |wrong, what: &str| if wrong { Err(what.to_owned()) } else { Ok(()) };
        wrong(!(self.hz > 0.0 && self.hz <= 10_000.0), "--hz: above 0, at most 10000")?;
        wrong(self.size.0 < HEADER as u64, &format!("--size: at least {HEADER} bytes"))?;
        wrong(self.runs == 0, "--runs: at least 1")?;
        wrong(self.slice < slice::WARM_UP * 2, "--slice: at least 400ms")?;
        wrong(self.duration < self.slice, "--duration: at least one --slice")
    }

    fn rounds(&self) -> u64 {
        messages(self.duration, 1.0 / self.slice.as_secs_f64())
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    usage(arguments.check());
    // The same runtime as `#[tokio::main]`, which most programs use.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let slices = arguments.runs * arguments.rounds() * CASES.len() as u64;
    let bar = progress(arguments.slice * slices as u32);
    let mut report = Report::new(arguments, arguments.json, arguments.svg.as_deref());
    let result = runtime.block_on(unless_interrupted(all(arguments, &bar, &mut report)));
    bar.finish_and_clear();
    result?;
    report.finish()
}

async fn all(
    arguments: &Arguments,
    bar: &ProgressBar,
    report: &mut Report<'_, Arguments>,
) -> anyhow::Result<()> {
    for run in 1..=arguments.runs {
        let rows = one(arguments, run, bar).await?;
        bar.suspend(|| report.add(run, rows))?;
    }
    Ok(())
}

async fn one(
    arguments: &Arguments,
    run: u64,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Outcome<Figures>>> {
    let daemon = Daemon::start((Ipv4Addr::LOCALHOST, 0).into())?;
    let connect = |transport| {
        let builder = Client::builder(daemon.address.to_string()).transport(transport);
        builder.trust(Trust::Pinned(daemon.hash.into())).connect()
    };
    let mut cases = Vec::new();
    for case in CASES {
        let clients = (connect(case.transport).await?, connect(case.transport).await?);
        let topic = format!("bench/{case}").replace(' ', "/");
        let pair = Pair::new(clients, topic, case.delivery).await?;
        cases.push(pair.map(|pair| (pair, Vec::<Turn>::new())));
    }
    for round in 0..arguments.rounds() {
        for place in shuffled(arguments.seed, run, round) {
            bar.inc(arguments.slice.as_millis() as u64);
            let Ok((pair, turns)) = &mut cases[place] else { continue };
            let number = Random::new(run, &[round, place as u64]).next();
            let slice = Slice {
                number,
                messages: messages(arguments.slice, arguments.hz),
                period: Duration::from_secs_f64(1.0 / arguments.hz),
                size: arguments.size.0 as usize,
            };
            let turn = slice.run(pair).await;
            turns.push(turn.with_context(|| CASES[place].to_string())?);
        }
    }
    let outcome = |case| match case {
        Ok((_, turns)) => Outcome::Done(Box::new(Figures::new(turns))),
        Err(refusal) => Outcome::Refused(format!("{refusal}")),
    };
    Ok(cases.into_iter().map(outcome).collect())
}

// Fisher–Yates.
fn shuffled(seed: u64, run: u64, round: u64) -> [usize; CASES.len()] {
    let mut random = Random::new(seed, &[run, round]);
    let mut places = std::array::from_fn(|place| place);
    for end in (1..places.len()).rev() {
        places.swap(end, (random.next() % (end as u64 + 1)) as usize);
    }
    places
}
