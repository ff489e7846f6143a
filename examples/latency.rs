//! A probe: how long a message takes from a publisher to a subscriber, over each transport.
//!
//! ```text
//! cargo run --release --example latency -- relay.example:4433
//! ```
//!
//! Without an address, it starts a daemon in this process.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use weir::client::Reconnect;
use weir::wire::Delivery;
use weir::{Client, Daemon, Event, SubscribeOptions, Transport, Trust};

const MESSAGES: usize = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (daemon, server, trust);
    if let Some(address) = std::env::args().nth(1) {
        (server, trust) = (address, Trust::Auto);
    } else {
        daemon = Daemon::builder().listen((Ipv4Addr::LOCALHOST, 0).into()).spawn().await?;
        server = daemon.local_addr().to_string();
        trust = Trust::Pinned(daemon.certificate_hash().into());
    }
    for transport in [Transport::Quic, Transport::WebTransport, Transport::WebSocket] {
        let client = Client::builder(&*server)
            .trust(trust.clone())
            .transport(transport)
            .reconnect(Reconnect::never())
            .connect()
            .await?;
        let topic = format!("probe/{transport}");
        let options = SubscribeOptions::default().with_delivery(Delivery::Unordered);
        let mut subscription = client.subscribe(&topic, &options).await?;
        let mut took = Vec::new();
        let mut every = tokio::time::interval(Duration::from_millis(5));
        for number in 0..MESSAGES {
            every.tick().await;
            let sent = Instant::now();
            let pending = client.send(&topic, number.to_be_bytes().to_vec()).await?;
            loop {
                match subscription.next().await.transpose()? {
                    Some(Event::Message(message)) if *message.payload == number.to_be_bytes() => {
                        break;
                    }
                    Some(_) => {}
                    None => return Err("the session ended".into()),
                }
            }
            took.push(sent.elapsed());
            pending.await?;
        }
        took.sort_unstable();
        let (p50, p99) = (took[MESSAGES / 2], took[MESSAGES * 99 / 100]);
        let name = transport.to_string();
        println!("{name:<14} p50 {p50:>9.1?}   p99 {p99:>9.1?}");
        client.close().await;
    }
    Ok(())
}
