//! Publications over a link that is cut: the daemon counts each once.

use crate::common::{TRANSPORTS, daemon, within};
use crate::link::Mode;
use crate::{back, linked, over};
use bytes::Bytes;
use std::time::Duration;
use weir::client::{PublishError, PublishOptions};
use weir::wire::{Digest, Which};
use weir::{Client, Daemon, Event, Start, SubscribeOptions, Transport};

/// The daemon has accepted these publications, but no receipt has arrived.
async fn accepted(daemon: &Daemon, topic: &str, number: u64) {
    let options = SubscribeOptions::from(Start::All);
    let mut inside = daemon.subscribe(topic, &options).unwrap();
    for sequence in 1..=number {
        match within(inside.next()).await.unwrap().unwrap() {
            Event::Message(message) => assert_eq!(message.sequence, sequence),
            other => panic!("{other:?}"),
        }
    }
}

fn count(daemon: &Daemon, topic: &str) -> u64 {
    daemon.top(topic, 100).unwrap().iter().map(|entry| entry.count).sum()
}

#[tokio::test]
async fn publications_without_a_receipt_are_sent_again_and_counted_once() {
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        let (link, client) = linked(&daemon, transport).await;
        link.set(Mode::Mute);
        let mut pending = Vec::new();
        // The daemon takes the first ones, and the link loses the others.
        for n in 0..20 {
            pending.push(client.send("t/a", format!("{n}")).await.unwrap());
        }
        accepted(&daemon, "t/a", 20).await;
        link.set(Mode::Dead);
        for n in 20..30 {
            pending.push(client.send("t/a", format!("{n}")).await.unwrap());
        }
        link.noticed(&client).await;
        // And these were never sent.
        for n in 30..40 {
            pending.push(client.send("t/a", format!("{n}")).await.unwrap());
        }
        link.set(Mode::Pass);
        for (n, receipt) in (0_u64..).zip(pending) {
            let receipt = within(receipt).await.unwrap();
            assert_eq!((receipt.sequence, receipt.count), (n + 1, 1), "{transport}");
            assert_eq!(receipt.duplicate, n < 20, "{transport}");
        }
        assert_eq!(count(&daemon, "t/a"), 40, "{transport}");
        // The numbers go on.
        assert_eq!(within(client.publish("t/a", "0")).await.unwrap().count, 2);
    }
}

#[tokio::test]
async fn so_are_those_in_datagrams() {
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        let (link, client) = linked(&daemon, transport).await;
        link.set(Mode::Mute);
        let mut pending = Vec::new();
        for n in 0..20 {
            pending.push(client.send_realtime("t/a", format!("{n}")).await.unwrap());
        }
        accepted(&daemon, "t/a", 20).await;
        link.cut(&client).await;
        for n in 20..30 {
            pending.push(client.send_realtime("t/a", format!("{n}")).await.unwrap());
        }
        link.set(Mode::Pass);
        for accepted in pending {
            within(accepted).await.unwrap();
        }
        assert_eq!(count(&daemon, "t/a"), 30, "{transport}");
        // In the new session too.
        within(client.send_realtime("t/a", "0").await.unwrap()).await.unwrap();
        assert_eq!(count(&daemon, "t/a"), 31, "{transport}");
    }
}

#[tokio::test]
async fn a_large_payload_that_was_cut_half_way_is_sent_from_its_beginning() {
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        let (link, client) = linked(&daemon, transport).await;
        let payloads: Vec<_> = (1..=3).map(|n| Bytes::from(vec![n; 2 << 20])).collect();
        link.die_after(3 << 20);
        let mut pending = Vec::new();
        for payload in &payloads {
            pending.push(client.send("big", payload.clone()).await.unwrap());
        }
        link.dead().await;
        link.noticed(&client).await;
        link.set(Mode::Pass);
        for (payload, receipt) in payloads.iter().zip(pending) {
            let receipt = within(receipt).await.unwrap();
            assert_eq!((receipt.count, receipt.digest), (1, Digest::of(payload)), "{transport}");
        }
        assert_eq!(count(&daemon, "big"), 3, "{transport}");
    }
}

#[tokio::test]
async fn requests_are_sent_again() {
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        daemon.publish("t/a", "hello").unwrap();
        let (link, client) = linked(&daemon, transport).await;
        link.set(Mode::Mute);
        let (get, top, ping) =
            (client.get("t/a", Which::Latest), client.top("t/a", 1), client.ping());
        let requests = async { tokio::join!(get, top, ping) };
        let cut = async {
            link.cut(&client).await;
            link.set(Mode::Pass);
        };
        let ((message, top, ping), ()) = tokio::join!(requests, cut);
        assert_eq!(message.unwrap().payload, "hello");
        assert_eq!(top.unwrap().len(), 1);
        ping.unwrap();
    }
}

