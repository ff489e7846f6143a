//! Several daemons that are one, over NATS JetStream.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod server;

use common::{TRANSPORTS, client, message, within};
use server::Server;
use std::net::Ipv4Addr;
use weir::daemon::JetStreamOptions;
use weir::{Daemon, SubscribeOptions};

async fn daemon(servers: &[Server]) -> Daemon {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let options = JetStreamOptions::new(servers.iter().map(Server::address));
    let builder = Daemon::builder().listen(listen).jetstream(options);
    within(builder.spawn()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_at_one_daemon_is_the_same_at_all() {
    let servers = [Server::alone()];
    let daemons = [daemon(&servers).await, daemon(&servers).await, daemon(&servers).await];
    let mut subscriptions = Vec::new();
    for (daemon, transport) in daemons.iter().zip(TRANSPORTS) {
        let client = client(daemon, transport).await;
        let options = SubscribeOptions::default();
        let subscription = within(client.subscribe("demo/**", &options)).await.unwrap();
        subscriptions.push((client, subscription));
    }
    let mut receipts = Vec::new();
    for round in 0..10 {
        for (client, _) in &subscriptions {
            let text = format!("round {}", round / 2);
            receipts.push(within(client.publish("demo/a", text)).await.unwrap());
        }
    }
    let sequences: Vec<u64> = receipts.iter().map(|receipt| receipt.sequence).collect();
    assert_eq!(sequences, (1..=30).collect::<Vec<_>>());
    let counts: Vec<u64> = receipts.iter().map(|receipt| receipt.count).collect();
    assert_eq!(&counts[..7], [1, 2, 3, 4, 5, 6, 1]);
    let mut first = None;
    for (_, subscription) in &mut subscriptions {
        let mut seen = Vec::new();
        for receipt in &receipts {
            let message = message(subscription).await;
            assert_eq!((message.sequence, message.count), (receipt.sequence, receipt.count));
            seen.push((message.epoch, message.sequence, message.count, message.payload));
        }
        assert_eq!(*first.get_or_insert(seen.clone()), seen);
    }
    // Who comes later has all of it too.
    let late = daemon(&servers).await;
    let client = client(&late, TRANSPORTS[0]).await;
    let options = SubscribeOptions::from(weir::Start::All);
    let mut all = within(client.subscribe("demo/a", &options)).await.unwrap();
    for receipt in &receipts {
        assert_eq!(message(&mut all).await.sequence, receipt.sequence);
    }
}
