//! `weir ping`: measures round trips through a session.

use super::arguments::Connection;
use super::printer::{Printer, interruptible};
use crate::console::output::Output;
use clap::Args;
use serde_json::json;
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir ping
  weir ping --server edge.example:4433 --count 10 --json")]
pub(super) struct Arguments {
    /// Number of pings.
    #[arg(long, short, value_name = "N", default_value_t = 4)]
    count: u32,
    /// Print JSON objects, one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Interval between pings.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { count, json, connection } = arguments;
    let output = Output::new(json);
    let start = Instant::now();
    let client = connection.connect().await?;
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let transport = client.transport();
    let value = json!({ "event": "connected", "transport": transport.to_string(), "ms": ms });
    let connected = format!("connected over {transport} in {ms:.1} ms");
    let mut printer = Printer::start()?;
    let printed = async {
        printer.print(&output.value(&value, &connected)?).await?;
        let mut every = tokio::time::interval(PAUSE);
        for sequence in 1..=count {
            printer.unless_interrupted(every.tick()).await?;
            let took = printer.unless_interrupted(client.ping()).await??;
            printer.print(&output.ping(sequence, took)?).await?;
        }
        printer.finish().await
    };
    let printed = printed.await;
    client.close().await;
    interruptible(printed)
}
