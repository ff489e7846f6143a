//! `$weir/stats`: the metrics as a topic, for those who may read it.

use super::ANY;
use super::common::{message, within};
use super::http::ask;
use serde_json::Value;
use weir::access::{AccessRules, Rights};
use weir::client::{Reconnect, SubscribeError};
use weir::wire::{Code, Filter, Which};
use weir::{Client, Daemon, SubscribeOptions, Transport, Trust};

fn options() -> SubscribeOptions {
    SubscribeOptions::default()
}

async fn client(daemon: &Daemon) -> Client {
    let trust = Trust::Pinned(daemon.certificate_hash().into());
    let builder = Client::builder(daemon.local_addr().to_string()).trust(trust);
    let builder = builder.transport(Transport::Quic).reconnect(Reconnect::never());
    within(builder.connect()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_sees_the_figures_move() {
    let daemon = Daemon::builder().listen(ANY).http(ANY).spawn().await.unwrap();
    let client = client(&daemon).await;
    // Nothing is published while nobody subscribes.
    assert!(daemon.get("$weir/stats", Which::Latest).is_err());
    let mut stats = within(client.subscribe("$weir/stats", &options())).await.unwrap();
    let figures = |payload: &[u8]| serde_json::from_slice::<Value>(payload).unwrap();
    let first = figures(&message(&mut stats).await.payload);
    assert_eq!(first["weir_sessions"]["quic"], 1);
    assert_eq!(first["weir_ready"], 1);
    assert_eq!(first["weir_build_info"], env!("CARGO_PKG_VERSION"));
    let before = first["weir_received_messages_total"].as_u64().unwrap();
    within(client.publish("a", "x")).await.unwrap();
    loop {
        let next = figures(&message(&mut stats).await.payload);
        // Itself is one of them.
        if next["weir_received_messages_total"].as_u64().unwrap() >= before + 2 {
            break;
        }
    }
    // Over HTTP too, and nobody publishes to it.
    let to = daemon.http_addr().unwrap();
    let newest = within(ask(to, "GET", "/v1/topics/%24weir%2Fstats").send()).await;
    assert_eq!((newest.status, newest.json()["weir_topics"].as_u64()), (200, Some(2)));
    let refused = within(ask(to, "POST", "/v1/topics/%24weir%2Fstats").body("x").send()).await;
    assert_eq!((refused.status, refused.json()["name"].as_str()), (403, Some("reserved")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_all_topics_is_none_to_the_daemons_own() {
    let rights = |filter| Rights::new([], [Filter::new(filter).unwrap()]).unwrap();
    for (filter, may) in [("**", false), ("$weir/stats", true)] {
        let rules = AccessRules::default().public(rights(filter));
        let daemon = Daemon::builder().listen(ANY).access(rules).spawn().await.unwrap();
        let client = client(&daemon).await;
        let subscribed = within(client.subscribe("$weir/stats", &options())).await;
        match subscribed {
            Ok(mut stats) => {
                assert!(may);
                message(&mut stats).await;
            }
            Err(SubscribeError::Refused(why)) => assert!(!may && why.code == Code::UNAUTHORIZED),
            Err(error) => panic!("{error}"),
        }
    }
}
