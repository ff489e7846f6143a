//! Limits, origins and topic rules that are replaced while the daemon runs.

use crate::common::{client, within};
use crate::http::ask;
use crate::raw::Raw;
use crate::{address, count, daemon};
use std::num::NonZeroU32;
use std::time::Duration;
use weir::daemon::{Changes, Limit, PeerLimits};
use weir::engine::{Keep, TopicRule};
use weir::wire::{Code, Which};
use weir::{Daemon, Transport};

async fn from(daemon: &Daemon, n: u8) -> Result<Raw, quinn::ConnectionError> {
    Raw::try_from(daemon.local_addr(), address(n), quinn::TransportConfig::default()).await
}

async fn limit(daemon: &Daemon, change: impl FnOnce(&mut PeerLimits)) {
    let mut limits = PeerLimits::default();
    limits.exempt.clear();
    change(&mut limits);
    daemon.reload(Changes::default().peers(limits)).await.unwrap();
}

#[tokio::test]
async fn numbers_of_sessions_hold_at_once_and_those_that_are_there_stay() {
    let daemon = daemon(|_| {}).await;
    let mut here = Vec::new();
    for n in [2, 2, 3] {
        here.push(from(&daemon, n).await.unwrap().greet().await);
    }
    limit(&daemon, |limits| limits.sessions_per_address = 1).await;
    assert!(from(&daemon, 2).await.is_err());
    assert_eq!(count(&daemon, Limit::SessionsPerAddress), 1);
    let _four = from(&daemon, 4).await.unwrap().greet().await;
    limit(&daemon, |limits| limits.sessions = 3).await;
    assert!(from(&daemon, 5).await.is_err());
    assert_eq!(count(&daemon, Limit::Sessions), 1);
    assert!(here.iter().all(|raw| raw.connection.close_reason().is_none()));
    limit(&daemon, |_| {}).await;
    from(&daemon, 2).await.unwrap().greet().await;
}

#[tokio::test]
async fn rates_hold_for_sessions_that_begin_from_then_on() {
    let daemon = daemon(|_| {}).await;
    let before = client(&daemon, Transport::Quic).await;
    limit(&daemon, |limits| limits.messages = 10).await;
    let after = client(&daemon, Transport::Quic).await;
    for _ in 0..100 {
        within(before.publish("a", "x")).await.unwrap();
    }
    assert_eq!(count(&daemon, Limit::Slowed), 0);
    for _ in 0..30 {
        within(after.publish("a", "x")).await.unwrap();
    }
    assert_ne!(count(&daemon, Limit::Slowed), 0);
}

#[tokio::test]
async fn origins_and_names_hold_for_the_next_request() {
    let daemon = daemon(|_| {}).await;
    let status = async |origin: Option<&str>, host: &str| {
        let request = ask(daemon.http_addr().unwrap(), "GET", "/v1/topics/a").header("host", host);
        let request = match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        };
        within(request.send()).await.status
    };
    let app = Some("https://app.example");
    assert_eq!((status(app, "localhost").await, status(None, "relay.example").await), (403, 421));
    let changes = Changes::default().origins(["https://app.example"]).names(["relay.example"]);
    daemon.reload(changes).await.unwrap();
    assert_eq!((status(app, "localhost").await, status(None, "relay.example").await), (404, 404));
    daemon.reload(Changes::default().origins([""; 0])).await.unwrap();
    assert_eq!((status(app, "localhost").await, status(None, "relay.example").await), (403, 404));
}

#[tokio::test]
async fn topic_rules_hold_for_topics_that_are_made_from_then_on() {
    let daemon = daemon(|_| {}).await;
    let rule = |filter: &str| TopicRule::new(filter.parse().unwrap());
    daemon.reload(Changes::default().topic_rules([rule("*").with_payload(5)])).await.unwrap();
    daemon.publish("old", "1").unwrap();
    let rules = [
        rule("*").with_keep(Keep::LATEST).with_rate(NonZeroU32::MIN.saturating_add(1)),
        rule("brief/*").with_ttl(Duration::from_millis(1)),
    ];
    daemon.reload(Changes::default().topic_rules(rules)).await.unwrap();
    // The rule that it was made with.
    assert_eq!(daemon.publish("old", "123456").unwrap_err().code, Code::PAYLOAD_TOO_LARGE);
    for _ in 0..5 {
        daemon.publish("old", "1").unwrap();
    }
    daemon.get("old", Which::Sequence(1)).unwrap();
    // The rule of now.
    daemon.publish("new", "123456").unwrap();
    daemon.publish("new", "1").unwrap();
    assert_eq!(daemon.publish("new", "1").unwrap_err().code, Code::RATE_LIMITED);
    assert_eq!(daemon.get("new", Which::Sequence(1)).unwrap_err().code, Code::EVICTED);
    // Messages expire, although no rule needed the time when the daemon began.
    daemon.publish("brief/a", "1").unwrap();
    let expired = async {
        while daemon.get("brief/a", Which::Latest).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within(expired).await;
}
