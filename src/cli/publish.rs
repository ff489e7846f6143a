//! `weir pub`: publishes a payload, a file, or lines.

use super::arguments::{self, Connection};
use super::reconnecting;
use crate::Client;
use crate::client::{Accepted, PendingReceipt, PublishError, SessionClosed};
use crate::console::output::Output;
use crate::wire::Refusal;
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
  tail -f log | weir pub logs/web --lines --json
  read-sensor | weir pub sensors/1 --lines --realtime

With --lines, weir connects again when the session is lost, and sends the lines that have no receipt
once more. Each is accepted once. It reads no further lines while too many wait.")]
pub(super) struct Arguments {
    /// Topic to publish to: segments separated by slashes.
    #[arg(value_parser = arguments::topic)]
    topic: String,
    /// Payload; without it, --file or --lines, all of standard input.
    #[arg(conflicts_with_all = ["file", "lines"])]
    payload: Option<String>,
    /// Publish the content of this file.
    #[arg(long, value_name = "F", conflicts_with = "lines")]
    file: Option<PathBuf>,
    #[command(flatten)]
    lines: Lines,
    /// Publish in datagrams, for data that is worth most while it is new. Each message is accepted
    /// once, as always, but without a receipt, and in the order of arrival.
    #[arg(long)]
    realtime: bool,
    /// Print receipts as JSON objects, one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
struct Lines {
    /// Publish each line of standard input as it comes, without its line end.
    #[arg(long)]
    lines: bool,
    /// With --lines: fail when the session is lost, in place of connecting again.
    #[arg(long, requires = "lines", conflicts_with_all = ["payload", "file"])]
    no_reconnect: bool,
}

/// Maximum number of publications without a receipt. Receipts are printed in order.
const AHEAD: usize = 1024;

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { topic, payload, file, lines, realtime, json, connection } = arguments;
    let output = Output::new(json);
    if lines.lines {
        let client = connection.connect_with(reconnecting::policy(lines.no_reconnect)).await?;
        return publish_lines(client, &topic, realtime, &output).await;
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
    let published = async {
        send(&client, &topic, payload, realtime).await?.print(&output, &topic, size).await
    };
    let published = published.await;
    // Also after a refusal: otherwise the session stays until it times out.
    client.close().await;
    published
}

// A publication in flight, with or without a receipt.
enum Pending {
    Receipt(PendingReceipt),
    Accepted(Accepted),
}

async fn send(
    client: &Client,
    topic: &str,
    payload: Bytes,
    realtime: bool,
) -> Result<Pending, PublishError> {
    Ok(if realtime {
        Pending::Accepted(client.send_realtime(topic, payload).await?)
    } else {
        Pending::Receipt(client.send(topic, payload).await?)
    })
}

impl Pending {
    async fn print(self, output: &Output, topic: &str, size: usize) -> anyhow::Result<()> {
        match self {
            Self::Receipt(receipt) => Output::print(output.receipt(topic, size, &receipt.await?))?,
            Self::Accepted(accepted) => {
                accepted.await?;
                Output::print(output.accepted(topic, size))?;
            }
        }
        Ok(())
    }
}

// The same, but waits for a session while as many publications wait as may.
async fn send_or_wait(
    client: &Client,
    topic: &str,
    payload: Bytes,
    realtime: bool,
) -> anyhow::Result<Pending> {
    loop {
        match send(client, topic, payload.clone(), realtime).await {
            Err(PublishError::Backlog { .. }) => client.open().await?,
            sent => return Ok(sent?),
        }
    }
}

async fn publish_lines(
    client: Client,
    topic: &str,
    realtime: bool,
    output: &Output,
) -> anyhow::Result<()> {
    let (sender, mut receipts) = mpsc::channel::<(usize, Pending)>(AHEAD);
    let publish = async {
        // Moved in, so that it is dropped at the end, which ends the printing.
        let sender = sender;
        let mut input = BufReader::new(tokio::io::stdin());
        let mut line = Vec::new();
        while input.read_until(b'\n', &mut line).await? > 0 {
            let end = line.strip_suffix(b"\n").unwrap_or(&line);
            let end = end.strip_suffix(b"\r").unwrap_or(end).len();
            line.truncate(end);
            let payload = Bytes::from(std::mem::take(&mut line));
            let size = payload.len();
            let pending = send_or_wait(&client, topic, payload, realtime).await?;
            if sender.send((size, pending)).await.is_err() {
                break;
            }
        }
        anyhow::Ok(())
    };
    let print = async {
        while let Some((size, pending)) = receipts.recv().await {
            pending.print(output, topic, size).await?;
        }
        anyhow::Ok(())
    };
    let states = (client.watch_state(), client.watch_notice());
    let noticed = |notice: Option<&Refusal>| Output::print(output.notice(notice));
    let interrupted =
        |why: &SessionClosed| Output::print(output.interrupted(why.code, &why.reason));
    let published = tokio::select! {
        done = async { tokio::try_join!(publish, print) } => done.map(drop),
        failed = reconnecting::report(states, interrupted, noticed) => failed,
    };
    client.close().await;
    published
}
