//! Rules that are replaced while sessions and streams of events are open.

use super::http::ask;
use super::key_file::{code, issuer, put};
use super::{client, closed, daemon, rights};
use crate::common::{TRANSPORTS, message, within};
use tempfile::tempdir;
use weir::access::{AccessRules, Expectations, Rights};
use weir::client::{PublishError, SubscribeError, Subscription};
use weir::daemon::{Changes, SettingsError};
use weir::wire::Code;
use weir::{Client, Daemon, SubscribeOptions, Transport};

async fn subscribe(client: &Client, filter: &str) -> Subscription {
    within(client.subscribe(filter, &SubscribeOptions::default())).await.unwrap()
}

async fn ended(mut subscription: Subscription) -> Code {
    match within(subscription.next()).await {
        Some(Err(SubscribeError::Refused(refusal))) => refusal.code,
        other => panic!("{other:?}"),
    }
}

async fn publish(client: &Client, topic: &str) -> Option<Code> {
    match within(client.publish(topic, "x")).await {
        Ok(_) => None,
        Err(PublishError::Refused(refusal)) => Some(refusal.code),
        Err(other) => panic!("{other}"),
    }
}

async fn change(daemon: &Daemon, rules: AccessRules) {
    daemon.reload(Changes::default().access(rules)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_everybody_may_do_changes_in_open_sessions() {
    for transport in TRANSPORTS {
        let (daemon, issuer) = closed().await;
        let rules =
            |public: Rights| AccessRules::default().tokens(issuer.verifier()).public(public);
        change(&daemon, rules(rights(&["public/in"], &["public/**"]))).await;
        let nobody = client(&daemon, transport, None).await.unwrap();
        let token = issuer.token("ann", rights(&["demo/a"], &["demo/**"]));
        let ann = client(&daemon, transport, Some(token.clone())).await.unwrap();
        let (ends, mut stays) =
            (subscribe(&nobody, "public/*").await, subscribe(&nobody, "public/a").await);
        let (of_ann, mut own) =
            (subscribe(&ann, "public/*").await, subscribe(&ann, "demo/*").await);
        assert_eq!(publish(&nobody, "public/in").await, None);
        assert_eq!(publish(&ann, "public/in").await, None);
        // The messages before are the last ones.
        let (mut ends, mut of_ann) = (ends, of_ann);
        for subscription in [&mut ends, &mut of_ann] {
            message(subscription).await;
            message(subscription).await;
        }

        change(&daemon, rules(rights(&[], &["public/a"]))).await;
        assert_eq!(ended(ends).await, Code::UNAUTHORIZED, "{transport}");
        assert_eq!(ended(of_ann).await, Code::FORBIDDEN, "{transport}");
        assert_eq!(publish(&nobody, "public/in").await, Some(Code::UNAUTHORIZED));
        assert_eq!(publish(&ann, "public/in").await, Some(Code::FORBIDDEN));
        // What is still allowed goes on, and what the token says is the token's.
        assert_eq!(publish(&ann, "demo/a").await, None);
        assert_eq!(message(&mut own).await.topic.as_ref(), "demo/a");
        daemon.publish("public/a", "x").unwrap();
        assert_eq!(message(&mut stays).await.topic.as_ref(), "public/a");

        change(&daemon, rules(rights(&["public/in"], &["**"]))).await;
        assert_eq!(publish(&nobody, "public/in").await, None, "the same alias again");
        drop(subscribe(&nobody, "**").await);
        drop(subscribe(&ann, "**").await);

        // Everybody may do everything, and then nobody.
        change(&daemon, AccessRules::default()).await;
        assert_eq!(publish(&nobody, "elsewhere").await, None);
        let all = subscribe(&nobody, "elsewhere").await;
        let late = client(&daemon, transport, Some("whatever".into())).await.unwrap();
        let of_late = subscribe(&late, "**").await;
        change(&daemon, AccessRules::default().public(Rights::nothing())).await;
        assert_eq!(ended(all).await, Code::UNAUTHORIZED);
        assert_eq!(ended(of_late).await, Code::UNAUTHORIZED);
        assert_eq!(publish(&nobody, "elsewhere").await, Some(Code::UNAUTHORIZED));
        assert_eq!(publish(&late, "elsewhere").await, Some(Code::UNAUTHORIZED));
        assert_eq!(publish(&ann, "demo/a").await, None, "until the token expires");
        assert!(message(&mut own).await.topic.as_ref() == "demo/a");
        // The session answers, and its numbers are free.
        within(late.ping()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_events_end_and_known_callers_are_asked_again() {
    let (daemon, issuer) = closed().await;
    let rules = |public: Rights| AccessRules::default().tokens(issuer.verifier()).public(public);
    let to = daemon.http_addr().unwrap();
    let mut ends = within(ask(to, "GET", "/v1/events/public%2F*").events()).await;
    let mut stays = within(ask(to, "GET", "/v1/events/public%2Fa").events()).await;
    change(&daemon, rules(rights(&[], &["public/a"]))).await;
    let last = within(ends.event()).await.unwrap();
    assert!(last.is("ended") && last.json()["name"] == "unauthorized", "{last:?}");
    assert!(within(ends.event()).await.is_none());
    daemon.publish("public/a", "x").unwrap();
    assert_eq!(within(stays.event()).await.unwrap().json()["topic"], "public/a");
    let refused = within(ask(to, "GET", "/v1/topics/public%2Fb").send()).await;
    assert_eq!(refused.status, 401);
    change(&daemon, rules(rights(&[], &["public/*"]))).await;
    let missing = within(ask(to, "GET", "/v1/topics/public%2Fb").send()).await;
    assert_eq!(missing.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_keys_are_for_those_who_come_and_the_same_ones_stay() {
    let directory = tempdir().unwrap();
    let paths = ["one.json", "two.json"].map(|name| directory.path().join(name));
    let (one, two) = (issuer("1"), issuer("2"));
    put(&paths[0], &one.0.public_jwks().unwrap());
    put(&paths[1], &two.0.public_jwks().unwrap());
    let rules =
        |path: &std::path::Path| AccessRules::default().key_file(path, Expectations::default());
    let daemon = daemon(rules(&paths[0])).await;
    let token = one.token("ann", rights(&["a"], &["a"]));
    let ann = client(&daemon, Transport::Quic, Some(token)).await.unwrap();

    change(&daemon, rules(&paths[1])).await;
    assert_eq!(code(&daemon, &one).await, Some(Code::UNAUTHORIZED));
    assert_eq!(code(&daemon, &two).await, None);
    assert_eq!(publish(&ann, "a").await, None);
    assert_eq!(publish(&ann, "b").await, Some(Code::FORBIDDEN));

    // The keys that were read stay for rules with the same file, which is not read.
    std::fs::remove_file(&paths[1]).unwrap();
    change(&daemon, rules(&paths[1]).public(rights(&["b"], &[]))).await;
    assert_eq!(code(&daemon, &two).await, None);
    assert_eq!(publish(&ann, "b").await, None);
    daemon.reload_keys().await.unwrap_err();
    put(&paths[1], &one.0.public_jwks().unwrap());
    assert!(daemon.reload_keys().await.unwrap());
    assert_eq!(code(&daemon, &two).await, Some(Code::UNAUTHORIZED));

    // Keys that are handed over replace those.
    change(&daemon, AccessRules::default().tokens(two.verifier())).await;
    assert_eq!(code(&daemon, &two).await, None);
    assert!(!daemon.reload_keys().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_all_together_or_not_at_all() {
    let (daemon, _) = closed().await;
    let nobody = client(&daemon, Transport::Quic, None).await.unwrap();
    let open = || Changes::default().access(AccessRules::default());
    let missing = AccessRules::default().key_file("/no/such.json", Expectations::default());
    for (changes, expected) in [
        (open().origins(["evil"]), "Origin"),
        (open().names(["a:80"]), "Name"),
        (
            open().topic_rules([weir::engine::TopicRule::new("$weir/**".parse().unwrap())]),
            "TopicRules",
        ),
        (Changes::default().origins(["*"]).access(missing), "Keys"),
    ] {
        let error: SettingsError = daemon.reload(changes).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        assert_eq!(publish(&nobody, "a").await, Some(Code::UNAUTHORIZED));
    }
    let foreign = ask(daemon.http_addr().unwrap(), "GET", "/v1/topics/public%2Fa");
    let answer = within(foreign.header("origin", "https://evil.example").send()).await;
    assert_eq!(answer.status, 403);
}
