//! `weir bench`: measures Weir, beside its own WebSocket face and nats-server.

mod daemon;
#[cfg(target_os = "linux")]
mod fanout;
#[cfg(target_os = "linux")]
mod idle;
mod interrupt;
mod latency;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod open_files;
mod plot;
mod prng;
mod process;
mod progress;
mod report;
#[cfg(target_os = "linux")]
mod sessions;
mod stats;
mod table;
mod traffic;
mod units;

use clap::Subcommand;
use std::process::ExitCode;

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
