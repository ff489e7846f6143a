//! `weir top`: the most published payloads of a topic; or, on the daemon's machine, its sessions and topics.

mod columns;
mod screen;
mod table;
mod watch;

use super::arguments::{self, Connection};
use super::printer::{Printer, interruptible};
use crate::console::output::Output;
use clap::{ArgGroup, Args};
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use watch::{INTERVAL, Order, View};

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(
    group = ArgGroup::new("what").required(true),
    after_help = "\
Examples:
  weir top demo/a                    the most published payloads of a topic
  weir top demo/a -k 3 --json
  weir top votes --watch
  weir top --sessions                who is connected to the daemon on this machine, live
  weir top --topics --sort bytes     what is published, live: q quits, s sorts, Tab changes
  weir top --sessions --json         the same once, one object a line"
)]
pub(super) struct Arguments {
    /// The topic.
    #[arg(value_parser = arguments::readable_topic, group = "what")]
    topic: Option<String>,
    /// Show the sessions of the daemon on this machine.
    #[arg(long, group = "what")]
    sessions: bool,
    /// Show the topics of the daemon on this machine.
    #[arg(long, group = "what")]
    topics: bool,
    /// Number of payloads; the daemon keeps 100.
    #[arg(short, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    k: u32,
    /// Order of sessions and topics. Sessions: delivered (default), received, backlog, skipped, rtt, age.
    /// Topics: rate (default), bytes, messages, subscriptions, name.
    #[arg(long, value_name = "ORDER", conflicts_with = "topic")]
    sort: Option<Order>,
    /// Number of sessions or topics that are printed.
    #[arg(long, value_name = "N", conflicts_with = "topic", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    most: u32,
    /// Address of the daemon's metrics and health (`ops.listen`), on this machine.
    #[arg(
        long,
        value_name = "ADDRESS",
        conflicts_with = "topic",
        default_value = "127.0.0.1:9090"
    )]
    ops: SocketAddr,
    /// Show it again every second. Sessions and topics are, on a terminal.
    #[arg(long)]
    watch: bool,
    /// Print sessions and topics once, also on a terminal.
    #[arg(long, conflicts_with_all = ["topic", "watch"])]
    plain: bool,
    /// Print JSON objects, one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { topic, k, watch, json, connection, .. } = arguments;
    let Some(topic) = topic else {
        let Arguments { sessions, sort, most, ops, plain, .. } = arguments;
        let view = View::new(sessions, sort)?;
        let live = !plain && !json && std::io::stdout().is_terminal();
        return watch::run(view, ops, most, (live, watch, json)).await;
    };
    let output = Output::new(json);
    let clear = watch && !json && std::io::stdout().is_terminal();
    let client = connection.connect().await?;
    let mut printer = Printer::start()?;
    let printed = async {
        let mut every = tokio::time::interval(INTERVAL);
        loop {
            printer.unless_interrupted(every.tick()).await?;
            let ranking = printer.unless_interrupted(client.top(&topic, k)).await??;
            let mut lines = Vec::new();
            if clear {
                lines.extend(b"\x1b[H\x1b[2J");
            }
            for (index, entry) in ranking.iter().enumerate() {
                lines.extend(output.ranking(&topic, index + 1, entry)?);
            }
            printer.print(&lines).await?;
            if !watch {
                return printer.finish().await;
            }
        }
    };
    let printed = printed.await;
    client.close().await;
    interruptible(printed)
}