async fn away(
    daemon: &Daemon,
    transport: Transport,
    backlog: (usize, usize),
) -> (crate::Link, Client) {
    let link = crate::Link::start(daemon.local_addr()).await;
    let builder = over(&link, daemon, transport).backlog(backlog.0, backlog.1);
    let client = within(builder.connect()).await.unwrap();
    link.cut(&client).await;
    (link, client)
}

#[tokio::test]
async fn while_away_only_so_many_publications_wait() {
    let daemon = daemon().await;
    for (backlog, sizes, held) in
        [((3, 1000), [1, 2, 3, 1], (3, 6)), ((1000, 100), [60, 30, 10, 1], (3, 100))]
    {
        let (link, client) = away(&daemon, TRANSPORTS[2], backlog).await;
        let topic = format!("t/{}", backlog.0);
        let mut pending = Vec::new();
        for size in &sizes[..3] {
            pending.push(client.send(&topic, vec![7; *size]).await.unwrap());
        }
        match client.send(&topic, vec![7; sizes[3]]).await {
            Err(PublishError::Backlog { publications, bytes }) => {
                assert_eq!((publications, bytes), held);
            }
            other => panic!("{other:?}"),
        }
        link.set(Mode::Pass);
        for receipt in pending {
            within(receipt).await.unwrap();
        }
        within(client.publish(&topic, "there is room")).await.unwrap();
        assert_eq!(count(&daemon, &topic), 4);
    }
}

// One that waits for room while a session is open is told when the session ends.
#[tokio::test]
async fn one_that_waits_for_room_fails_when_the_session_ends() {
    let daemon = daemon().await;
    let link = crate::Link::start(daemon.local_addr()).await;
    let builder = over(&link, &daemon, TRANSPORTS[2]).backlog(1, 100);
    let client = within(builder.connect()).await.unwrap();
    link.set(Mode::Mute);
    let first = client.send("t/a", "first").await.unwrap();
    let second = async { client.send("t/a", "second").await };
    let (second, ()) = tokio::join!(second, link.cut(&client));
    assert!(matches!(second, Err(PublishError::Backlog { publications: 1, bytes: 5 })));
    link.set(Mode::Pass);
    within(first).await.unwrap();
}

#[tokio::test]
async fn a_publication_whose_lifetime_has_passed_is_not_sent_again() {
    for transport in TRANSPORTS {
        let daemon = daemon().await;
        let (link, client) = away(&daemon, transport, (10, 1 << 20)).await;
        let short = PublishOptions::lifetime(Duration::from_millis(10));
        let long = PublishOptions::lifetime(Duration::from_secs(3600));
        for size in [1, 100_000] {
            let error = within(client.publish_with("t/a", vec![7; size], &short)).await;
            assert_eq!(error.unwrap_err(), PublishError::Expired(Duration::from_millis(10)));
        }
        let error = client.send_realtime_with("t/a", "x", &short).await.unwrap();
        assert!(matches!(within(error).await, Err(PublishError::Expired(_))));
        let lasts = client.send_with("t/a", "later", &long).await.unwrap();
        link.set(Mode::Pass);
        assert_eq!(within(lasts).await.unwrap().sequence, 1, "{transport}");
        back(&client).await;
        assert_eq!(within(client.publish("t/a", "x")).await.unwrap().sequence, 2);
        // Those that expire leave no trace in the limits.
        within(client.close()).await;
    }
}

// The daemon may have accepted it.
#[tokio::test]
async fn a_lifetime_also_ends_the_wait_for_a_receipt() {
    let daemon = daemon().await;
    let (link, client) = linked(&daemon, TRANSPORTS[2]).await;
    link.set(Mode::Mute);
    let short = PublishOptions::lifetime(Duration::from_millis(10));
    // Over one channel the rest of a large payload is sent, so that the next one may begin.
    let error = within(client.publish_with("big", vec![7; 1 << 20], &short)).await.unwrap_err();
    assert!(error.to_string().contains("may have accepted"), "{error}");
    link.set(Mode::Pass);
    let receipt = within(client.publish("big", vec![8; 1 << 20])).await.unwrap();
    assert_eq!(receipt.sequence, 2);
}
