//! `weir bench`: measures Weir, beside its own WebSocket face and nats-server.

mod daemon;
#[cfg(target_os = "linux")]
mod fanout;
#[cfg(target_os = "linux")]
mod idle;
mod latency;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod open_files;
mod plot;
mod prng;
mod process;
mod report;
#[cfg(target_os = "linux")]
mod sessions;
mod stats;
mod table;
mod traffic;
mod units;

use anyhow::bail;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) const EXAMPLES: &str = "\
Examples:
  weir bench latency                  transports and delivery modes, one to one
  weir bench link --loss 3%           the same over a bad network
  weir bench fanout --compare         one to a hundred, beside WebSocket and nats-server
  weir bench fanout --chat --rate 1   a hundred to a hundred
  weir bench idle --sessions 10000    the cost of sessions that do nothing";

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Compare delivery modes over an emulated link with loss, delay and a bottleneck.
    #[cfg(target_os = "linux")]
    Link(link::Arguments),
    /// Compare transports and delivery modes on this machine, over loopback.
    Latency(latency::Arguments),
    /// Measure what it costs to deliver each message to many, beside WebSocket and nats-server.
    #[cfg(target_os = "linux")]
    Fanout(fanout::Arguments),
    /// Measure what idle sessions cost.
    #[cfg(target_os = "linux")]
    Idle(idle::Arguments),
}

/// Runs a benchmark. Must not be called inside a runtime: benchmarks start their own threads, some of
/// them in other network namespaces.
pub(crate) fn run(bench: Bench) -> anyhow::Result<ExitCode> {
    match bench {
        #[cfg(target_os = "linux")]
        Bench::Link(arguments) => link::run(&arguments),
        Bench::Latency(arguments) => latency::run(&arguments).map(|()| ExitCode::SUCCESS),
        #[cfg(target_os = "linux")]
        Bench::Fanout(arguments) => fanout::run(&arguments).map(|()| ExitCode::SUCCESS),
        #[cfg(target_os = "linux")]
        Bench::Idle(arguments) => idle::run(&arguments).map(|()| ExitCode::SUCCESS),
    }
}

/// Returns a progress bar whose unit is the millisecond. It is shown if standard error is a terminal.
fn progress(all: Duration) -> ProgressBar {
    let bar = ProgressBar::new(all.as_millis() as u64);
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {elapsed} of about {msg}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.with_message(format!("{} s", all.as_secs()))
}

/// Returns the result of `work`, or fails if TERM or INT arrives first. `work` is dropped then.
async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = work => result,
        _ = terminate.recv() => bail!("interrupted"),
        _ = interrupt.recv() => bail!("interrupted"),
    }
}
