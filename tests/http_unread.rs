//! Memory that the daemon uses for clients that do not read over HTTP, as the kernel reports it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/h2.rs"]
mod h2;
#[path = "common/http.rs"]
mod http;

use common::{Served, within};
use h2::{H2, HEADERS};
use http::ask;
use std::net::SocketAddr;

/// Starts a daemon with a small cache, which still takes large payloads. It has no journal: what that may
/// hold is tested in `held.rs`, and a slow disk would make the clients here wait longer than a daemon waits
/// for a client that says nothing.
fn served() -> (tempfile::TempDir, Served, SocketAddr) {
    let state = tempfile::tempdir().unwrap();
    let environment = [
        ("WEIR_CACHE__BYTES", "4MiB"),
        ("WEIR_LIMITS__PAYLOAD", "1MiB"),
        ("WEIR_JOURNAL__KIND", "none"),
    ];
    let served = Served::start(state.path(), &["--http", "127.0.0.1:0"], &environment);
    let to = served.http.unwrap();
    (state, served, to)
}

/// Publishes a large payload that differs from all others.
async fn publish(to: SocketAddr, topic: &str, n: u32) {
    let mut payload = vec![b'x'; 1 << 20];
    payload[..4].copy_from_slice(&n.to_le_bytes());
    let post = ask(to, "POST", &format!("/v1/topics/{topic}")).body(payload);
    assert_eq!(within(post.send()).await.status, 200);
}

/// Bound beyond the memory of a daemon with a full cache, KiB. It is the sum of the budget, which
/// is a quarter of the cache, the buffers of the transport for some hundred streams, and what the allocator
/// keeps.
const MORE: u64 = 16 << 10;

async fn filled(to: SocketAddr, served: &Served) -> u64 {
    for n in 0..20 {
        publish(to, "before", n).await;
    }
    served.kib("VmRSS:")
}

/// Reads frames until the head of an answer, and returns its status.
async fn head(h2: &mut H2) -> u16 {
    loop {
        let frame = within(h2.polite()).await.unwrap();
        if frame.kind == HEADERS {
            return frame.status();
        }
    }
}

fn bounded(served: &Served, before: u64, what: &str) {
    let after = served.kib("VmRSS:");
    println!("{what}: {before} KiB before, {after} KiB after");
    assert!(after < before + MORE, "{what}: {before} KiB before, {after} KiB after");
}

#[tokio::test]
async fn gets_that_are_not_read() {
    let (_state, served, to) = served();
    let before = filled(to, &served).await;
    let mut clients = Vec::new();
    for connection in 0..3 {
        let mut h2 = H2::connect(to, 0).await;
        for n in 0..100 {
            publish(to, "a", connection * 100 + n).await;
            h2.ask("GET", "/v1/topics/a", &[]).await;
        }
        for _ in 0..100 {
            head(&mut h2).await;
        }
        clients.push(h2);
    }
    bounded(&served, before, "300 gets of 1 MiB on three connections with a window of 0");
}

#[tokio::test]
async fn small_gets_that_are_not_read() {
    let (_state, served, to) = served();
    let before = filled(to, &served).await;
    let (mut clients, mut refused) = (Vec::new(), 0);
    for connection in 0..6_u32 {
        let mut h2 = H2::connect(to, 0).await;
        for n in 0..100 {
            let mut payload = vec![b'x'; 60_000];
            payload[..4].copy_from_slice(&(connection * 100 + n).to_le_bytes());
            within(ask(to, "POST", "/v1/topics/a").body(payload).send()).await;
            h2.ask("GET", "/v1/topics/a", &[]).await;
        }
        for _ in 0..100 {
            refused += u32::from(head(&mut h2).await == 503);
        }
        clients.push(h2);
    }
    assert!(refused > 500, "{refused}");
    bounded(&served, before, "600 gets of 60 kB on six connections with a window of 0");
}

#[tokio::test]
async fn streams_of_events_that_are_not_read() {
    let (_state, served, to) = served();
    let before = filled(to, &served).await;
    let mut h2 = H2::connect(to, 100).await;
    for n in 0..100 {
        h2.ask("GET", &format!("/v1/events/e%2F{n}"), &[]).await;
        head(&mut h2).await;
    }
    for n in 0..100 {
        publish(to, &format!("e%2F{n}"), n).await;
    }
    bounded(&served, before, "100 streams of events, each at a message of 1 MiB");
}

#[tokio::test]
async fn pages_that_are_not_read() {
    let (_state, served, to) = served();
    let before = filled(to, &served).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut h2 = H2::connect(to, 1).await;
        for _ in 0..100 {
            h2.ask("GET", "/weir.js", &[("accept-encoding", "gzip")]).await;
        }
        for _ in 0..100 {
            head(&mut h2).await;
        }
        clients.push(h2);
    }
    bounded(&served, before, "300 times the client for browsers, compressed while it is sent");
}

// Memory of the requests themselves: 1,000 at once, of which some 200 fit the budget.
#[tokio::test]
async fn requests_whose_answers_are_not_read() {
    let (_state, served, to) = served();
    let before = filled(to, &served).await;
    within(ask(to, "POST", "/v1/topics/a").body("x").send()).await;
    let (mut clients, mut refused) = (Vec::new(), 0);
    for _ in 0..10 {
        let mut h2 = H2::connect(to, 0).await;
        for _ in 0..100 {
            h2.ask("GET", "/v1/topics/a", &[]).await;
        }
        for _ in 0..100 {
            refused += u32::from(head(&mut h2).await == 503);
        }
        clients.push(h2);
    }
    println!("{refused} of 1000 refused");
    bounded(&served, before, "1,000 requests on ten connections with a window of 0");
}
