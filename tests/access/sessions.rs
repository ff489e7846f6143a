//! Sessions over QUIC, WebTransport and WebSocket.

use super::{builder, client, closed, daemon, now, rights};
use crate::common::{TRANSPORTS, message, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use weir::access::{
    AccessRules, Authorize, Authorizing, Credentials, Identity, IdentityLimits, Rights,
};
use weir::client::{ConnectError, PublishError, Reconnect, RequestError, SubscribeError};
use weir::wire::{Code, Refusal, Which};
use weir::{Client, Start, SubscribeOptions};

fn publish_code(result: Result<impl Sized, PublishError>) -> Option<Code> {
    match result {
        Ok(_) => None,
        Err(PublishError::Refused(refusal)) => Some(refusal.code),
        Err(other) => panic!("{other}"),
    }
}

fn request_code(result: Result<impl Sized, RequestError>) -> Option<Code> {
    match result {
        Ok(_) => None,
        Err(RequestError::Refused(refusal)) => Some(refusal.code),
        Err(other) => panic!("{other}"),
    }
}

async fn subscribe_code(client: &Client, filter: &str) -> Option<Code> {
    match within(client.subscribe(filter, &SubscribeOptions::default())).await {
        Ok(_) => None,
        Err(SubscribeError::Refused(refusal)) => Some(refusal.code),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_allows_what_it_says_and_nothing_else() {
    let (daemon, issuer) = closed().await;
    daemon.publish("public/news", "x").unwrap();
    daemon.publish("secret/plan", "x").unwrap();
    for transport in TRANSPORTS {
        let token = issuer.token("ann", rights(&["demo/chat"], &["demo/**"]));
        let ann = client(&daemon, transport, Some(token)).await.unwrap();
        let large = vec![7; 200 << 10];
        for payload in [b"hi".to_vec(), large] {
            let publish = |topic| within(ann.publish(topic, payload.clone()));
            assert_eq!(publish_code(publish("demo/chat").await), None);
            assert_eq!(publish_code(publish("demo/other").await), Some(Code::FORBIDDEN));
            assert_eq!(publish_code(publish("demo/chat").await), None, "the session goes on");
        }
        if transport != weir::Transport::WebSocket {
            let sent = within(ann.send_realtime("demo/other", "x")).await.unwrap();
            let refused = within(sent).await;
            assert_eq!(publish_code(refused), Some(Code::FORBIDDEN));
        }
        for (filter, code) in [
            ("demo/**", None),
            ("demo/chat", None),
            ("public/*", None),
            ("**", Some(Code::FORBIDDEN)),
            ("secret/plan", Some(Code::FORBIDDEN)),
            ("secret/none", Some(Code::FORBIDDEN)),
            ("$weir/**", Some(Code::FORBIDDEN)),
        ] {
            assert_eq!(subscribe_code(&ann, filter).await, code, "{transport} {filter}");
        }
        // The answers are the same whether or not there is something.
        let get = |topic: &'static str| within(ann.get(topic, Which::Latest));
        let (there, not) = (get("secret/plan").await, get("secret/none").await);
        assert_eq!(there.unwrap_err().to_string(), not.unwrap_err().to_string());
        assert_eq!(request_code(within(ann.top("secret/plan", 3)).await), Some(Code::FORBIDDEN));
        assert_eq!(request_code(get("public/news").await), None);
        ann.close().await;
        // Nobody in particular.
        let nobody = client(&daemon, transport, None).await.unwrap();
        let refused = within(nobody.publish("demo/chat", "x")).await;
        assert_eq!(publish_code(refused), Some(Code::UNAUTHORIZED));
        assert_eq!(subscribe_code(&nobody, "demo/chat").await, Some(Code::UNAUTHORIZED));
        assert_eq!(subscribe_code(&nobody, "public/**").await, None);
        // A wrong token is worse than none.
        match client(&daemon, transport, Some("not.a.token".into())).await {
            Err(ConnectError::Refused { refusal, .. }) => {
                assert_eq!(refusal.code, Code::UNAUTHORIZED);
            }
            other => panic!("{transport}: {other:?}"),
        }
    }
    assert!(daemon.get("demo/other", Which::Latest).is_err(), "it was published");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token() {
    let (daemon, issuer) = closed().await;
    for transport in TRANSPORTS {
        let token = issuer.short_token("ann", rights(&["a"], &["a"]), 2);
        let ann = client(&daemon, transport, Some(token)).await.unwrap();
        within(ann.publish("a", "x")).await.unwrap();
        let closed = within(ann.closed()).await;
        assert_eq!(closed.code, Some(Code::TOKEN_EXPIRED), "{transport}: {closed}");
    }
}

// The subscription has no gap and no interruption.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_a_new_token_before_the_end() {
    let (daemon, issuer) = closed().await;
    for transport in TRANSPORTS {
        let (fetched, issuer) = (Arc::new(AtomicU32::new(0)), issuer.clone());
        let count = fetched.clone();
        let builder = builder(&daemon, transport).token_from(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let token = issuer.short_token("ann", rights(&["a"], &["a"]), 3);
            async move { Ok(token) }
        });
        let ann = within(builder.connect()).await.unwrap();
        let options = SubscribeOptions::from(Start::New);
        let mut subscription = within(ann.subscribe("a", &options)).await.unwrap();
        let mut number = 0;
        while fetched.load(Ordering::SeqCst) < 4 {
            number += 1;
            let text = format!("{number}");
            within(ann.publish("a", text.clone())).await.unwrap();
            assert_eq!(message(&mut subscription).await.payload, text);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(number > 100, "{transport}: {number}");
        ann.close().await;
    }
}

/// Accepts every text as a token: the name, and the filters that it may publish and read.
struct Texts;

impl Authorize for Texts {
    fn authorize<'a>(&'a self, credentials: Credentials<'a>) -> Authorizing<'a> {
        Box::pin(async move {
            let none = || Refusal::new(Code::UNAUTHORIZED, "no text");
            let mut parts = credentials.token.ok_or_else(none)?.split(' ');
            let mut next = || parts.next().ok_or_else(none);
            let (name, publish, read, seconds) = (next()?, next()?, next()?, next()?);
            let mut limits = IdentityLimits::default();
            limits.sessions = Some(2);
            let identity = Identity::named(name, rights(&[publish], &[read])).unwrap();
            let lifetime = seconds.parse::<u64>().unwrap() * 1_000_000;
            Ok(identity.with_limits(limits).with_expires(now() + lifetime))
        })
    }
}

// The second token allows something else.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_changes_what_a_session_may_do() {
    let daemon = daemon(AccessRules::default().authorize(Texts)).await;
    for transport in TRANSPORTS {
        let fetched = Arc::new(AtomicU32::new(0));
        let count = fetched.clone();
        let builder = builder(&daemon, transport).token_from(move || {
            let text = match count.fetch_add(1, Ordering::SeqCst) {
                0 => "ann a a 2",
                // Of another identity, which is refused.
                1 => "bob a a 2",
                _ => "ann b b 3600",
            };
            async move { Ok(text.to_owned()) }
        });
        let ann = within(builder.connect()).await.unwrap();
        let mut of_a = within(ann.subscribe("a", &SubscribeOptions::default())).await.unwrap();
        within(ann.publish("a", "x")).await.unwrap();
        message(&mut of_a).await;
        match within(of_a.next()).await {
            Some(Err(SubscribeError::Refused(refusal))) => {
                assert_eq!(refusal.code, Code::FORBIDDEN, "{transport}");
            }
            other => panic!("{transport}: {other:?}"),
        }
        assert_eq!(publish_code(within(ann.publish("a", "x")).await), Some(Code::FORBIDDEN));
        assert_eq!(publish_code(within(ann.publish("b", "x")).await), None);
        assert_eq!(subscribe_code(&ann, "a").await, Some(Code::FORBIDDEN));
        assert_eq!(subscribe_code(&ann, "b").await, None);
        ann.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_has_so_many_sessions() {
    let daemon = daemon(AccessRules::default().authorize(Texts)).await;
    let connect =
        |name: &str| client(&daemon, weir::Transport::Quic, Some(format!("{name} a a 3600")));
    let one = connect("ann").await.unwrap();
    let _two = connect("ann").await.unwrap();
    match connect("ann").await {
        Err(ConnectError::Refused { refusal, .. }) => assert_eq!(refusal.code, Code::OVERLOADED),
        other => panic!("{other:?}"),
    }
    let _other = connect("bob").await.unwrap();
    one.close().await;
    while connect("ann").await.is_err() {}
}

// Fetching fails once while the session is open, and once between two sessions.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_fetched_is_fetched_again() {
    let (daemon, issuer) = closed().await;
    let fetched = Arc::new(AtomicU32::new(0));
    let count = fetched.clone();
    let builder = builder(&daemon, weir::Transport::Quic).reconnect(Reconnect::default());
    let builder = builder.token_from(move || {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let token = issuer.short_token("ann", rights(&["a"], &["a"]), 2);
        async move { if number.is_multiple_of(2) { Ok(token) } else { Err("no network".into()) } }
    });
    let ann = within(builder.connect()).await.unwrap();
    while fetched.load(Ordering::SeqCst) < 6 {
        within(ann.publish("a", "x")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let never =
        super::builder(&daemon, weir::Transport::Quic).token_from(async || Err("no".into()));
    assert!(matches!(within(never.connect()).await, Err(ConnectError::Token(_))));
}

// Rules that allow everything are no rules.
#[tokio::test(flavor = "multi_thread")]
async fn without_rules_everybody_may_do_everything() {
    for rules in [AccessRules::default(), AccessRules::default().public(Rights::everything())] {
        let daemon = daemon(rules).await;
        let anyone = client(&daemon, weir::Transport::Quic, Some("whatever".into())).await.unwrap();
        within(anyone.publish("a", "x")).await.unwrap();
        assert_eq!(subscribe_code(&anyone, "**").await, None);
    }
}
