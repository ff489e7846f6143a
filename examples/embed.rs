//! A daemon inside another tokio program. The program publishes and subscribes in process, and the
//! daemon serves native clients and browsers on one UDP port.
//!
//! ```text
//! cargo run --release --example embed
//! ```

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;
use weir::client::Reconnect;
use weir::engine::Limits;
use weir::{Client, Daemon, Event, SubscribeOptions, Trust};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Port 0 takes a free port. Without `.state(DIR)` every start has a new certificate.
    let daemon = Daemon::builder()
        .listen((Ipv4Addr::LOCALHOST, 0).into())
        .limits(Limits::default().with_cache(64 << 20))
        .spawn()
        .await?;
    println!("listening on {}, certificate {}", daemon.local_addr(), daemon.certificate_hash());

    // In process nothing passes a socket, and the payload is not copied.
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

    // A remote client, here over loopback, has the same topics.
    let peer = Client::builder(daemon.local_addr().to_string())
        .trust(Trust::Pinned(daemon.certificate_hash().into()))
        .reconnect(Reconnect::never())
        .connect()
        .await?;
    peer.publish("orders/tea", "two cups").await?;
    peer.publish("orders/last", "that is all").await?;
    tokio::time::timeout(Duration::from_secs(10), accountant).await??;

    // Sessions get a goodbye that says to connect again elsewhere.
    daemon.shutdown().await;
    println!("the client was told: {}", peer.closed().await);
    Ok(())
}
