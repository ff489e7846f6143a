//! Peers within the process that have an identity.

use super::http::ask;
use super::{client, closed, daemon, now, rights};
use crate::common::within;
use std::time::Duration;
use weir::access::{AccessRules, Identity, IdentityLimits, Rights};
use weir::daemon::Limit;
use weir::wire::{Code, Refusal, Which};
use weir::{Event, SubscribeOptions, Transport};

fn code<T>(result: Result<T, Refusal>) -> Option<Code> {
    result.err().map(|refusal| refusal.code)
}

fn ada(publish: &[&str], subscribe: &[&str]) -> Identity {
    Identity::named("ada", rights(publish, subscribe)).unwrap()
}

#[tokio::test]
async fn a_local_peer_may_do_what_its_identity_may() {
    let (daemon, _) = closed().await;
    daemon.publish("secret", "x").unwrap();
    daemon.publish("public/news", "x").unwrap();
    let ada = daemon.as_identity(ada(&["demo/chat"], &["demo/**"])).unwrap();
    let options = SubscribeOptions::default();
    let mut chat = ada.subscribe("demo/*", &options).unwrap();
    assert_eq!(ada.publish("demo/chat", "hi").unwrap().sequence, 1);
    match within(chat.next()).await.unwrap().unwrap() {
        Event::Message(message) => assert_eq!(message.payload, "hi"),
        other => panic!("{other:?}"),
    }
    assert_eq!(code(ada.publish("demo/other", "hi")), Some(Code::FORBIDDEN));
    assert_eq!(code(ada.publish("$weir/x", "hi")), Some(Code::FORBIDDEN));
    assert_eq!(ada.get("demo/chat", Which::Latest).unwrap().payload, "hi");
    assert_eq!(ada.top("demo/chat", 1).unwrap()[0].count, 1);
    assert_eq!(ada.get("public/news", Which::Latest).unwrap().payload, "x");
    // What there is, and what there is not, are refused alike.
    assert_eq!(ada.get("secret", Which::Latest).err(), ada.get("none", Which::Latest).err());
    assert_eq!(code(ada.get("secret", Which::Latest)), Some(Code::FORBIDDEN));
    assert_eq!(code(ada.top("secret", 1)), Some(Code::FORBIDDEN));
    for (filter, expected) in [
        ("demo/**", None),
        ("public/*", None),
        ("**", Some(Code::FORBIDDEN)),
        ("secret", Some(Code::FORBIDDEN)),
        ("$weir/**", Some(Code::FORBIDDEN)),
        ("a//b", Some(Code::BAD_FILTER)),
    ] {
        assert_eq!(code(ada.subscribe(filter, &options)), expected, "{filter}");
    }
    // The daemon's own methods have no restrictions.
    daemon.publish("secret", "y").unwrap();
    assert_eq!(daemon.get("secret", Which::Latest).unwrap().payload, "y");
}

#[tokio::test]
async fn a_local_peer_has_the_limits_of_its_identity() {
    let (daemon, _) = closed().await;
    let mut limits = IdentityLimits::default();
    (limits.sessions, limits.subscriptions, limits.messages_per_second) =
        (Some(2), Some(1), Some(5));
    let limited = || ada(&["a"], &["a"]).with_limits(limits);
    let one = daemon.as_identity(limited()).unwrap();
    let two = daemon.as_identity(limited()).unwrap();
    assert_eq!(code(daemon.as_identity(limited())), Some(Code::OVERLOADED));
    drop(two);
    daemon.as_identity(limited()).unwrap();
    let options = SubscribeOptions::default();
    let subscription = one.subscribe("a", &options).unwrap();
    assert_eq!(code(one.subscribe("a", &options)), Some(Code::TOO_MANY_SUBSCRIPTIONS));
    drop(subscription);
    drop(one.subscribe("a", &options).unwrap());
    let refused = (0..100).filter_map(|_| code(one.publish("a", "x"))).collect::<Vec<_>>();
    assert!((90..=95).contains(&refused.len()), "{}", refused.len());
    assert!(refused.iter().all(|code| *code == Code::RATE_LIMITED));
}

