//! A bridge from another source: each line that comes in over TCP is published. Others may send with
//! `nc`, a log shipper or a microcontroller.
//!
//! ```text
//! weir serve
//! cargo run --release --example bridge -- 127.0.0.1:5140 lines
//! weir sub 'lines/*' & echo hello | nc -N 127.0.0.1 5140
//! ```
//!
//! Without arguments, it starts a daemon in this process and sends itself three lines.

use std::error::Error;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use weir::client::Reconnect;
use weir::{Client, Daemon, Trust};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Maximum length of a line. A peer without line ends fills no memory.
const LINE: u64 = 16 << 10;

// Publishes the lines of one peer, in order. `send` waits for room and not for each receipt, so that a
// daemon that is slow, or away for a moment, slows the peer down.
async fn relay(client: Client, topic: Arc<str>, peer: TcpStream) -> Result<u64> {
    let mut lines = BufReader::new(peer);
    let (mut line, mut last, mut count) = (Vec::new(), None, 0);
    while (&mut lines).take(LINE).read_until(b'\n', &mut line).await? > 0 {
        let payload = std::mem::take(&mut line);
        let payload = payload.strip_suffix(b"\n").unwrap_or(&payload).to_vec();
        last = Some(client.send(&topic, payload).await?);
        count += 1;
    }
    if let Some(last) = last {
        // Receipts of one topic come in order.
        last.await?;
    }
    Ok(count)
}

async fn serve(client: Client, listener: TcpListener, topic: String) -> Result {
    loop {
        let (peer, address) = listener.accept().await?;
        let topic = format!("{topic}/{}", address.ip().to_string().replace(':', "-"));
        let client = client.clone();
        tokio::spawn(async move {
            match relay(client, topic.into(), peer).await {
                Ok(count) => println!("{address}: {count} lines"),
                Err(error) => eprintln!("{address}: {error}"),
            }
        });
    }
}

#[tokio::main]
async fn main() -> Result {
    let mut arguments = std::env::args().skip(1);
    if let Some(listen) = arguments.next() {
        let topic = arguments.next().unwrap_or_else(|| "lines".into());
        // It connects again by itself, and sends again what has no receipt.
        let client = Client::connect("localhost:4433").await?;
        return serve(client, TcpListener::bind(listen).await?, topic).await;
    }
    let daemon = Daemon::builder().listen(([127, 0, 0, 1], 0).into()).spawn().await?;
    let client = Client::builder(daemon.local_addr().to_string())
        .trust(Trust::Pinned(daemon.certificate_hash().into()))
        .reconnect(Reconnect::never())
        .connect()
        .await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut source = TcpStream::connect(listener.local_addr()?).await?;
    source.write_all(b"one\ntwo\nthree\n").await?;
    drop(source);
    let (peer, _) = listener.accept().await?;
    println!("{} lines", relay(client, "lines/self".into(), peer).await?);
    println!("the newest: {:?}", daemon.get("lines/self", weir::wire::Which::Latest)?.payload);
    Ok(())
}
