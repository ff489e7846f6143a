//! `ttl`: nobody gets what has expired, and those who miss it are told.

use super::*;
use crate::common::{TRANSPORTS, client, message};
use std::time::Instant;
use weir::daemon::JournalOptions;
use weir::wire::Lag;

fn short() -> TopicRule {
    rule("short").with_ttl(Duration::from_millis(400))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_told_as_such_on_every_transport() {
    let (daemon, http) = ruled([short()]).await;
    let mut stream = events(http, "short").await;
    for transport in TRANSPORTS {
        for delivery in MODES {
            let client = client(&daemon, transport).await;
            let mut live = subscribe(&client, "short", Start::New, delivery).await;
            let first = daemon.publish("short", "a").unwrap().sequence;
            assert_eq!(message(&mut live).await.sequence, first);
            assert_eq!(event(&mut stream).await.json()["sequence"], first);
            assert_eq!(within(client.get("short", Which::Latest)).await.unwrap().sequence, first);
            let last = daemon.publish("short", "b").unwrap().sequence;
            assert_eq!(message(&mut live).await.sequence, last);
            event(&mut stream).await;
            until_gone(&daemon, "short", last).await;
            for which in [Which::Latest, Which::Sequence(last)] {
                let got = within(client.get("short", which)).await;
                assert_eq!(get_code(got), Code::EVICTED);
            }
            // A newcomer begins with what comes next.
            let mut all = subscribe(&client, "short", Start::All, delivery).await;
            let mut from = subscribe(&client, "short", Start::Sequence(first), delivery).await;
            assert_eq!(next_gap(&mut from).await, told(first, last, GapCause::Expired));
            let new = daemon.publish("short", "c").unwrap().sequence;
            assert_eq!(message(&mut all).await.sequence, new);
            assert_eq!(message(&mut live).await.sequence, new);
            event(&mut stream).await;
        }
    }
    // Over HTTP, for one that comes back.
    let id = stream.id.clone().unwrap();
    drop(stream);
    let last = daemon.publish("short", "d").unwrap().sequence;
    until_gone(&daemon, "short", last).await;
    let answer = within(ask(http, "GET", "/v1/topics/short").send()).await;
    assert_eq!((answer.status, answer.json()["name"].as_str()), (410, Some("evicted")));
    let gap = event(&mut events(http, &format!("short?last_event_id={id}")).await).await;
    let json = gap.json();
    assert!(gap.is("gap"), "{gap:?}");
    assert_eq!((json["last"].as_u64(), json["cause"].as_str()), (Some(last), Some("expired")));
}

// A subscription that wants to end rather than to lag goes on, because nobody would have got these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expiry_ends_no_subscription() {
    let (daemon, _) = ruled([short()]).await;
    daemon.publish("short", "a").unwrap();
    until_gone(&daemon, "short", 1).await;
    for transport in TRANSPORTS {
        let client = client(&daemon, transport).await;
        let strict = SubscribeOptions::from(Start::Sequence(1)).with_lag(Lag::Disconnect);
        let mut subscription = within(client.subscribe("short", &strict)).await.unwrap();
        assert_eq!(next_gap(&mut subscription).await, told(1, 1, GapCause::Expired));
    }
}

// The daemon drops what has expired by itself: its memory is used for something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_a_message_goes_on_while_the_daemon_is_away() {
    let state = tempfile::tempdir().unwrap();
    let start = async || {
        let builder = Daemon::builder().listen((Ipv4Addr::LOCALHOST, 0).into());
        let builder = builder.state(state.path()).journal(JournalOptions::default());
        let long = rule("long").with_ttl(Duration::from_secs(3600));
        let medium = rule("medium").with_ttl(Duration::from_secs(3));
        builder.topic_rules([long, medium]).spawn().await.unwrap()
    };
    let daemon = start().await;
    for topic in ["long", "medium"] {
        daemon.publish(topic, "x").unwrap();
    }
    let published = Instant::now();
    daemon.shutdown().await;
    let daemon = start().await;
    assert_eq!(daemon.get("long", Which::Latest).unwrap().sequence, 1);
    // Three seconds after it was published, and not after the restart.
    until_gone(&daemon, "medium", 1).await;
    let gone = published.elapsed();
    assert!(gone >= Duration::from_millis(2900), "{gone:?}");
    assert_eq!(daemon.get("long", Which::Latest).unwrap().sequence, 1);
    let receipt = daemon.publish("medium", "x").unwrap();
    assert_eq!((receipt.sequence, receipt.count), (2, 2));
    daemon.shutdown().await;
}
