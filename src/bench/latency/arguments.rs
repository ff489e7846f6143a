//! The arguments of `weir bench latency`.

use super::slice::WARM_UP;
use crate::bench::traffic::{HEADER, messages};
use crate::units::duration;
use bytesize::ByteSize;
use clap::Args;
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
    pub(super) hz: f64,
    /// Bytes in a message.
    #[arg(long, value_name = "BYTES", default_value = "100")]
    pub(super) size: ByteSize,
    /// How long each case sends in a run, in slices.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) duration: Duration,
    /// How long a case sends before it is the next one's turn.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(super) slice: Duration,
    /// Runs; each has a daemon of its own.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) runs: u64,
    /// Decides the order in each round.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Print JSON objects, one a line: one for each case of each run, and a summary.
    #[arg(long)]
    pub(super) json: bool,
    /// Plot the distributions of latency.
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn check(&self) -> Result<(), String> {
        let wrong = |wrong, what: &str| if wrong { Err(what.to_owned()) } else { Ok(()) };
        wrong(!(self.hz > 0.0 && self.hz <= 10_000.0), "--hz: above 0, at most 10000")?;
        wrong(self.size.0 < HEADER as u64, &format!("--size: at least {HEADER} bytes"))?;
        wrong(self.runs == 0, "--runs: at least 1")?;
        wrong(self.slice < WARM_UP * 2, "--slice: at least 400ms")?;
        wrong(self.duration < self.slice, "--duration: at least one --slice")
    }

    pub(super) fn rounds(&self) -> u64 {
        messages(self.duration, 1.0 / self.slice.as_secs_f64())
    }
}
