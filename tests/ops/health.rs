//! `/healthz` and `/readyz`.

use super::ANY;
use super::common::within;
use super::http::{Answer, ask};
use std::net::SocketAddr;
use std::time::Duration;
use weir::{Daemon, SubscribeOptions};

async fn get(to: SocketAddr, path: &str) -> Answer {
    within(ask(to, "GET", path).send()).await
}

async fn daemon() -> (Daemon, SocketAddr) {
    let daemon = Daemon::builder().listen(ANY).http(ANY).ops(ANY).spawn().await.unwrap();
    let ops = daemon.ops_addr().unwrap();
    (daemon, ops)
}

#[tokio::test]
async fn each_path_answers_get_and_head_and_nothing_else() {
    let (_daemon, ops) = daemon().await;
    for (path, kind) in [
        ("/metrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("/healthz", "application/json"),
        ("/readyz", "application/json"),
    ] {
        let answer = get(ops, path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        let head = within(ask(ops, "HEAD", path).send()).await;
        assert_eq!((head.status, head.header("content-type")), (200, Some(kind)), "{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = within(ask(ops, method, path).send()).await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")));
        }
    }
    assert_eq!(get(ops, "/").await.status, 404);
    let text = String::from_utf8(get(ops, "/metrics").await.body).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(text.contains("\nweir_quic_rtt_seconds_bucket{le=\"+Inf\"} 0\n"), "{text}");
}

// What the page and the API have is not here, and the other way round.
#[tokio::test]
async fn it_is_apart_from_the_page() {
    let (daemon, ops) = daemon().await;
    assert_eq!(get(ops, "/v1/topics/a").await.status, 404);
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(get(daemon.http_addr().unwrap(), path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_daemon_that_drains_is_not_ready_and_lives_until_it_has_stopped() {
    let (daemon, ops) = daemon().await;
    assert_eq!(get(ops, "/readyz").await.json(), serde_json::json!({ "ready": true }));
    // A stream of events that is not read keeps the drain going.
    let http = daemon.http_addr().unwrap();
    let _events = within(ask(http, "GET", "/v1/events/a").events()).await;
    let _local = daemon.subscribe("a", &SubscribeOptions::default()).unwrap();
    daemon.drain(Duration::ZERO).await;
    let answer = get(ops, "/readyz").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()["reason"], "draining");
    assert_eq!(get(ops, "/healthz").await.status, 200);
    let text = String::from_utf8(get(ops, "/metrics").await.body).unwrap();
    assert!(text.contains("\nweir_ready 0"), "{text}");
    let metrics = daemon.metrics();
    within(daemon.shutdown()).await;
    // The port is free, and the metrics can still be read.
    std::net::TcpListener::bind(ops).unwrap();
    assert!(metrics.to_text().contains("\nweir_ready 0"));
}
