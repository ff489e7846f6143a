//! A daemon inside one's own tokio program: it publishes and subscribes in process, and serves
//! native peers and browsers on one UDP port meanwhile.
//!
//! ```text
//! cargo run --release --example embed
//! ```

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;
use weir::engine::Limits;
use weir::{Client, Daemon, Event, SubscribeOptions, Trust};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Port 0 takes a free one. Without `.state(DIR)` every start has a new certificate.
    let daemon = Daemon::builder()
        .listen((Ipv4Addr::LOCALHOST, 0).into())
        .limits(Limits::default().with_cache(64 << 20))
        .spawn()
        .await?;
    println!("listening on {}, certificate {}", daemon.local_addr(), daemon.certificate_hash());

    // In process: no socket, no copy of the payload.
    let mut orders = daemon.subscribe("orders/*", &SubscribeOptions::default())?;
    let accountant = tokio::spawn(async move {
        while let Some(Ok(event)) = orders.next().await {
            if let Event::Message(order) = event {
                println!("{} #{}: {:?}", order.topic, order.sequence, order.payload);
                if &*order.topic == "orders/last" {
                    break;
                }
            }
        }
    });
    daemon.publish("orders/books", "one Moby-Dick")?;

    // A remote peer, here over loopback, sees the same topics.
    let peer = Client::builder(daemon.local_addr().to_string())
        .trust(Trust::Pinned(daemon.certificate_hash().into()))
        .connect()
        .await?;
    peer.publish("orders/tea", "two cups").await?;
    peer.publish("orders/last", "that is all").await?;
    tokio::time::timeout(Duration::from_secs(10), accountant).await??;

    // Sessions are told goodbye, and to connect again elsewhere.
    daemon.shutdown().await;
    println!("the peer was told: {}", peer.closed().await);
    Ok(())
}
