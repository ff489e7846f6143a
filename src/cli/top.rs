//! `weir top`: shows the most published payloads of a topic.

use super::arguments::{self, Connection};
use super::printer::{Printer, interruptible};
use crate::console::output::Output;
use clap::Args;
use std::io::IsTerminal as _;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir top demo/a
  weir top demo/a -k 3 --json
  weir top votes --watch")]
pub(super) struct Arguments {
    /// The topic.
    #[arg(value_parser = arguments::readable_topic)]
    topic: String,
    /// Number of payloads; the daemon keeps 100.
    #[arg(short, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    k: u32,
    /// Show them again every second.
    #[arg(long)]
    watch: bool,
    /// Print JSON objects, one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { topic, k, watch, json, connection } = arguments;
    let output = Output::new(json);
    let clear = watch && !json && std::io::stdout().is_terminal();
    let client = connection.connect().await?;
    let mut printer = Printer::start()?;
    let printed = async {
        let mut every = tokio::time::interval(Duration::from_secs(1));
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
