//! `weir bench fanout`: the cost of one message to many. Lanes take turns.

mod arguments;
mod figures;
mod lane;
mod nats;
mod publisher;
mod report;
mod server;
mod subscriber;
mod turn;

pub(crate) use arguments::Arguments;

use super::interrupt::unless_interrupted;
use super::report::{Outcome, Report};
use super::units::usage;
use super::{open_files, progress};
use crate::console::in_full;
use indicatif::ProgressBar;
use report::Fanout;
use turn::Runtimes;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    usage(arguments.check());
    open_files::allow(arguments.sessions())?;
    let nats = nats::installed();
    if arguments.compare && nats.is_none() {
        tracing::warn!("no nats-server here: not compared with it");
    }
    let fanout = Fanout { arguments, lanes: arguments.lanes(nats.is_some()) };
    let lanes = fanout.lanes.len() as u32;
    let bar = progress::time(arguments.duration * (arguments.rounds as u32 * lanes));
    let mut report = Report::new(&fanout, arguments.json, arguments.svg.as_deref());
    let result = all(&fanout, &bar, &mut report);
    bar.finish_and_clear();
    result?;
    report.finish()
}

fn all(
    Fanout { arguments, lanes }: &Fanout<'_>,
    bar: &ProgressBar,
    report: &mut Report<'_, Fanout<'_>>,
) -> anyhow::Result<()> {
    for round in 0..arguments.rounds {
        let mut outcomes: Vec<_> = lanes.iter().map(|_| None).collect();
        for turn in 0..lanes.len() {
            let place = (turn + round as usize) % lanes.len();
            let lane = lanes[place];
            let runtimes = Runtimes::new()?;
            let run = async { Ok(turn::run(arguments, lane, round, &runtimes, bar).await) };
            let done = runtimes.block_on(unless_interrupted(run));
            runtimes.end();
            let done = done?;
            if let Ok(figures) = &done
                && let Some(doubt) = figures.doubt()
            {
                bar.suspend(|| tracing::warn!("{lane}, round {}: {doubt}", round + 1));
            }
            outcomes[place] = Some(match done {
                Ok(figures) => Outcome::Done(Box::new(figures)),
                Err(error) => Outcome::Failed(in_full(&error)),
            });
        }
        bar.suspend(|| report.add(round + 1, outcomes.into_iter().flatten().collect()))?;
    }
    Ok(())
}
