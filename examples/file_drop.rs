//! A file drop: files go to whoever is there, while they arrive, and to whoever comes later.
//!
//! ```text
//! weir serve
//! cargo run --release --example file_drop -- receive inbox
//! cargo run --release --example file_drop -- send Cargo.lock README.md
//! ```
//!
//! Without arguments, a sender and a receiver of one process exchange this source file.

use std::error::Error;
use std::path::Path;
use weir::client::Reconnect;
use weir::{Client, Daemon, Event, Start, SubscribeOptions, Trust};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

async fn send(client: &Client, file: &Path) -> Result {
    let name = file.file_name().ok_or("it has no name")?.to_string_lossy();
    let bytes = tokio::fs::read(file).await?;
    // Above 64 KiB the client sends it in pieces, and the daemon relays each at once.
    let receipt = client.publish(&format!("drop/{name}"), bytes).await?;
    println!("sent {name}: version {}, BLAKE3 {}", receipt.sequence, receipt.digest);
    Ok(())
}

async fn receive(client: &Client, directory: &Path, files: usize) -> Result {
    let newest = SubscribeOptions::from(Start::Latest);
    let mut drop = client.subscribe("drop/*", &newest).await?;
    let mut received = 0;
    while received < files {
        match drop.next().await.transpose()?.ok_or("the session ended")? {
            Event::Message(message) => {
                // A topic's last segment has no slash. It may still be `..`.
                let name = message.topic.rsplit('/').next().unwrap_or_default();
                if matches!(name, "" | "." | "..") {
                    continue;
                }
                tokio::fs::write(directory.join(name), &message.payload).await?;
                println!("received {name}: {} bytes", message.payload.len());
                received += 1;
            }
            Event::Gap(gap) => {
                println!("{}: versions {} to {} are gone", gap.topic, gap.first, gap.last);
            }
            _ => {}
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("send") => {
            let client = Client::connect("localhost:4433").await?;
            for file in &arguments[1..] {
                send(&client, Path::new(file)).await?;
            }
            client.close().await;
        }
        Some("receive") => {
            let directory = Path::new(arguments.get(1).map_or(".", String::as_str));
            tokio::fs::create_dir_all(directory).await?;
            receive(&Client::connect("localhost:4433").await?, directory, usize::MAX).await?;
        }
        _ => {
            let daemon = Daemon::builder().listen(([127, 0, 0, 1], 0).into()).spawn().await?;
            let client = Client::builder(daemon.local_addr().to_string())
                .trust(Trust::Pinned(daemon.certificate_hash().into()))
                .reconnect(Reconnect::never())
                .connect()
                .await?;
            let inbox = std::env::temp_dir().join(format!("weir-drop-{}", std::process::id()));
            tokio::fs::create_dir_all(&inbox).await?;
            send(&client, Path::new(file!())).await?;
            receive(&client, &inbox, 1).await?;
            tokio::fs::remove_dir_all(&inbox).await?;
        }
    }
    Ok(())
}
