//! The HTTP face of a daemon, over TCP: arbitrary bytes, idempotent publications, and events
//! without gaps.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::too_many_lines, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod events;
#[path = "../common/http.rs"]
mod http;

use common::within;
use http::{Answer, ask};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use weir::Daemon;
use weir::engine::Limits;

/// Starts a daemon with plain HTTP. Returns it and the address of HTTP.
pub(crate) async fn serve(limits: Limits) -> (Arc<Daemon>, SocketAddr) {
    let loopback: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let builder = Daemon::builder().listen(loopback).http(loopback).limits(limits);
    let daemon = builder.spawn().await.unwrap();
    let address = daemon.http_addr().unwrap();
    (Arc::new(daemon), address)
}

pub(crate) async fn publish(to: SocketAddr, topic: &str, payload: &[u8]) -> Answer {
    within(ask(to, "POST", &format!("/v1/topics/{topic}")).body(payload).send()).await
}

pub(crate) async fn get(to: SocketAddr, target: &str) -> Answer {
    within(ask(to, "GET", target).send()).await
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn any_bytes_come_back_as_they_went() {
    let (daemon, to) = serve(Limits::default()).await;
    let most = daemon.limits().payload;
    let all: Vec<u8> = (0..=255).collect();
    let page = b"<!doctype html><script>alert(1)</script>".to_vec();
    let large: Vec<u8> = (0..most).map(|n| (n * 31 + n / 251) as u8).collect();
    for (n, payload) in [Vec::new(), b"text\r\n\0".to_vec(), all, page, large].iter().enumerate() {
        let topic = format!("bytes%2F{n}");
        let receipt = publish(to, &topic, payload).await;
        assert_eq!(receipt.status, 200, "{}", String::from_utf8_lossy(&receipt.body));
        assert_eq!(receipt.json()["size"], payload.len());
        let answer = get(to, &format!("/v1/topics/{topic}")).await;
        assert!(answer.body == *payload, "{n}: other bytes");
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("content-disposition"), Some("attachment"));
        let policy = answer.header("content-security-policy");
        assert_eq!(policy, Some("sandbox; default-src 'none'"));
        let digest = receipt.json()["digest"].as_str().unwrap().to_owned();
        assert_eq!(answer.header("etag"), Some(&*format!("\"{digest}\"")));
        let by_digest = get(to, &format!("/v1/topics/{topic}?digest={digest}")).await;
        assert!(by_digest.body == *payload);
    }
    let one_more = publish(to, "bytes", &vec![0; most + 1]).await;
    assert_eq!(
        (one_more.status, one_more.json()["name"].as_str()),
        (413, Some("payload_too_large"))
    );
    assert!(one_more.json()["detail"].as_str().unwrap().contains("limits.payload"));
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn a_body_without_a_length_is_bounded_too() {
    let (daemon, to) = serve(Limits::default().with_payload(10_000)).await;
    for (size, status) in [(10_000, 200), (10_001, 413)] {
        let mut body = Vec::new();
        for piece in vec![b'x'; size].chunks(3000) {
            body.extend(format!("{:x}\r\n", piece.len()).bytes());
            body.extend(piece);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        let raw = Raw { to, head: "POST /v1/topics/chunked", body };
        assert_eq!(raw.status().await, status, "{size}");
    }
    assert_eq!(get(to, "/v1/topics/chunked").await.body.len(), 10_000);
    drop(daemon);
}

/// A request with a chunked body.
pub(crate) struct Raw {
    pub(crate) to: SocketAddr,
    pub(crate) head: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    pub(crate) async fn status(&self) -> u16 {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.to).await.unwrap();
        let head = format!(
            "{} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
            self.head
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&self.body).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn a_key_publishes_once_also_when_many_try_at_once() {
    let (_daemon, to) = serve(Limits::default()).await;
    let request = ask(to, "POST", "/v1/topics/once").header("Idempotency-Key", "\"k-1\"");
    let tries = (0..16).map(|_| {
        let request = request.clone().body("hello");
        tokio::spawn(async move { request.send().await })
    });
    let mut fresh = 0;
    for answer in tries.collect::<Vec<_>>() {
        let answer = within(answer).await.unwrap();
        let receipt = answer.json();
        assert_eq!(
            (answer.status, &receipt["sequence"], &receipt["count"]),
            (200, &1.into(), &1.into())
        );
        fresh += u32::from(receipt["duplicate"] == false);
    }
    assert_eq!(fresh, 1);
    let without_quotes = ask(to, "POST", "/v1/topics/once").header("idempotency-key", "k-1");
    assert_eq!(within(without_quotes.body("hello").send()).await.json()["duplicate"], true);
    let other = within(request.clone().body("other").send()).await;
    assert_eq!((other.status, other.json()["retry"].as_bool()), (422, Some(false)));
    let elsewhere = ask(to, "POST", "/v1/topics/elsewhere").header("idempotency-key", "k-1");
    assert_eq!(within(elsewhere.body("other").send()).await.json()["duplicate"], false);
    assert_eq!(publish(to, "once", b"hello").await.json()["count"], 2);
    let latest = get(to, "/v1/topics/once").await;
    assert_eq!(
        (latest.header("weir-sequence"), latest.header("weir-count")),
        (Some("2"), Some("2"))
    );
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn the_highest_counts_come_first() {
    let (daemon, to) = serve(Limits::default()).await;
    for n in 0..5_u8 {
        (0..=n).for_each(|_| drop(daemon.publish("t/top", vec![n; 3])));
    }
    daemon.publish("t/top", vec![0xff]).unwrap();
    let top = get(to, "/v1/topics/t%2Ftop/top?k=2").await.json();
    let counts: BTreeMap<_, _> = top["top"].as_array().unwrap().iter().enumerate().collect();
    assert_eq!((top["topic"].as_str(), counts.len()), (Some("t/top"), 2));
    assert_eq!(
        (&counts[&0]["count"], &counts[&0]["payload"]),
        (&5.into(), &"\u{4}\u{4}\u{4}".into())
    );
}
