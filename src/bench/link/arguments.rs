//! The arguments of `weir bench link`.

use super::mode::Mode;
use super::model::Spec;
use super::plan::WARM_UP;
use crate::Transport;
use crate::bench::traffic::HEADER;
use crate::bench::units::{Rate, percent, rate};
use crate::units::duration;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Each mode gets a daemon, a link and clients of its own, in network namespaces of their own; all
modes of a run go side by side. Needs Linux with /dev/net/tun, unshare (util-linux) and ip
(iproute2), and root or user namespaces.

Examples:
  weir bench link
  weir bench link --loss 3% --burst 3 --legs both
  weir bench link --modes ordered,websocket-cubic --duration 10s --runs 1 --json
  weir bench link --loss 2% --outage 30ms
  weir bench link --rate 1Mbit --queue 200ms --loss 0% --bulk 10MB
  weir bench link --loss 30% --loss-until 10s
  weir bench link --svg latency.svg
  weir bench link --loss 3% --run 'weir ping'")]
pub(crate) struct Arguments {
    /// Delay of the link, one way.
    #[arg(long, value_name = "TIME", default_value = "25ms", value_parser = duration)]
    pub(super) delay: Duration,
    /// Share of packets that are lost, each way.
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = percent)]
    pub(super) loss: f64,
    /// Mean number of packets lost in a row; 1 = each is lost by itself.
    #[arg(long, value_name = "PACKETS", default_value_t = 1.0)]
    pub(super) burst: f64,
    /// Mean length of outages in which everything is lost, in place of --burst. Their share of the
    /// time is --loss.
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "burst")]
    pub(super) outage: Option<Duration>,
    /// Lose packets for this long after the start, then none.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) loss_until: Option<Duration>,
    /// Bottleneck, each way: none, or such as 1Mbit.
    #[arg(long, default_value = "none", value_parser = rate)]
    pub(super) rate: Rate,
    /// Length of the queue before the bottleneck, in time; packets beyond it are dropped.
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = duration)]
    pub(super) queue: Duration,
    /// Seed that decides which packets are lost, the same in all modes of a run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Messages a second. Each is sent when it is due, even if those before are delayed.
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    pub(super) hz: f64,
    /// Bytes in a message.
    #[arg(long, value_name = "BYTES", default_value = "200")]
    pub(super) size: ByteSize,
    /// How long a run sends.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(super) duration: Duration,
    /// Runs; each has a seed of its own.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) runs: u64,
    /// Position of the link.
    #[arg(long, value_enum, default_value_t)]
    pub(super) legs: Legs,
    /// Modes to compare.
    #[arg(
        long,
        value_enum,
        value_name = "MODES",
        value_delimiter = ',',
        default_value = "realtime,unordered,ordered,websocket-cubic,websocket-bbr"
    )]
    pub(super) modes: Vec<Mode>,
    /// Transport of the modes that are not WebSocket.
    #[arg(long, value_enum, default_value_t)]
    pub(super) transport: Quic,
    /// Publish a payload of this size beside the messages. The same client subscribes to its topic
    /// in `unordered`. Only messages that are due while it is in flight are measured.
    #[arg(long, value_name = "SIZE")]
    pub(super) bulk: Option<ByteSize>,
    /// Print JSON objects, one a line: one for each mode of each run, and a summary.
    #[arg(long)]
    pub(super) json: bool,
    /// Plot the distributions of latency.
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
    /// Measure nothing: run this program on the far side, with the daemon's page in `$WEIR_URL`, its
    /// address in `$WEIR_SERVER` and its certificate's hash in `$WEIR_CERT_HASH`.
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["json", "svg", "bulk"])]
    pub(super) run: Option<String>,
    /// Set in the process inside the namespaces.
    #[arg(long, hide = true)]
    pub(super) inside: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Legs {
    /// Between daemon and subscriber; the publisher is beside the daemon.
    #[default]
    Subscriber,
    /// Publisher and subscriber are both on its far side: a message crosses it twice.
    Both,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Quic {
    /// Raw QUIC.
    #[default]
    Quic,
    /// WebTransport, as browsers use it.
    #[value(name = "webtransport")]
    WebTransport,
}

impl Arguments {
    pub(super) fn check(&self) -> Result<(), String> {
        let wrong = |wrong, what: &str| if wrong { Err(what.to_owned()) } else { Ok(()) };
        wrong(self.burst < 1.0, "--burst: at least 1")?;
        wrong(!self.spec().possible(), "--loss: more than bursts of this length can lose")?;
        wrong(!(self.hz > 0.0 && self.hz <= 10_000.0), "--hz: above 0, at most 10000")?;
        wrong(
            self.size.0 < HEADER as u64,
            &format!("--size: at least {HEADER} bytes, to recognise a message by"),
        )?;
        wrong(self.duration <= WARM_UP, "--duration: more than the first second, not measured")?;
        wrong(self.runs == 0, "--runs: at least 1")?;
        let twice = self.modes.iter().enumerate().any(|(n, mode)| self.modes[..n].contains(mode));
        wrong(twice, "--modes: each once")
    }

    pub(super) fn spec(&self) -> Spec {
        Spec {
            delay: self.delay,
            loss: self.loss,
            burst: self.burst,
            outage: self.outage,
            loss_for: self.loss_until,
            rate: self.rate.0,
            queue: self.queue,
        }
    }

    pub(super) fn transport_of(&self, mode: Mode) -> Transport {
        match (mode.congestion(), self.transport) {
            (Some(_), _) => Transport::WebSocket,
            (None, Quic::Quic) => Transport::Quic,
            (None, Quic::WebTransport) => Transport::WebTransport,
        }
    }
}