// A fresh attacker reconnected, or used HTTP, and had a full bucket each time.
#[tokio::test(flavor = "multi_thread")]
async fn the_rate_of_an_identity_holds_over_all_its_sessions_and_requests() {
    let (daemon, issuer) = closed().await;
    let mut limits = IdentityLimits::default();
    limits.messages_per_second = Some(1);
    let limited = ada(&["a"], &["a"]).with_limits(limits).with_expires(now() + 3_600_000_000);
    let token = issuer.sign(&limited);
    let local = daemon.as_identity(limited.clone()).unwrap();
    while local.publish("a", "x").is_ok() {}
    // What was spent stays spent.
    drop(local);
    let local = daemon.as_identity(limited).unwrap();
    assert_eq!(code(local.publish("a", "x")), Some(Code::RATE_LIMITED));
    let slowed = || daemon.limit_counts().get(Limit::Slowed);
    assert_eq!(slowed(), 0);
    let request = ask(daemon.http_addr().unwrap(), "POST", "/v1/topics/a").body("x");
    let request = request.header("authorization", format!("Bearer {token}"));
    let answer = within(request.send()).await;
    assert_eq!((answer.status, slowed()), (200, 1));
    let client = client(&daemon, Transport::Quic, Some(token)).await.unwrap();
    within(client.publish("a", "x")).await.unwrap();
    // The hello has counted too.
    let before = slowed();
    assert!(before >= 2, "{before}");
    // Others have their own.
    let other = issuer.token("bob", rights(&["a"], &[]));
    let request = ask(daemon.http_addr().unwrap(), "POST", "/v1/topics/a").body("x");
    let request = request.header("authorization", format!("Bearer {other}"));
    assert_eq!((within(request.send()).await.status, slowed()), (200, before));
}

#[tokio::test]
async fn a_local_peer_ends_with_its_identity() {
    let (daemon, _) = closed().await;
    let brief = ada(&["a"], &["a"]).with_expires(now() + 500_000);
    let ada = daemon.as_identity(brief.clone()).unwrap();
    let mut subscription = ada.subscribe("a", &SubscribeOptions::default()).unwrap();
    ada.publish("a", "x").unwrap();
    within(subscription.next()).await.unwrap().unwrap();
    let ended = within(subscription.next()).await.unwrap();
    assert_eq!(code(ended), Some(Code::TOKEN_EXPIRED));
    assert!(within(subscription.next()).await.is_none());
    assert_eq!(code(ada.publish("a", "x")), Some(Code::TOKEN_EXPIRED));
    assert_eq!(code(ada.get("a", Which::Latest)), Some(Code::TOKEN_EXPIRED));
    assert_eq!(code(ada.top("a", 1)), Some(Code::TOKEN_EXPIRED));
    let options = SubscribeOptions::default();
    assert_eq!(code(ada.subscribe("a", &options)), Some(Code::TOKEN_EXPIRED));
    assert_eq!(code(daemon.as_identity(brief)), Some(Code::TOKEN_EXPIRED));
}

// Events that wait are not given out after the end either.
#[tokio::test]
async fn what_waits_is_not_read_after_the_end() {
    let (daemon, _) = closed().await;
    let ada = daemon.as_identity(ada(&["a"], &["a"]).with_expires(now() + 300_000)).unwrap();
    let mut subscription = ada.subscribe("a", &SubscribeOptions::default()).unwrap();
    for _ in 0..10 {
        daemon.publish("a", "x").unwrap();
    }
    within(subscription.next()).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(301)).await;
    assert_eq!(code(within(subscription.next()).await.unwrap()), Some(Code::TOKEN_EXPIRED));
}

#[tokio::test]
async fn without_rules_a_local_peer_may_do_everything() {
    let daemon = daemon(AccessRules::default()).await;
    let nobody = daemon.as_identity(Identity::anonymous(Rights::nothing())).unwrap();
    nobody.publish("a", "x").unwrap();
    assert!(nobody.identity().rights().is_everything());
}
