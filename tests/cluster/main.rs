//! Several daemons that are one, over NATS JetStream.
#![allow(clippy::unwrap_used, missing_docs)]

mod checker;
#[path = "../common/mod.rs"]
mod common;
mod server;

use bytes::Bytes;
use common::{TRANSPORTS, client, message, within};
use futures_util::StreamExt as _;
use server::Server;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use weir::daemon::JetStreamOptions;
use weir::wire::{Code, Which};
use weir::{Daemon, Start, SubscribeOptions};

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
    let options = SubscribeOptions::from(Start::All);
    let mut all = within(client.subscribe("demo/a", &options)).await.unwrap();
    for receipt in &receipts {
        assert_eq!(message(&mut all).await.sequence, receipt.sequence);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_resumes_at_another_daemon_and_misses_and_repeats_nothing() {
    let servers = [Server::alone()];
    let (one, two) = (daemon(&servers).await, daemon(&servers).await);
    for transport in TRANSPORTS {
        let topics = [format!("{transport}/a"), format!("{transport}/b")];
        let here = client(&one, transport).await;
        let there = client(&two, transport).await;
        let filter = format!("{transport}/*");
        let mut before =
            within(here.subscribe(&filter, &SubscribeOptions::default())).await.unwrap();
        for n in 0..10 {
            within(here.publish(&topics[n % 2], format!("{n}"))).await.unwrap();
        }
        for n in 0..7 {
            assert_eq!(message(&mut before).await.payload, format!("{n}"));
        }
        let from = SubscribeOptions::from(before.resume());
        drop(before);
        within(there.publish(&topics[0], "10")).await.unwrap();
        let mut after = within(there.subscribe(&filter, &from)).await.unwrap();
        for n in 7..11 {
            assert_eq!(message(&mut after).await.payload, format!("{n}"), "{transport}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_knows_nats_only_publishes_and_reads() {
    let servers = [Server::alone()];
    let daemon = daemon(&servers).await;
    let client = client(&daemon, TRANSPORTS[0]).await;
    let mut all = within(client.subscribe("**", &SubscribeOptions::default())).await.unwrap();
    let nats = async_nats::connect(servers[0].address()).await.unwrap();
    let mut seen = nats.subscribe("weir.>").await.unwrap();
    nats.flush().await.unwrap();
    let jetstream = async_nats::jetstream::new(nats.clone());
    for text in ["hello", "hello"] {
        jetstream.publish("weir.v1%2E0.a", text.into()).await.unwrap().await.unwrap();
        assert_eq!(within(seen.next()).await.unwrap().payload, text);
    }
    // What is no topic of Weir takes no sequence.
    jetstream.publish("weir.a/b", "x".into()).await.unwrap().await.unwrap();
    within(seen.next()).await.unwrap();
    for sequence in [1, 2] {
        let message = message(&mut all).await;
        assert_eq!((&*message.topic, &message.payload[..]), ("v1.0/a", &b"hello"[..]));
        assert_eq!((message.sequence, message.count), (sequence, sequence));
    }
    let receipt = within(client.publish("v1.0/a", "hello")).await.unwrap();
    assert_eq!((receipt.sequence, receipt.count), (3, 3));
    let message = within(seen.next()).await.unwrap();
    assert_eq!((&*message.subject, &message.payload[..]), ("weir.v1%2E0.a", &b"hello"[..]));
}

/// Publishes until the daemon answers so.
async fn until_published(daemon: &Daemon, wanted: Option<Code>) {
    let begun = Instant::now();
    loop {
        let outcome = within(daemon.publish_kept("other", "x")).await;
        let code = outcome.as_ref().err().map(|refusal| refusal.code);
        if code == wanted {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(50), "{outcome:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_cut_off_serves_its_cache_and_comes_back_by_itself() {
    let mut servers = [Server::alone()];
    let daemons = [daemon(&servers).await, daemon(&servers).await];
    let first = within(daemons[0].publish_kept("demo/a", "before")).await.unwrap();
    assert_eq!((first.sequence, first.count), (1, 1));
    while daemons[1].get("demo/a", Which::Latest).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    servers[0].kill();
    for daemon in &daemons {
        until_published(daemon, Some(Code::UNAVAILABLE)).await;
        assert_eq!(daemon.get("demo/a", Which::Latest).unwrap().payload, "before");
    }
    servers[0].again();
    for daemon in &daemons {
        until_published(daemon, None).await;
    }
    for (at, daemon) in daemons.iter().enumerate() {
        let again = within(daemon.publish_kept("demo/a", "before")).await.unwrap();
        assert_eq!((again.sequence, again.count), (2 + at as u64, 2 + at as u64));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_are_relayed_to_the_subscribers_of_all_daemons() {
    let servers = [Server::alone()];
    let daemons = [daemon(&servers).await, daemon(&servers).await];
    let mut there = daemons[1].subscribe("**", &SubscribeOptions::default()).unwrap();
    for (n, transport) in TRANSPORTS.into_iter().enumerate() {
        let client = client(&daemons[0], transport).await;
        for (m, size) in [65_537, 3_000_000].into_iter().enumerate() {
            let payload = Bytes::from(vec![n as u8; size]);
            let receipt = within(client.publish("large", payload.clone())).await.unwrap();
            assert_eq!((receipt.sequence, receipt.count), (2 * n as u64 + m as u64 + 1, 1));
            let weir::Event::Message(message) = within(there.next()).await.unwrap().unwrap() else {
                panic!("no message");
            };
            assert_eq!((message.sequence, message.payload), (receipt.sequence, payload));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_after_the_stream_has_forgotten_the_beginning_gives_the_same_sequences() {
    let servers = [Server::alone()];
    let one = daemon(&servers).await;
    within(one.publish_kept("quiet", "x")).await.unwrap();
    let text = |n: u64| format!("{}", n % 2);
    for n in 1..=10 {
        within(one.publish_kept("demo/a", text(n))).await.unwrap();
    }
    let nats = async_nats::connect(servers[0].address()).await.unwrap();
    let jetstream = async_nats::jetstream::new(nats);
    let store = jetstream.get_object_store("weir-order").await.unwrap();
    // The daemon saves what it knows.
    while store.list().await.unwrap().next().await.is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for n in 11..=20 {
        within(one.publish_kept("demo/a", text(n))).await.unwrap();
    }
    // As long as the stream has everything, who comes has it too.
    let early = daemon(&servers).await;
    assert_eq!(early.get("demo/a", Which::Sequence(1)).unwrap().payload, "1");
    early.shutdown().await;
    let stream = jetstream.get_stream("weir").await.unwrap();
    stream.purge().sequence(9).await.unwrap();
    let two = daemon(&servers).await;
    // What the stream has is cached, and what it has forgotten is not.
    let get = |sequence| two.get("demo/a", Which::Sequence(sequence));
    assert_eq!(get(11).unwrap().payload, "1");
    assert_eq!(get(10).unwrap_err().code, Code::EVICTED);
    for (daemon, sequence) in [(&two, 21), (&one, 22)] {
        let receipt = within(daemon.publish_kept("demo/a", "1")).await.unwrap();
        assert_eq!(receipt.sequence, sequence);
        let exact = std::ptr::eq(daemon, &raw const one);
        // Who does not know the beginning says since when it counts.
        assert_eq!(receipt.since.is_none(), exact, "{receipt:?}");
        assert_eq!(receipt.count, if exact { 12 } else { 6 });
    }
    for daemon in [&one, &two] {
        let epoch = daemon.get("demo/a", Which::Latest).unwrap().epoch;
        assert_eq!(epoch, one.get("demo/a", Which::Latest).unwrap().epoch);
    }
    assert_eq!(within(two.publish_kept("quiet", "y")).await.unwrap().sequence, 2);
}
