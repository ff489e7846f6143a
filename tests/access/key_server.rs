//! Keys from a server.

use super::servers::{Authority, Server};
use super::{Issuer, client, daemon, now, rights};
use crate::common::{PATIENCE, within};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;
use weir::access::{AccessRules, Algorithm, Expectations, Identity, Remote, SigningKey};
use weir::client::ConnectError;
use weir::wire::Code;
use weir::{Daemon, Transport};

fn issuer(id: &str) -> Issuer {
    Issuer(SigningKey::generate(Algorithm::EdDsa, Some(id)).unwrap())
}

fn keys(issuer: &Issuer) -> String {
    issuer.0.public_jwks().unwrap()
}

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

async fn code(daemon: &Daemon, issuer: &Issuer) -> Option<Code> {
    let token = issuer.token("ada", rights(&["a"], &["a"]));
    match client(daemon, Transport::Quic, Some(token)).await {
        Ok(_) => None,
        Err(ConnectError::Refused { refusal, .. }) => Some(refusal.code),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_an_https_address() {
    let (authority, one, two) = (Authority::new(), issuer("1"), issuer("2"));
    let published = keys(&one);
    let server = Server::secure(&authority, move |_| Some((200, "", published.clone()))).await;
    let authorities = file(&authority.pem);
    let url = format!("https://localhost:{}/jwks.json", server.address.port());
    let remote = Remote::new(&url).with_authorities(authorities.path());
    let rules = AccessRules::default().key_server(remote, Expectations::default());
    assert!(!rules.is_open());
    let daemon = daemon(rules).await;
    assert_eq!(code(&daemon, &one).await, None);
    // The key is changed: the token of the new one has the set fetched.
    let published = keys(&two);
    server.answer(move |_| Some((200, "", published.clone())));
    let token = one.token("ada", rights(&["a"], &["a"]));
    let open = client(&daemon, Transport::Quic, Some(token)).await.unwrap();
    assert_eq!(server.asked().len(), 1);
    assert_eq!(code(&daemon, &two).await, None);
    assert_eq!(code(&daemon, &one).await, Some(Code::UNAUTHORIZED));
    assert_eq!(server.asked().len(), 2);
    // The session goes on.
    within(open.publish("a", "x")).await.unwrap();
    // An operator who has it fetched.
    let published = keys(&one);
    server.answer(move |_| Some((200, "", published.clone())));
    assert!(daemon.reload_keys().await.unwrap());
    assert_eq!(code(&daemon, &one).await, None);
    // It fails, and says so. The keys stay.
    server.answer(|_| Some((500, "", String::new())));
    let failed = daemon.reload_keys().await.unwrap_err().to_string();
    assert!(failed.contains(&url) && failed.contains("status 500"), "{failed}");
    assert_eq!(code(&daemon, &one).await, None);
}

// Whoever sits between could give a key of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_is_not_believed() {
    let (authority, stranger, one) = (Authority::new(), Authority::new(), issuer("1"));
    let published = keys(&one);
    let server = Server::secure(&stranger, move |_| Some((200, "", published.clone()))).await;
    let port = server.address.port();
    let authorities = file(&authority.pem);
    for (host, authorities) in [("localhost", &authorities), ("127.0.0.1", &file(&stranger.pem))] {
        let remote = Remote::new(format!("https://{host}:{port}/jwks.json"));
        let remote = remote.with_authorities(authorities.path());
        let rules = AccessRules::default().key_server(remote, Expectations::default());
        let daemon = daemon(rules).await;
        let failed = daemon.reload_keys().await.unwrap_err().to_string();
        assert!(failed.contains("certificate"), "{failed}");
        assert_eq!(code(&daemon, &one).await, Some(Code::OVERLOADED), "{host}");
    }
    assert!(server.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_server_a_daemon_starts_and_waits_for_keys() {
    let one = issuer("1");
    let server = Server::plain(|_| Some((503, "", String::new()))).await;
    let remote = Remote::new(format!("http://{}/jwks.json", server.address));
    let rules = AccessRules::default().key_server(remote, Expectations::default());
    let daemon = daemon(rules.public(rights(&[], &["public/**"]))).await;
    assert_eq!(code(&daemon, &one).await, Some(Code::OVERLOADED));
    // It may be shown again, and those without a token are not concerned.
    assert!(Code::OVERLOADED.retry());
    drop(client(&daemon, Transport::Quic, None).await.unwrap());
    let published = keys(&one);
    server.answer(move |_| Some((200, "", published.clone())));
    // The next attempt comes within seconds, without a token that asks for it.
    let begun = Instant::now();
    while code(&daemon, &one).await.is_some() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

// Over HTTP the answer for a token is kept for a minute, but not beyond its key.
#[tokio::test(flavor = "multi_thread")]
async fn over_http_a_removed_key_is_worth_nothing_at_once() {
    let (one, two) = (issuer("1"), issuer("2"));
    let published = keys(&one);
    let server = Server::plain(move |_| Some((200, "", published.clone()))).await;
    let remote = Remote::new(format!("http://{}/jwks.json", server.address));
    let rules = AccessRules::default().key_server(remote, Expectations::default());
    let daemon = daemon(rules).await;
    let identity = Identity::named("ada", rights(&["a"], &["a"])).unwrap();
    let token = one.sign(&identity.with_expires(now() + 3_600_000_000));
    let bearer = format!("Bearer {token}");
    let ask = |method: &'static str, target: String| {
        let request = super::http::ask(daemon.http_addr().unwrap(), method, &target);
        let request = request.header("authorization", &bearer).body("x");
        async move { within(request.send()).await }
    };
    assert_eq!(ask("POST", "/v1/topics/a".into()).await.status, 200);
    let ticket = ask("POST", "/v1/tickets".into()).await.json();
    let target = format!("/v1/events/a?ticket={}", ticket["ticket"].as_str().unwrap());
    let published = keys(&two);
    server.answer(move |_| Some((200, "", published.clone())));
    daemon.reload_keys().await.unwrap();
    assert_eq!(ask("POST", "/v1/topics/a".into()).await.status, 401);
    let events = super::http::ask(daemon.http_addr().unwrap(), "GET", &target);
    assert_eq!(within(events.send()).await.status, 401);
}
