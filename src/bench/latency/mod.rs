//! `weir bench latency`: transports and delivery modes over loopback. They take turns.

mod arguments;
mod case;
mod report;
mod slice;

pub(crate) use arguments::Arguments;

use super::daemon::Daemon;
use super::interrupt::unless_interrupted;
use super::prng::Random;
use super::progress;
use super::report::{Outcome, Report};
use super::traffic::messages;
use super::units::usage;
use crate::client::Reconnect;
use crate::{Client, Trust};
use anyhow::Context as _;
use case::CASES;
use indicatif::ProgressBar;
use report::Figures;
use slice::{Pair, Slice, Turn};
use std::net::Ipv4Addr;
use std::time::Duration;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    usage(arguments.check());
    // The same runtime as `#[tokio::main]`, which most programs use.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let slices = arguments.runs * arguments.rounds() * CASES.len() as u64;
    let bar = progress::time(arguments.slice * slices as u32);
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
        let builder = builder.trust(Trust::Pinned(daemon.hash.into()));
        builder.reconnect(Reconnect::never()).connect()
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
