//! `weir doctor`: checks each part of the way from here to the daemon, and says what is wrong.

mod certificate;
mod check;
mod verdict;

use super::arguments::Connection;
use crate::client::connect::{addresses, malformed, split};
use crate::client::{Client, ConnectError};
use crate::console::output::Output;
use crate::net::quic::socket;
use crate::{Transport, client::PathStats};
use check::{Check, Status};
use clap::Args;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use verdict::Verdict;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir doctor
  weir doctor --server edge.example:4433
  weir doctor --server edge.example --json

Checks the name, raw QUIC, WebTransport, WebSocket, the certificate, the clocks, the path's packet size \
and this machine's UDP buffers. It opens three sessions and publishes nothing.
Exit codes: 0 everything works or only warnings, 1 something failed.")]
pub(super) struct Arguments {
    /// Print JSON objects, one for each check and one for the verdict.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Maximum time after which the path's packet size is looked at. The search takes some round trips.
const SEARCH: Duration = Duration::from_secs(1);
/// Number of pings for the clock and the round trip.
const PINGS: usize = 5;
/// Difference of the clocks above which there is a warning. Tokens are valid for minutes.
const CLOCK: Duration = Duration::from_secs(2);
/// UDP payloads that fit Ethernet with IPv6. With less, a payload needs more packets.
const USUAL_MTU: u16 = 1350;
/// Size of a socket's buffer for 2 ms at one gigabit a second, bytes.
const BUFFER: usize = 256 << 10;

/// Prints the checks as they end.
struct Report {
    output: Output,
    worst: Status,
}

impl Report {
    fn print(&mut self, check: &Check) -> anyhow::Result<()> {
        let Check { name, status, text, advice, facts } = check;
        if *status == Status::Failed || self.worst == Status::Good {
            self.worst = *status;
        }
        let value = json!({
            "check": name, "status": status.name(), "text": text, "advice": advice, "facts": facts,
        });
        let advice = advice.iter().map(|advice| format!("\n{:24}→ {advice}", ""));
        let shown = format!("{:<9}{name:<15}{text}{}", status.name(), advice.collect::<String>());
        Ok(Output::print(self.output.value(&value, &shown))?)
    }
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { json, connection } = arguments;
    let mut report = Report { output: Output::new(json), worst: Status::Good };
    let server = connection.server();
    let (host, port) = split(server).ok_or_else(|| malformed(server))?;
    report.print(&buffers())?;
    let start = Instant::now();
    let found = match addresses(server, host, port).await {
        Ok(found) => found,
        Err(error) => {
            let check = Check::good("name", error.to_string(), json!({ "host": host }));
            let advice = "check the spelling, the DNS, and the network of this machine";
            report.print(&check.not(Status::Failed, advice))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    report.print(&name(host, &found, start.elapsed()))?;
    let mut verdict = Verdict::default();
    let mut clock = None;
    for transport in [Transport::Quic, Transport::WebTransport, Transport::WebSocket] {
        let start = Instant::now();
        let connected = connection.connect_over(transport).await?;
        let took = start.elapsed();
        match connected {
            Ok(client) => {
                let (check, offset) = session(transport, &client, took).await;
                report.print(&check)?;
                clock = clock.or(offset);
                if transport == Transport::Quic
                    && let Some(path) = client.path()
                {
                    report.print(&packets(&path))?;
                }
                client.close().await;
                verdict.works(transport);
            }
            Err(error) => {
                report.print(&refused(transport, &error, took))?;
                verdict.fails(transport, error);
            }
        }
    }
    if let Some((ahead, error)) = clock {
        report.print(&clocks(ahead, error))?;
    }
    for check in certificate::checks(server, host).await {
        report.print(&check)?;
    }
    let (text, advice) = verdict.text(server, port);
    let works = report.worst != Status::Failed;
    let value = json!({ "event": "verdict", "works": works, "text": text, "advice": advice });
    let advice = advice.map_or_else(String::new, |advice| format!("\n→ {advice}"));
    Output::print(report.output.value(&value, &format!("\n{text}{advice}")))?;
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.
}

fn buffers() -> Check {
    let sizes = socket::bind((Ipv4Addr::UNSPECIFIED, 0).into());
    let sizes = sizes.and_then(|socket| socket::buffers(&socket));
    let (receive, send) = match sizes {
        Ok(sizes) => sizes,
        Err(error) => {
            let check = Check::good("buffers", format!("no UDP socket: {error}"), json!({}));
            return check.not(Status::Failed, "let this program open UDP sockets");
        }
    };
    let facts = json!({ "receive": receive, "send": send });
    let kib = |bytes| bytes >> 10;
    let text = format!(
        "UDP sockets here get {} KiB to receive and {} KiB to send",
        kib(receive),
        kib(send)
    );
    let check = Check::good("buffers", text, facts);
    if receive.min(send) < BUFFER {
        let advice = format!(
            "packets are lost when this program is busy for some ms: raise net.core.rmem_max and \
             net.core.wmem_max (sysctl) to {BUFFER} or more"
        );
        return check.not(Status::Warning, advice);
    }
    check
}

fn name(host: &str, found: &[SocketAddr], took: Duration) -> Check {
    let mut addresses: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
    addresses.dedup();
    let facts = json!({ "host": host, "addresses": addresses, "ms": ms(took) });
    let text = format!("{host} is {}, found in {} ms", addresses.join(" and "), ms(took));
    Check::good("name", text, facts)
}

// Measures a session. Returns too how far the daemon's clock is ahead, µs, and the error of that.
async fn session(
    transport: Transport,
    client: &Client,
    took: Duration,
) -> (Check, Option<(i64, Duration)>) {
    let name = label(transport);
    let begin = Instant::now();
    let mut best: Option<(Duration, i64)> = None;
    for _ in 0..PINGS {
        let (rtt, clock) = match client.ping_clock().await {
            Ok(measured) => measured,
            Err(error) => {
                let text = format!("a session opened in {} ms, and broke: {error}", ms(took));
                let check = Check::good(name, text, json!({ "ms": ms(took) }));
                return (check.not(Status::Failed, "see the daemon's log for this session"), None);
            }
        };
        let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let here = u64::try_from(here.saturating_sub(rtt / 2).as_micros()).unwrap_or(u64::MAX);
        let ahead = clock.cast_signed().saturating_sub(here.cast_signed());
        if best.is_none_or(|(least, _)| rtt < least) {
            best = Some((rtt, ahead));
        }
    }
    // The search for the packet size needs time on the first session.
    while transport == Transport::Quic
        && begin.elapsed() < SEARCH
        && client.path().and_then(|path| path.mtu).is_some_and(|mtu| mtu < USUAL_MTU)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (rtt, ahead) = best.unwrap_or_default();
    let address = client.path().map(|path| path.address.to_string()).unwrap_or_default();
    let facts = json!({ "address": address, "connected_ms": ms(took), "rtt_ms": ms(rtt) });
    let text = format!("a session at {address} in {} ms; round trip {} ms", ms(took), ms(rtt));
    (Check::good(name, text, facts), Some((ahead, rtt / 2)))
}

fn label(transport: Transport) -> &'static str {
    match transport {
        Transport::Quic => "quic",
        Transport::WebTransport => "webtransport",
        Transport::WebSocket => "websocket",
    }
}

fn refused(transport: Transport, error: &ConnectError, took: Duration) -> Check {
    let facts = json!({ "ms": ms(took) });
    let check = Check::good(label(transport), error.to_string(), facts);
    Check { status: Status::Failed, ..check }
}

fn packets(path: &PathStats) -> Check {
    let mtu = path.mtu.unwrap_or_default();
    let (sent, lost) =
        (path.sent_packets.unwrap_or_default(), path.lost_packets.unwrap_or_default());
    let facts = json!({ "mtu": mtu, "sent": sent, "lost": lost });
    let check = Check::good("packets", format!("UDP payloads of {mtu} bytes pass"), facts);
    if mtu < USUAL_MTU {
        let advice = "a tunnel or a filter on the way holds larger packets back: everything works, \
                      and a payload needs more packets";
        return check.not(Status::Warning, advice);
    }
    check
}

fn clocks(ahead: i64, error: Duration) -> Check {
    let distance = Duration::from_micros(ahead.unsigned_abs());
    let facts = json!({ "daemon_ahead_ms": ahead / 1000, "error_ms": ms(error) });
    let (which, by) = (if ahead < 0 { "behind" } else { "ahead" }, ms(distance));
    let text = format!("the daemon's clock is {by} ms {which}, give or take {} ms", ms(error));
    let check = Check::good("clock", text, facts);
    if distance > CLOCK + error {
        let advice = "set both clocks (NTP): the daemon judges tokens and certificates by its own, \
                      and latencies from stamps are wrong by the difference";
        return check.not(Status::Warning, advice);
    }
    check
}
