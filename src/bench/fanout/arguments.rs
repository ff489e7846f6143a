//! The arguments of `weir bench fanout`, and the numbers and lanes that follow from them.

use super::lane::{Lane, Mode, Subject};
use crate::Transport;
use crate::bench::sessions::Carriers;
use crate::bench::traffic::{HEADER, messages};
use crate::units::duration;
use bytesize::ByteSize;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// The first part is not measured, because caches and timers are cold after idling.
pub(super) const WARM_UP: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Each lane (a transport with a delivery mode, a yardstick) has a server in a process of its own,
started anew in each round; lanes of a round go one after the other, and the next round begins
with the next lane. Publishers and subscribers are in this process, each with a session and a
socket of its own. Every delivery is compared with what was sent, to the last byte.

CPU and memory are the server's, as the kernel accounts for them. On a machine whose cores the
load shares with the server, deliveries per second say little about the server: look at its
deliveries per second of CPU.

Examples:
  weir bench fanout
  weir bench fanout --mode ordered,realtime --compare
  weir bench fanout --chat --subscribers 100 --rate 1
  weir bench fanout --subscribers 1000 --rate 10 --transport webtransport
  weir bench fanout --rate max --workers 1,2 --compare
  weir bench fanout --duration 2s --rounds 1 --json")]
pub(crate) struct Arguments {
    /// Sessions that publish.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) publishers: u64,
    /// Sessions that are subscribed to what they all publish.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(super) subscribers: u64,
    /// The subscribers publish themselves, and all get everything.
    #[arg(long, conflicts_with = "publishers")]
    pub(super) chat: bool,
    /// Messages a second of each publisher; or max: as many as all subscribers get.
    #[arg(long, value_name = "HZ", default_value = "100", value_parser = rate)]
    pub(super) rate: Rate,
    /// With `--rate max`: messages on their way beyond what the slowest subscriber has.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(super) window: u64,
    /// Bytes in a message.
    #[arg(long, value_name = "BYTES", default_value = "100")]
    pub(super) size: ByteSize,
    #[command(flatten)]
    pub(super) carriers: Carriers,
    /// How messages are delivered; over WebSocket always in order.
    #[arg(
        long,
        value_enum,
        value_name = "MODES",
        value_delimiter = ',',
        default_value = "ordered"
    )]
    pub(super) mode: Vec<Mode>,
    /// Compare with WebSocket over TLS, and with nats-server, with and without TLS, if there is
    /// one.
    #[arg(long)]
    pub(super) compare: bool,
    /// Cores that the server runs on, each a lane of its own [default: all].
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub(super) workers: Vec<usize>,
    /// How long a lane sends in a round.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) duration: Duration,
    /// Rounds.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) rounds: u64,
    /// Print JSON objects, one a line: one for each lane of each round, and a summary.
    #[arg(long)]
    pub(super) json: bool,
    /// Plot the distributions of latency.
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
}

/// Messages a second of each publisher.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rate {
    Hz(f64),
    Max,
}

fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Rate::Max),
        Ok(hz) if hz > 0.0 && hz <= 100_000.0 => Ok(Rate::Hz(hz)),
        _ => Err("max, or messages a second: above 0, at most 100000".into()),
    }
}

impl Arguments {
    pub(super) fn check(&self) -> Result<(), String> {
        let wrong = |wrong, what: &str| if wrong { Err(what.to_owned()) } else { Ok(()) };
        let some = 1..=20_000;
        wrong(!some.contains(&self.publishers), "--publishers: 1 to 20000")?;
        wrong(!some.contains(&self.subscribers), "--subscribers: 1 to 20000")?;
        wrong(self.size.0 < HEADER as u64, &format!("--size: at least {HEADER} bytes"))?;
        wrong(self.size.0 > 1 << 20, "--size: at most 1MiB")?;
        wrong(self.rounds == 0, "--rounds: at least 1")?;
        wrong(!(1..=100_000).contains(&self.window), "--window: 1 to 100000")?;
        wrong(self.workers.contains(&0), "--workers: at least 1")?;
        wrong(self.duration < WARM_UP * 2, "--duration: at least 400ms")?;
        wrong(self.messages() == Some(0), "--rate: less than one message in --duration")?;
        let total = self.messages().unwrap_or(0).saturating_mul(self.senders());
        wrong(total > 10_000_000, "--rate and --duration: more than 10 million messages")
    }

    /// The messages of each publisher; `None` with `--rate max`.
    pub(super) fn messages(&self) -> Option<u64> {
        match self.rate {
            Rate::Hz(hz) => Some(messages(self.duration, hz)),
            Rate::Max => None,
        }
    }

    pub(super) fn senders(&self) -> u64 {
        if self.chat { self.subscribers } else { self.publishers }
    }

    pub(super) fn sessions(&self) -> u64 {
        if self.chat { self.subscribers } else { self.publishers + self.subscribers }
    }

    /// The lanes, in the order in which the report shows them.
    pub(super) fn lanes(&self, nats: bool) -> Vec<Lane> {
        let mut subjects = Vec::new();
        for transport in self.carriers.transports() {
            if transport == Transport::WebSocket {
                subjects.push(Subject::WEBSOCKET);
            } else {
                subjects.extend(self.mode.iter().map(|mode| Subject::Weir(transport, *mode)));
            }
        }
        if self.compare {
            subjects.push(Subject::WEBSOCKET);
        }
        if self.compare && nats {
            subjects.extend([false, true].map(|tls| Subject::Nats { tls }));
        }
        let cores = match &self.workers[..] {
            [] => vec![None],
            some => some.iter().copied().map(Some).collect(),
        };
        let mut lanes = Vec::new();
        for subject in subjects {
            for lane in cores.iter().map(|cores| Lane { subject, cores: *cores }) {
                if !lanes.contains(&lane) {
                    lanes.push(lane);
                }
            }
        }
        lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(words: &[&str]) -> Arguments {
        Command::try_parse_from([&["fanout"], words].concat()).unwrap().arguments
    }

    fn names(words: &[&str], nats: bool) -> Vec<String> {
        parse(words).lanes(nats).iter().map(Lane::to_string).collect()
    }

    #[test]
    fn lanes_are_each_once_and_the_yardsticks_last() {
        assert_eq!(names(&[], true), ["quic ordered"]);
        let words = ["--transport", "websocket,quic", "--mode", "ordered,realtime", "--compare"];
        assert_eq!(names(&words, false), ["websocket", "quic ordered", "quic realtime"]);
        let words = ["--compare", "--workers", "1,2"];
        let expected = ["quic ordered", "websocket", "nats, plain", "nats, TLS"];
        let expected = expected.map(|one| [format!("{one}, 1 core"), format!("{one}, 2 cores")]);
        assert_eq!(names(&words, true), expected.concat());
    }

    #[test]
    fn the_numbers_of_senders_and_messages_are_computed() {
        let chat = parse(&["--chat", "--rate", "1"]);
        assert_eq!((chat.senders(), chat.sessions(), chat.messages()), (100, 100, Some(10)));
        let max = parse(&["--publishers", "3", "--rate", "max"]);
        assert_eq!((max.senders(), max.sessions(), max.messages()), (3, 103, None));
        for bad in [["--rate", "0"], ["--rate", "0.01"], ["--size", "8"], ["--workers", "0"]] {
            let parsed = Command::try_parse_from([&["fanout"], &bad[..]].concat());
            assert!(parsed.is_err() || parse(&bad).check().is_err(), "{bad:?}");
        }
    }
}
