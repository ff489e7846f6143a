//! `weir bench`: Weir measured against its own WebSocket face.

mod daemon;
#[cfg(target_os = "linux")]
mod link;
mod plot;
mod random;
mod stats;
mod table;
mod traffic;
pub(super) mod units;

use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Compare delivery modes over an emulated link with loss, delay and a bottleneck.
    #[cfg(target_os = "linux")]
    Link(link::Arguments),
}

/// Runs in threads of its own, some of them in other network namespaces: not inside a runtime.
pub(super) fn run(bench: Bench) -> anyhow::Result<ExitCode> {
    match bench {
        #[cfg(target_os = "linux")]
        Bench::Link(arguments) => link::run(&arguments),
    }
}
