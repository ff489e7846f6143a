//! How fast a session may publish.

use crate::common::{TRANSPORTS, client, message, within};
use crate::raw::{Raw, encoded};
use crate::{count, daemon, publish};
use std::time::{Duration, Instant};
use weir::client::PublishError;
use weir::daemon::Limit;
use weir::wire::{ClientFrame, Code, DaemonFrame};
use weir::{Daemon, SubscribeOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_is_too_fast_is_slowed_and_loses_nothing() {
    const RATE: u64 = 1000;
    const MESSAGES: u64 = 3000;
    let daemon = daemon(|limits| limits.messages = RATE).await;
    let mut took = Vec::new();
    for transport in TRANSPORTS {
        let client = client(&daemon, transport).await;
        let topic = format!("fast/{transport}");
        let begun = Instant::now();
        let mut receipts = Vec::new();
        for n in 0..MESSAGES {
            receipts.push(within(client.send(&topic, n.to_le_bytes().to_vec())).await.unwrap());
        }
        for (n, receipt) in (1..).zip(receipts) {
            assert_eq!(within(receipt).await.unwrap().sequence, n);
        }
        took.push(begun.elapsed());
    }
    // The burst is one second's, and the last batch does not wait.
    let least = Duration::from_millis((MESSAGES / RATE - 1) * 1000 - 300);
    assert!(took.iter().all(|took| *took > least), "{took:?}");
    assert!(count(&daemon, Limit::Slowed) >= 6);
    assert_eq!(count(&daemon, Limit::RateLimited), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_limited_as_well_and_others_are_not_slowed() {
    const MIB: u64 = 1 << 20;
    let daemon = daemon(|limits| limits.bytes = 16 * MIB).await;
    let heavy = client(&daemon, TRANSPORTS[0]).await;
    let light = client(&daemon, TRANSPORTS[0]).await;
    let mut subscription =
        within(light.subscribe("light", &SubscribeOptions::default())).await.unwrap();
    // The burst is 16 MiB, so that three seconds' worth wait for two.
    let begun = Instant::now();
    let uploads = (0..48).map(|n: u8| {
        let heavy = heavy.clone();
        tokio::spawn(async move { heavy.publish("heavy", vec![n; 1 << 20]).await.unwrap() })
    });
    let uploads: Vec<_> = uploads.collect();
    while count(&daemon, Limit::Slowed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..10 {
        within(light.publish("light", "x")).await.unwrap();
        message(&mut subscription).await;
    }
    assert!(uploads.iter().any(|upload| !upload.is_finished()), "the others came too late");
    for upload in uploads {
        within(upload).await.unwrap();
    }
    assert!(begun.elapsed() > Duration::from_millis(1700), "{:?}", begun.elapsed());
}

/// Publishes on one stream for as long as `until` is not over. Returns the numbers of the
/// publications, and the refused ones.
async fn flood(daemon: &Daemon, until: Duration) -> (u64, Vec<u64>) {
    let mut raw = Raw::greeted(daemon).await;
    raw.send(&[ClientFrame::Topic { alias: 1, name: "flood" }]).await;
    let begun = Instant::now();
    let (mut sent, mut answered, mut refused) = (0, 0, Vec::new());
    loop {
        while begun.elapsed() < until && sent - answered < 500 {
            let numbers = sent + 1..=sent + 50;
            let frames: Vec<_> = numbers.map(|number| publish(1, number, b"x")).collect();
            raw.send(&frames).await;
            sent += 50;
        }
        if answered == sent {
            return (sent, refused);
        }
        match DaemonFrame::decode(&raw.frame().await).unwrap() {
            DaemonFrame::Receipt { .. } => answered += 1,
            DaemonFrame::Rejected { number, code, .. } => {
                assert_eq!(code, Code::RATE_LIMITED);
                refused.push(number);
                answered += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_stays_too_fast_is_told_after_10_s() {
    let daemon = daemon(|limits| limits.messages = 500).await;
    let (sent, refused) = flood(&daemon, Duration::from_secs(13)).await;
    assert!(sent < 500 * 16, "{sent} in 13 s");
    assert_eq!(refused.len(), 1, "{refused:?}");
    // After the burst and 10 s, as fast as it may be.
    assert!((500 * 9..500 * 13).contains(&refused[0]), "{refused:?}");
    assert_eq!(count(&daemon, Limit::RateLimited), 1);
    let topic = daemon.get("flood", weir::wire::Which::Latest).unwrap();
    assert_eq!(topic.sequence, sent - 1, "a refused publication takes no sequence");
}

#[tokio::test]
async fn a_datagram_that_is_too_fast_is_refused_at_once_unless_it_is_a_copy() {
    let daemon = daemon(|limits| limits.messages = 100).await;
    let mut raw = Raw::greeted(&daemon).await;
    raw.send(&[ClientFrame::Topic { alias: 1, name: "a" }, ClientFrame::Ping { request: 1 }]).await;
    let pong = raw.frame().await;
    assert!(matches!(DaemonFrame::decode(&pong), Ok(DaemonFrame::Pong { .. })));
    let send = |number, payload: &[u8]| {
        raw.connection.send_datagram(encoded(&[publish(1, number, payload)]).into()).unwrap();
    };
    send(1, b"first");
    within(raw.connection.read_datagram()).await.unwrap();
    // One datagram with all that a second allows.
    let many: Vec<_> = (2..=150).map(|number| publish(1, number, b"")).collect();
    raw.connection.send_datagram(encoded(&many).into()).unwrap();
    within(raw.connection.read_datagram()).await.unwrap();
    // A copy, and a new one.
    let send = |number, payload: &[u8]| {
        raw.connection.send_datagram(encoded(&[publish(1, number, payload)]).into()).unwrap();
    };
    send(1, b"first");
    send(151, b"x");
    let frame = loop {
        let frame = raw.frame().await;
        // Receipts of those that an acknowledgement does not cover.
        if !matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Receipt { .. })) {
            break frame;
        }
    };
    let Ok(DaemonFrame::Rejected { number: 151, code: Code::RATE_LIMITED, reason, .. }) =
        DaemonFrame::decode(&frame)
    else {
        panic!("{:?}", DaemonFrame::decode(&frame));
    };
    assert!(reason.contains("limits.messages"), "{reason}");
    within(raw.connection.read_datagram()).await.expect("the copy is acknowledged");
    assert_eq!(daemon.get("a", weir::wire::Which::Latest).unwrap().sequence, 150);
}

// A refused publication is an error for its publisher only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_gets_the_refusal_of_a_realtime_publication() {
    let daemon = daemon(|limits| limits.messages = 50).await;
    let client = client(&daemon, TRANSPORTS[0]).await;
    let mut receipts = Vec::new();
    for n in 0..300_u32 {
        let sent = within(client.send_realtime("cursor", n.to_le_bytes().to_vec())).await.unwrap();
        receipts.push(sent);
    }
    let (mut accepted, mut refused) = (0, 0);
    for receipt in receipts {
        match within(receipt).await {
            Ok(()) => accepted += 1,
            Err(PublishError::Refused(refusal)) => {
                assert_eq!(refusal.code, Code::RATE_LIMITED);
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    // As many as the machine is fast.
    assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} refused");
    let options = SubscribeOptions::from(weir::Start::All);
    let mut subscription = within(client.subscribe("cursor", &options)).await.unwrap();
    for _ in 0..accepted {
        message(&mut subscription).await;
    }
}
