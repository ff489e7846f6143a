//! `keep`: newcomers get what is kept, and those who are there get everything.

use super::*;
use crate::common::{Served, TRANSPORTS, client, message, stdout, weir};
use crate::lossy::{Lossy, ROUGH};
use crate::tally::{Tally, options, publish, pump, through};
use bytes::Bytes;
use std::num::NonZeroU64;
use weir::Transport;
use weir::daemon::JournalOptions;
use weir::engine::Keep;

/// Topics, and how much is kept of each.
const TOPICS: [(&str, u64); 3] = [("none", 0), ("latest", 1), ("three", 3)];

fn rules() -> [TopicRule; 3] {
    let three = Keep::Newest(NonZeroU64::new(3).unwrap());
    [
        rule("none").with_keep(Keep::None),
        rule("latest").with_keep(Keep::LATEST),
        rule("three").with_keep(three),
    ]
}

async fn sequences(subscription: &mut Subscription, count: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    for _ in 0..count {
        seen.push(message(subscription).await.sequence);
    }
    seen.sort_unstable();
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_are_there_get_everything_and_newcomers_what_is_kept() {
    let (daemon, _) = ruled(rules()).await;
    let mut published = 0;
    for transport in TRANSPORTS {
        for delivery in MODES {
            let (live, late) = (client(&daemon, transport).await, client(&daemon, transport).await);
            let mut there = Vec::new();
            for (topic, _) in TOPICS {
                there.push(subscribe(&live, topic, Start::New, delivery).await);
            }
            // A burst: of most of these nothing is kept when they are read.
            for _ in 0..100 {
                published += 1;
                for (topic, _) in TOPICS {
                    assert_eq!(daemon.publish(topic, "x").unwrap().count, published);
                }
            }
            for subscription in &mut there {
                let seen = sequences(subscription, 100).await;
                assert!(
                    seen.into_iter().eq(published - 99..=published),
                    "{transport} {delivery:?}"
                );
            }
            let mut new = Vec::new();
            for (topic, _) in TOPICS {
                new.push(subscribe(&late, topic, Start::All, delivery).await);
            }
            published += 1;
            for (subscription, (topic, kept)) in new.iter_mut().zip(TOPICS) {
                daemon.publish(topic, "x").unwrap();
                let seen = sequences(subscription, kept + 1).await;
                assert!(seen.into_iter().eq(published - kept..=published), "{transport} {topic}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_kept_is_neither_got_nor_resumed() {
    let (daemon, http) = ruled(rules()).await;
    for (topic, _) in TOPICS {
        (1..=9).for_each(|_| _ = daemon.publish(topic, "x").unwrap());
    }
    for transport in TRANSPORTS {
        let client = client(&daemon, transport).await;
        for (topic, kept) in TOPICS {
            let got = within(client.get(topic, Which::Sequence(9 - kept))).await;
            assert_eq!(get_code(got), Code::EVICTED, "{transport} {topic}");
            let latest = within(client.get(topic, Which::Latest)).await;
            if kept == 0 {
                assert_eq!(get_code(latest), Code::EVICTED);
            } else {
                assert_eq!(latest.unwrap().sequence, 9);
            }
            for delivery in MODES {
                let mut from = subscribe(&client, topic, Start::Sequence(4), delivery).await;
                assert_eq!(next_gap(&mut from).await, told(4, 9 - kept, GapCause::Evicted));
            }
        }
    }
    // Over HTTP.
    let latest = within(ask(http, "GET", "/v1/topics/none").send()).await;
    assert_eq!((latest.status, latest.json()["name"].as_str()), (410, Some("evicted")));
    let latest = within(ask(http, "GET", "/v1/topics/latest").send()).await;
    assert_eq!((latest.status, latest.header("weir-sequence")), (200, Some("9")));
    let mut all = events(http, "none?from=all").await;
    let mut live = events(http, "latest").await;
    for topic in ["none", "latest"] {
        (10..=12).for_each(|_| _ = daemon.publish(topic, "x").unwrap());
    }
    for stream in [&mut all, &mut live] {
        for sequence in 10..=12 {
            assert_eq!(event(stream).await.json()["sequence"], sequence);
        }
    }
    // One that comes back is told what it has missed.
    let id = all.id.clone().unwrap();
    drop(all);
    (13..=14).for_each(|_| _ = daemon.publish("none", "x").unwrap());
    let target = format!("none?last_event_id={id}");
    let gap = event(&mut events(http, &target).await).await;
    assert!(gap.is("gap"), "{gap:?}");
    assert_eq!((gap.json()["first"].as_u64(), gap.json()["last"].as_u64()), (Some(13), Some(14)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_payloads_are_relayed_and_not_kept() {
    let (daemon, _) = ruled(rules()).await;
    let payload = Bytes::from(vec![7; 3 << 20]);
    for transport in TRANSPORTS {
        for delivery in MODES {
            let (from, to) = (client(&daemon, transport).await, client(&daemon, transport).await);
            let mut live = subscribe(&to, "none", Start::New, delivery).await;
            let receipt = within(from.publish("none", payload.clone())).await.unwrap();
            let found = message(&mut live).await;
            assert!(found.payload == payload && found.sequence == receipt.sequence);
            let got = within(to.get("none", Which::Latest)).await;
            assert_eq!(get_code(got), Code::EVICTED);
        }
    }
}

// What a network loses is repaired, although the cache keeps nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_datagrams_are_repaired_in_topics_that_keep_nothing() {
    for transport in [Transport::Quic, Transport::WebTransport] {
        for (topic, _) in TOPICS {
            let (daemon, _) = ruled(rules()).await;
            let lossy = Lossy::start(daemon.local_addr(), ROUGH);
            let client = through(&lossy, &daemon, transport).await;
            let realtime = options(Delivery::Realtime);
            let mut subscription = within(client.subscribe(topic, &realtime)).await.unwrap();
            let mut tally = Tally::default();
            pump(&mut tally, &mut subscription, 2000, 50, |n| publish(&daemon, topic, n, 100))
                .await;
            tally.assert_all(topic, 2000);
            assert_eq!(tally.missed, 0, "{transport} {topic}");
            assert!(subscription.stats().repaired > 0, "nothing was lost");
        }
    }
}

// The rules are those of the configuration, and apply with the next start.
#[test]
fn a_restart_with_other_rules_applies_them_to_what_there_is() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("weir.toml");
    let serve = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Served::start(state.path(), &["--config", file.to_str().unwrap()], &[])
    };
    let read = |served: &Served| {
        let arguments = ["sub", "t/*", "--from", "all", "--count", "3"];
        let mut command = weir(state.path(), &arguments);
        command.args(["--server", &served.server, "--cert-hash", &served.hash]);
        let lines = stdout(&command.output().unwrap());
        let payloads = lines.lines().filter_map(|line| line.rsplit(' ').next());
        payloads.map(str::to_owned).collect::<Vec<_>>()
    };
    let publish = |served: &Served, topic: &str, payload: &str| {
        let mut command = weir(state.path(), &["pub", topic, payload]);
        command.args(["--server", &served.server, "--cert-hash", &served.hash]);
        assert!(command.output().unwrap().status.success());
    };
    let served = serve("");
    ["1", "2", "3"].iter().for_each(|payload| publish(&served, "t/a", payload));
    assert_eq!(read(&served), ["1", "2", "3"]);
    served.signal("TERM");
    let mut served = served;
    assert!(served.child.wait().unwrap().success());
    let served = serve("[[topics]]\nfilter = \"t/a\"\nkeep = \"latest\"");
    ["4", "5"].iter().for_each(|payload| publish(&served, "t/b", payload));
    assert_eq!(read(&served), ["3", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_and_counts_go_on_after_a_restart_although_nothing_was_kept() {
    let state = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let builder = Daemon::builder().listen((Ipv4Addr::LOCALHOST, 0).into());
        let builder = builder.state(state.path()).journal(JournalOptions::default());
        let daemon = builder.topic_rules(rules()).spawn().await.unwrap();
        for n in 1..=10 {
            let receipt = daemon.publish("none", format!("{n}")).unwrap();
            assert_eq!((receipt.sequence, receipt.count), ((round - 1) * 10 + n, round));
        }
        daemon.shutdown().await;
    }
}
