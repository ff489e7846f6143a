//! Origins and host names that a daemon accepts, and requests that it refuses.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/http.rs"]
mod http;

use common::within;
use http::{Answer, ask};
use std::net::{Ipv4Addr, SocketAddr};
use weir::Daemon;
use weir::engine::Limits;

/// Starts a daemon with plain HTTP, one allowed origin, and a host name. Returns it and the address
/// of HTTP.
async fn serve(limits: Limits) -> (Daemon, SocketAddr) {
    let loopback: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let builder = Daemon::builder().listen(loopback).http(loopback).limits(limits);
    let builder = builder.origins(["https://app.example"]).names(["relay.example"]);
    let daemon = builder.spawn().await.unwrap();
    let address = daemon.http_addr().unwrap();
    (daemon, address)
}

async fn publish(to: SocketAddr, topic: &str, payload: &[u8]) -> Answer {
    within(ask(to, "POST", &format!("/v1/topics/{topic}")).body(payload).send()).await
}

async fn get(to: SocketAddr, target: &str) -> Answer {
    within(ask(to, "GET", target).send()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_its_files() {
    let (_daemon, to) = serve(Limits::default()).await;
    let page = get(to, "/").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    let tag = page.header("etag").unwrap();
    let again = within(ask(to, "GET", "/").header("if-none-match", tag).send()).await;
    assert_eq!((again.status, again.header("etag")), (304, Some(tag)));
    let gzip = within(ask(to, "GET", "/").header("accept-encoding", "gzip").send()).await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert!(gzip.body.starts_with(&[0x1f, 0x8b]) && gzip.body.len() < page.body.len());
    let far = ask(to, "GET", "/openapi.json").header("origin", "https://far.example");
    let far = within(far.send()).await;
    assert_eq!(far.header("access-control-allow-origin"), Some("*"));
    assert_eq!(far.header("cross-origin-resource-policy"), Some("cross-origin"));
    for path in ["/package.json", "/README.md", "/../Cargo.toml", "/page", "/web/index.html"] {
        assert_eq!(get(to, path).await.status, 404, "{path}");
    }
    let posted = within(ask(to, "POST", "/index.html").send()).await;
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_and_other_names_are_refused() {
    let (daemon, to) = serve(Limits::default()).await;
    daemon.publish("o", "x").unwrap();
    let with = |name: &str, value: &str| ask(to, "GET", "/v1/topics/o").header(name, value);
    let listed = within(with("origin", "https://app.example").send()).await;
    assert_eq!(listed.header("access-control-allow-origin"), Some("https://app.example"));
    assert!(listed.header("access-control-expose-headers").unwrap().contains("Weir-Sequence"));
    let own = within(with("origin", "http://localhost:5173").send()).await;
    assert_eq!(own.status, 200);
    let other = within(with("origin", "https://evil.example").send()).await;
    assert_eq!((other.status, other.header("access-control-allow-origin")), (403, None));
    let detail = other.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("https://evil.example") && detail.contains("http.origins"));
    let rebound = within(with("host", "evil.example:8080").send()).await;
    assert_eq!(rebound.status, 421);
    assert!(rebound.json()["detail"].as_str().unwrap().contains("http.names"));
    for name in ["relay.example", "app.example", "192.0.2.1", "[2001:db8::1]:80"] {
        assert_eq!(within(with("host", name).send()).await.status, 200, "{name}");
    }
    // What a page of another site loads as an image has no origin.
    let image = with("sec-fetch-site", "cross-site").header("sec-fetch-mode", "no-cors");
    assert_eq!(within(image.send()).await.status, 403);
    let link = with("sec-fetch-site", "cross-site").header("sec-fetch-mode", "navigate");
    assert_eq!(within(link.send()).await.status, 200);
    for value in [listed, other, rebound] {
        assert!(value.headers.iter().any(|(name, value)| name == "vary" && value == "origin"));
    }
    let preflight =
        ask(to, "OPTIONS", "/v1/topics/o").header("access-control-request-method", "POST");
    let allowed = within(preflight.clone().header("origin", "https://app.example").send()).await;
    assert_eq!(allowed.status, 204);
    let headers = allowed.header("access-control-allow-headers").unwrap();
    assert!(headers.contains("idempotency-key") && headers.contains("last-event-id"));
    assert_eq!(within(preflight.header("origin", "https://evil.example").send()).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_for_allowed_origins() {
    let (_daemon, to) = serve(Limits::default()).await;
    let ask = |name, value| ask(to, "GET", "/certificate.sha256").header(name, value);
    for own in ["https://app.example", "http://localhost:5173"] {
        let answer = within(ask("origin", own).send()).await;
        let readable = answer.header("access-control-allow-origin");
        assert_eq!((answer.status, readable), (200, Some(own)));
    }
    let plain = within(ask("accept", "*/*").send()).await;
    assert_eq!((plain.status, plain.header("access-control-allow-origin")), (200, None));
    for (name, value, status) in
        [("origin", "https://evil.example", 403), ("origin", "null", 403), ("host", "evil", 421)]
    {
        let other = within(ask(name, value).send()).await;
        let readable = other.header("access-control-allow-origin");
        assert_eq!((other.status, readable), (status, Some("*")), "{value}");
        assert_eq!(other.json()["name"], "forbidden");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_in_a_coding_are_refused() {
    let (daemon, to) = serve(Limits::default()).await;
    let post = |coding| ask(to, "POST", "/v1/topics/c").header("content-encoding", coding);
    for coding in ["gzip", "identity, br", "GZIP", "aws-chunked"] {
        let refused = within(post(coding).body("x").send()).await;
        let instead = refused.header("accept-encoding");
        assert_eq!((refused.status, instead), (415, Some("identity")), "{coding}");
        assert_eq!(refused.json()["name"], "unsupported");
    }
    assert_eq!(within(post("Identity").body("x").send()).await.status, 200);
    let dots = publish(to, "a%2F..%2Fb", b"x").await;
    assert_eq!((dots.status, dots.json()["name"].as_str()), (400, Some("bad_topic")));
    drop(daemon);
}

// The upgrade follows the same rules as every request.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebound_name_gets_no_web_socket() {
    let (_daemon, to) = serve(Limits::default()).await;
    for (host, status) in [("relay.example", 101), ("localhost", 101), ("rebound.example:80", 421)]
    {
        let upgrade = ask(to, "GET", "/weir")
            .header("host", host)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", 13)
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let (found, _) = within(within(upgrade.open()).await.head()).await;
        assert_eq!(found, status, "{host}");
    }
}
