//! The metrics of a daemon without sockets.

use super::Server;
use super::family::Family;
use super::health::{lives, readiness};
use super::metrics::{Metrics, Sources};
use crate::access::AccessRules;
use crate::access::limits::PeerLimits;
use crate::access::origin::Origins;
use crate::broker::Broker;
use crate::broker::admission::Admission;
use crate::engine::{Engine, Limits};
use crate::net::session::list::Host;
use crate::tls::certificates::Certificates;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn metrics() -> Metrics {
    let broker = Arc::new(Broker::new(Engine::new(Limits::default(), 1_000, [7; 32]), None));
    let (limits, origins) = (PeerLimits::default(), Origins::default());
    let admission = Admission::new(broker, limits, origins, AccessRules::default());
    let sessions = Host::new(admission.clone()).sessions;
    let certificates = Certificates::for_tests();
    Metrics::new(Sources { admission, sessions, certificates, udp: (1, 2) })
}

/// The page has a row for each metric, in their order, and no other.
#[test]
fn the_page_lists_every_metric() {
    let page = include_str!("../../docs/metrics.md");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `weir_")).collect();
    let expected: Vec<_> = metrics().families().iter().map(Family::row).collect();
    assert!(rows == expected, "docs/metrics.md should have:\n{}", expected.join("\n"));
}

#[test]
fn each_reason_has_its_word() {
    let reason = |admission| readiness(admission).map_err(|not| not.reason);
    assert_eq!(reason(None), Err("recovering"));
    assert!(lives(None));
    let metrics = metrics();
    let admission = metrics.admission();
    assert_eq!(reason(Some(admission)), Ok(()));
    admission.drain(Duration::from_secs(1));
    assert_eq!(reason(Some(admission)), Err("draining"));
    assert!(lives(Some(admission)));
    let broker = admission.broker();
    let panicked = catch_unwind(AssertUnwindSafe(|| broker.with(|_| panic!("a test"))));
    assert!(panicked.is_err());
    assert_eq!(reason(Some(admission)), Err("failed"));
    assert!(!lives(Some(admission)));
    // The rest of the metrics needs no engine.
    let text = metrics.to_text();
    assert!(text.contains("\nweir_ready 0\n") && !text.contains("weir_topics"), "{text}");
}

// Returns the head and the body of an answer.
async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

// A daemon that reads its journal answers, and has no metrics yet.
#[tokio::test]
async fn it_answers_before_the_daemon_serves() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(listener);
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    let answer = get(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\"reason\":\"recovering\""), "{answer}");
    let before = get(address, "/metrics").await;
    assert!(before.contains("\nweir_ready 0\n") && !before.contains("weir_topics"), "{before}");
    server.serve(metrics());
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
    let after = get(address, "/metrics").await;
    assert!(after.contains("\nweir_ready 1\n") && after.contains("\nweir_topics 0\n"), "{after}");
    server.stop().await;
    TcpListener::bind(address).unwrap();
}
