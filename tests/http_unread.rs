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

/// Starts a daemon with a small cache, which still takes large payloads.
fn served() -> (tempfile::TempDir, Served, SocketAddr) {
    let state = tempfile::tempdir().unwrap();
    let environment = [("WEIR_CACHE__BYTES", "4MiB"), ("WEIR_LIMITS__PAYLOAD", "1MiB")];
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
/// is a quarter of the cache, the buffers of the transport for some hundred streams, 8 MiB of records
/// that the journal has not written, and what the allocator keeps.
const MORE: u64 = 24 << 10;

async fn filled(to: SocketAddr, served: &Served) -> u64 {
    for n in 0..20 {
        publish(to, "before", n).await;
    }
    served.kib("VmRSS:")
}

/// Reads the heads of so many answers. On a slow disk, 100 large publications take longer than the daemon
/// waits for a client that says nothing.
async fn heads(h2: &mut H2, answers: usize) {
    for _ in 0..answers {
        while within(h2.polite()).await.unwrap().kind != HEADERS {}
    }
}

/// Reads the heads of 100 answers. Returns the number of refusals.
async fn answered(h2: &mut H2) -> u32 {
    let mut refused = 0;
    for _ in 0..100 {
        refused += u32::from(within(h2.next(HEADERS)).await.unwrap().status() == 503);
    }
    refused
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
            if n % 20 == 19 {
                heads(&mut h2, 20).await;
            }
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
        refused += answered(&mut h2).await;
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
        heads(&mut h2, 1).await;
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
        answered(&mut h2).await;
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
        refused += answered(&mut h2).await;
        clients.push(h2);
    }
    println!("{refused} of 1000 refused");
    bounded(&served, before, "1,000 requests on ten connections with a window of 0");
}
