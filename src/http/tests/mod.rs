//! The HTTP face over TCP, with limits that tests can set.

mod chained;
#[path = "../../../tests/common/http.rs"]
mod client;
#[path = "../../../tests/common/h2.rs"]
mod h2;
mod openapi;
mod outlived;
mod resumed;
mod torn;
mod unread;
mod uploads;

use super::connection::Times;
use super::listen::Listener;
use super::schema;
use super::{AppState, router};
use crate::access::AccessRules;
use crate::access::limits::PeerLimits;
use crate::access::origin::Origins;
use crate::broker::Broker;
use crate::broker::admission::Admission;
use crate::broker::stop::Stage;
use crate::engine::{Engine, Limits, Payload, Publication};
use crate::tls::CertificateHash;
use crate::tls::certificates::CertificateFacts;
use axum::Router;
use bytes::Bytes;
use client::ask;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

struct Face {
    address: SocketAddr,
    state: Arc<AppState>,
    admission: Admission,
    // Keeps the listener open when the face stops.
    _listening: watch::Sender<Stage>,
}

impl Face {
    fn new(limits: Limits) -> Self {
        Self::with(limits, PATIENCE)
    }

    /// Returns a face whose timeouts for requests, bodies and unread answers are longer than any test,
    /// also on a busy machine.
    fn patient(limits: Limits) -> Self {
        Self::with(limits, Duration::from_secs(60))
    }

    fn with(limits: Limits, patience: Duration) -> Self {
        Self::with_rules(limits, patience, PeerLimits::default(), AccessRules::default())
    }

    fn with_rules(
        limits: Limits,
        patience: Duration,
        peers: PeerLimits,
        rules: AccessRules,
    ) -> Self {
        let broker = Arc::new(Broker::new(Engine::new(limits, 1_000_000, [7; 32]), None));
        let turns = broker.clone();
        tokio::spawn(async move { turns.take_turns().await });
        let current = CertificateHash([1; 32]);
        let certificate = move || CertificateFacts { pinning: true, current, next: Some(current) };
        let origins = Origins::parse(["https://app.example"]).unwrap();
        let admission = Admission::new(broker, peers, origins, rules);
        let mut state = AppState::new(&admission, certificate, 4433);
        state.patience = patience;
        state.room = 4 * patience;
        state.keep_alive = Duration::from_millis(200);
        let state = Arc::new(state);
        let router = router(state.clone(), Router::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut listener = Listener::plain(listener, &admission);
        let fresh = Duration::from_secs(60);
        listener.times =
            Times { request: patience, idle: patience, ping: patience, patience, fresh };
        let (listening, end) = watch::channel(Stage::Running);
        tokio::spawn(listener.run(router, end));
        Self { address, state, admission, _listening: listening }
    }

    /// Publishes in the engine, without HTTP.
    fn publish(&self, topic: &str, payload: &[u8]) -> u64 {
        self.state.broker.with(|engine| publish(engine, topic, payload))
    }

    fn held(&self) -> usize {
        self.state.budget.held()
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn publish(engine: &mut Engine, topic: &str, payload: &[u8]) -> u64 {
    let payload = Payload::from(Bytes::copy_from_slice(payload));
    let digest = payload.digest();
    let publication = Publication { topic, payload: &payload, digest, stamp: 0, origin: None };
    engine.publish(1, &publication).unwrap().sequence
}

/// Returns pseudo-random numbers below a bound.
fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % below
    }
}

/// Returns `WEIR_SEEDS` seeds from `WEIR_SEED` on. The defaults are `seeds` and 1.
fn seeds(seeds: u64) -> std::ops::Range<u64> {
    let number = |name: &str, default| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let first = number("WEIR_SEED", 1);
    first..first + number("WEIR_SEEDS", seeds)
}

/// Timeout of the tests, in place of the daemon's seconds.
const PATIENCE: Duration = Duration::from_millis(300);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes too long")
}

#[tokio::test]
async fn a_client_that_leaves_leaves_nothing_behind() {
    let face = Face::new(Limits::default());
    let free = || face.state.streams.available_permits();
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
    face.state.broker.with(|engine| assert_eq!(engine.subscriptions(), 0));
}

#[tokio::test]
async fn a_silent_stream_says_that_it_lives_and_how_far_it_has_come() {
    let face = Face::new(Limits::default());
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
