//! `weir bench link`: delivery modes side by side, each over its own emulated link.

mod emulator;
mod figures;
mod guest;
mod host;
mod lane;
mod model;
mod namespaces;
mod publisher;
mod receiver;
mod report;
mod runs;

use super::traffic::HEADER;
use super::units::{Rate, percent, rate, usage};
use crate::Transport;
use crate::console::units::duration;
use crate::wire::Delivery;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Messages of the first second are not measured, because congestion windows are still opening.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);

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
    delay: Duration,
    /// Share of packets that are lost, each way.
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = percent)]
    loss: f64,
    /// Mean number of packets lost in a row; 1 = each is lost by itself.
    #[arg(long, value_name = "PACKETS", default_value_t = 1.0)]
    burst: f64,
    /// Mean length of outages in which everything is lost, in place of --burst. Their share of the
    /// time is --loss.
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "burst")]
    outage: Option<Duration>,
    /// Lose packets for this long after the start, then none.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    loss_until: Option<Duration>,
    /// Bottleneck, each way: none, or such as 1Mbit.
    #[arg(long, default_value = "none", value_parser = rate)]
    rate: Rate,
    /// Length of the queue before the bottleneck, in time; packets beyond it are dropped.
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = duration)]
    queue: Duration,
    /// Seed that decides which packets are lost, the same in all modes of a run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Messages a second. Each is sent when it is due, even if those before are delayed.
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    hz: f64,
    /// Bytes in a message.
    #[arg(long, value_name = "BYTES", default_value = "200")]
    size: ByteSize,
    /// How long a run sends.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    duration: Duration,
    /// Runs; each has a seed of its own.
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: u64,
    /// Position of the link.
    #[arg(long, value_enum, default_value_t)]
    legs: Legs,
    /// Modes to compare.
    #[arg(
        long,
        value_enum,
        value_name = "MODES",
        value_delimiter = ',',
        default_value = "realtime,unordered,ordered,websocket-cubic,websocket-bbr"
    )]
    modes: Vec<Mode>,
    /// Transport of the modes that are not WebSocket.
    #[arg(long, value_enum, default_value_t)]
    transport: Quic,
    /// Publish a payload of this size beside the messages. The same client subscribes to its topic
    /// in `unordered`. Only messages that are due while it is in flight are measured.
    #[arg(long, value_name = "SIZE")]
    bulk: Option<ByteSize>,
    /// Print JSON objects, one a line: one for each mode of each run, and a summary.
    #[arg(long)]
    json: bool,
    /// Plot the distributions of latency.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure nothing: run this program on the far side, with the daemon's page in `$WEIR_URL`, its
    /// address in `$WEIR_SERVER` and its certificate's hash in `$WEIR_CERT_HASH`.
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["json", "svg", "bulk"])]
    run: Option<String>,
    /// Set in the process inside the namespaces.
    #[arg(long, hide = true)]
    inside: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Legs {
    /// Between daemon and subscriber; the publisher is beside the daemon.
    #[default]
    Subscriber,
    /// Publisher and subscriber are both on its far side: a message crosses it twice.
    Both,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Quic {
    /// Raw QUIC.
    #[default]
    Quic,
    /// WebTransport, as browsers use it.
    #[value(name = "webtransport")]
    WebTransport,
}

/// A delivery mode, or WebSocket with a congestion control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Datagrams, repaired from the cache.
    Realtime,
    /// A stream for each message.
    Unordered,
    /// One stream.
    Ordered,
    /// WebSocket over TLS; CUBIC is what most servers run.
    WebsocketCubic,
    /// WebSocket over TLS; BBR.
    WebsocketBbr,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Unordered => "unordered",
            Self::Ordered => "ordered",
            Self::WebsocketCubic => "websocket-cubic",
            Self::WebsocketBbr => "websocket-bbr",
        }
    }

    /// The congestion control of TCP at both ends.
    fn congestion(self) -> Option<&'static str> {
        match self {
            Self::WebsocketCubic => Some("cubic"),
            Self::WebsocketBbr => Some("bbr"),
            _ => None,
        }
    }

    fn delivery(self) -> Delivery {
        match self {
            Self::Realtime => Delivery::Realtime,
            Self::Unordered => Delivery::Unordered,
            Self::Ordered | Self::WebsocketCubic | Self::WebsocketBbr => Delivery::Ordered,
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Arguments {
    fn check(&self) -> Result<(), String> {
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

    fn spec(&self) -> model::Spec {
        model::Spec {
            delay: self.delay,
            loss: self.loss,
            burst: self.burst,
            outage: self.outage,
            loss_for: self.loss_until,
            rate: self.rate.0,
            queue: self.queue,
        }
    }

    fn transport_of(&self, mode: Mode) -> Transport {
        match (mode.congestion(), self.transport) {
            (Some(_), _) => Transport::WebSocket,
            (None, Quic::Quic) => Transport::Quic,
            (None, Quic::WebTransport) => Transport::WebTransport,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<std::process::ExitCode> {
    usage(arguments.check());
    host::check()?;
    if let (true, Some(program)) = (arguments.inside, &arguments.run) {
        return guest::run(program, &arguments.spec(), arguments.seed);
    }
    if arguments.inside {
        return runs::run(arguments).map(|()| std::process::ExitCode::SUCCESS);
    }
    // The process inside has printed its error.
    let code = namespaces::enter()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(1).into())
}
