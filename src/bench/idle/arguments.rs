//! The arguments of `weir bench idle`.

use crate::bench::sessions::Carriers;
use crate::units::duration;
use clap::Args;
use std::time::Duration;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Opens the sessions, each with a socket of its own, leaves them idle with the default keep-alive,
and then checks that all of them are still served. The sessions are in this process, the daemon is
another: CPU and memory are the daemon's, as the kernel accounts for them.

Examples:
  weir bench idle
  weir bench idle --sessions 10000 --subscribe
  weir bench idle --transport quic,webtransport,websocket --json")]
pub(crate) struct Arguments {
    /// Sessions.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    pub(super) sessions: u64,
    #[command(flatten)]
    pub(super) carriers: Carriers,
    /// Each session is subscribed too; one message at the end must reach all.
    #[arg(long)]
    pub(super) subscribe: bool,
    /// How long the sessions are idle.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(super) duration: Duration,
    /// Print JSON objects, one a line, for each transport.
    #[arg(long)]
    pub(super) json: bool,
}

impl Arguments {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.sessions == 0 || self.sessions > 1_000_000 {
            return Err("--sessions: 1 to 1000000".into());
        }
        if self.duration.is_zero() {
            return Err("--duration: above 0".into());
        }
        Ok(())
    }
}
