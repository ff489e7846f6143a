//! `weir pub`: publish.

use super::Connection;
use super::output::Output;
use crate::client::PendingReceipt;
use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use std::path::PathBuf;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::sync::mpsc;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir pub demo/a hello
  weir pub maps/tile/7 --file tile.png
  date | weir pub demo/a
  tail -f log | weir pub logs/web --lines --json")]
pub(super) struct Arguments {
    /// Where to publish: segments with slashes between.
    topic: String,
    /// What to publish; without it, --file or --lines, all of standard input.
    #[arg(conflicts_with_all = ["file", "lines"])]
    payload: Option<String>,
    /// Publish what is in this file.
    #[arg(long, value_name = "F", conflicts_with = "lines")]
    file: Option<PathBuf>,
    /// Publish each line of standard input as it comes, without its line end.
    #[arg(long)]
    lines: bool,
    /// Print receipts as JSON objects, one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Receipts waited for at once, in order.
const AHEAD: usize = 1024;

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { topic, payload, file, lines, json, connection } = arguments;
    let output = Output::new(json);
    if lines {
        return publish_lines(&topic, &output, &connection).await;
    }
    let payload: Bytes = match (payload, file) {
        (Some(payload), _) => payload.into(),
        (None, Some(file)) => {
            let read = std::fs::read(&file);
            read.with_context(|| file.display().to_string())?.into()
        }
        (None, None) => {
            let mut payload = Vec::new();
            tokio::io::stdin().read_to_end(&mut payload).await?;
            payload.into()
        }
    };
    let client = connection.connect().await?;
    let size = payload.len();
    let receipt = client.publish(&topic, payload).await?;
    output.receipt(&topic, size, &receipt)?;
    client.close().await;
    Ok(())
}

async fn publish_lines(
    topic: &str,
    output: &Output,
    connection: &Connection,
) -> anyhow::Result<()> {
    let client = connection.connect().await?;
    let (sender, mut receipts) = mpsc::channel::<(usize, PendingReceipt)>(AHEAD);
    let publish = async {
        // Dropped at the end, so that printing ends too.
        let sender = sender;
        let mut input = BufReader::new(tokio::io::stdin());
        let mut line = Vec::new();
        while input.read_until(b'\n', &mut line).await? > 0 {
            let end = line.strip_suffix(b"\n").unwrap_or(&line);
            let end = end.strip_suffix(b"\r").unwrap_or(end).len();
            line.truncate(end);
            let payload = Bytes::from(std::mem::take(&mut line));
            let size = payload.len();
            let pending = client.send(topic, payload).await?;
            if sender.send((size, pending)).await.is_err() {
                break;
            }
        }
        anyhow::Ok(())
    };
    let print = async {
        while let Some((size, pending)) = receipts.recv().await {
            output.receipt(topic, size, &pending.await?)?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(publish, print)?;
    client.close().await;
    Ok(())
}
