//! The face over TCP, with its limits in reach of the tests.

#[path = "../../../tests/common/http.rs"]
mod client;
mod openapi;
mod schema;

use super::{CertificateFacts, Origins, Shared, router};
use crate::engine::{Engine, Limits};
use crate::net::core::Core;
use crate::net::tls::CertificateHash;
use axum::Router;
use client::ask;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

struct Face {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

impl Face {
    async fn new(limits: Limits) -> Self {
        let core = Arc::new(Core::new(Engine::new(limits, 1_000_000, [7; 32])));
        let (stop, stopping) = watch::channel(false);
        let current = CertificateHash([1; 32]);
        let certificate = move || CertificateFacts { pinning: true, current, next: Some(current) };
        let origins = Origins::parse(["https://app.example"]).unwrap();
        let mut shared = Shared::new(core, origins, certificate, 4433, stopping);
        shared.patience = Duration::from_millis(300);
        shared.keep_alive = Duration::from_millis(200);
        let shared = Arc::new(shared);
        let router = router(shared.clone(), Router::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { address, shared, stop }
    }
}

#[tokio::test]
async fn a_client_that_leaves_leaves_nothing_behind() {
    let face = Face::new(Limits::default()).await;
    let free = || face.shared.streams.available_permits();
    let before = free();
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut events = ask(face.address, "GET", "/v1/events/**").events().await;
        events.block().await.unwrap();
        streams.push(events);
    }
    assert_eq!(free(), before - 10);
    streams.clear();
    while free() < before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    face.shared.core.with(|engine| assert_eq!(engine.subscriptions(), 0));
}

#[tokio::test]
async fn a_silent_stream_says_that_it_lives_and_how_far_it_has_come() {
    let face = Face::new(Limits::default()).await;
    let post = |topic: &str| ask(face.address, "POST", &format!("/v1/topics/{topic}")).body("x");
    post("a").send().await;
    for (filter, resumed) in [("a", "1000000-2-1000000-1"), ("a/**", "1000000-3")] {
        let target = format!("/v1/events/{filter}");
        let mut events = ask(face.address, "GET", &target).events().await;
        events.block().await.unwrap();
        post("b").send().await;
        let mut block = events.block().await.unwrap();
        while block.id.as_deref() != Some(resumed) {
            assert!(block.comments == 1 && block.data.is_none(), "{block:?}");
            block = events.block().await.unwrap();
        }
    }
    let resume = ask(face.address, "GET", "/v1/events/**").header("last-event-id", "1000000-2");
    let event = resume.events().await.event().await.unwrap();
    assert_eq!((&event.json()["topic"], event.id.as_deref()), (&"b".into(), Some("1000000-3")));
}

#[tokio::test]
async fn bodies_that_never_come_do_not_keep_their_room() {
    let face = Face::new(Limits::default()).await;
    let before = face.shared.bodies.available_permits();
    let post = ask(face.address, "POST", "/v1/topics/a").header("content-length", 1 << 20);
    let stuck = post.clone().open().await;
    while face.shared.bodies.available_permits() == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(face.shared.bodies.available_permits(), before - 1024);
    drop(stuck);
    let mut stuck = post.open().await;
    assert_eq!(stuck.head().await.0, 408);
    while face.shared.bodies.available_permits() < before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
