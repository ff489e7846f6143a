//! `weir get`: fetches one payload from the cache.

use super::arguments::{self, Connection};
use crate::console::output::Output;
use crate::console::terminal;
use crate::wire::{Digest, Which};
use anyhow::Context as _;
use clap::Args;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir get demo/a                        the newest payload
  weir get demo/a --sequence 7 --json
  weir get maps/tile/7 --output tile.png")]
pub(super) struct Arguments {
    /// The topic.
    #[arg(value_parser = arguments::readable_topic)]
    topic: String,
    /// The newest message with this payload.
    #[arg(long, value_name = "HEX", conflicts_with = "sequence")]
    digest: Option<Digest>,
    /// The message with this sequence.
    #[arg(long, value_name = "N")]
    sequence: Option<u64>,
    /// Write the payload to this file.
    #[arg(long, short, value_name = "F")]
    output: Option<PathBuf>,
    /// Print the whole message as a JSON object, in place of its payload.
    #[arg(long, conflicts_with = "output")]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { topic, digest, sequence, output, json, connection } = arguments;
    let which = match (digest, sequence) {
        (Some(digest), _) => Which::Digest(digest),
        (None, Some(sequence)) => Which::Sequence(sequence),
        (None, None) => Which::Latest,
    };
    let client = connection.connect().await?;
    let message = client.get(&topic, which).await;
    // Also after a refusal: otherwise the session stays until it times out.
    client.close().await;
    let message = message?;
    match output {
        Some(file) => {
            let written = std::fs::write(&file, &message.payload);
            written.with_context(|| file.display().to_string())?;
        }
        None if json => Output::print(Output::new(true).message(&message))?,
        None => {
            let mut out = std::io::stdout().lock();
            if out.is_terminal() {
                let text = std::str::from_utf8(&message.payload).ok().with_context(|| {
                    let size = message.payload.len();
                    format!(
                        "{size} bytes that are not text: into a file with --output F, or a pipe"
                    )
                })?;
                out.write_all(terminal::lines(text).as_bytes())?;
            } else {
                out.write_all(&message.payload)?;
            }
            out.flush()?;
        }
    }
    Ok(())
}
