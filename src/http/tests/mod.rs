//! The face over TCP, with its limits in reach of the tests.

#[path = "../../../tests/common/http.rs"]
mod client;
#[path = "../../../tests/common/h2.rs"]
mod h2;
mod openapi;
mod schema;
mod unread;
mod uploads;

use super::listen::{Connections, Listener, Times};
use super::{CertificateFacts, Origins, Shared, router};
use crate::engine::{Engine, Limits, Opening, Payload, Publication};
use crate::net::core::Core;
use crate::net::tls::CertificateHash;
use axum::Router;
use bytes::Bytes;
use client::ask;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

struct Face {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    // It listens on when the face stops.
    _listening: watch::Sender<bool>,
}

impl Face {
    fn new(limits: Limits) -> Self {
        Self::with(limits, PATIENCE)
    }

    /// One that bears with bodies for longer than a test takes.
    fn patient(limits: Limits) -> Self {
        Self::with(limits, Duration::from_secs(60))
    }

    fn with(limits: Limits, patience: Duration) -> Self {
        let core = Arc::new(Core::new(Engine::new(limits, 1_000_000, [7; 32])));
        let turns = core.clone();
        tokio::spawn(async move { turns.take_turns().await });
        let (stop, stopping) = watch::channel(false);
        let current = CertificateHash([1; 32]);
        let certificate = move || CertificateFacts { pinning: true, current, next: Some(current) };
        let origins = Origins::parse(["https://app.example"]).unwrap();
        let mut shared = Shared::new(core, origins, certificate, 4433, stopping);
        shared.patience = patience;
        shared.room = 4 * PATIENCE;
        shared.keep_alive = Duration::from_millis(200);
        let shared = Arc::new(shared);
        let router = router(shared.clone(), Router::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut listener = Listener::plain(listener, &Connections::new(1000));
        listener.times =
            Times { request: PATIENCE, idle: PATIENCE, ping: PATIENCE, patience: PATIENCE };
        let (listening, end) = watch::channel(false);
        tokio::spawn(listener.run(router, end));
        Self { address, shared, stop, _listening: listening }
    }

    /// Publishes from within.
    fn publish(&self, topic: &str, payload: &[u8]) -> u64 {
        self.shared.core.with(|engine| publish(engine, topic, payload))
    }

    fn held(&self) -> usize {
        self.shared.budget.held()
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

/// As the daemon's, in place of seconds.
const PATIENCE: Duration = Duration::from_millis(300);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes too long")
}

#[tokio::test]
async fn a_client_that_leaves_leaves_nothing_behind() {
    let face = Face::new(Limits::default());
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

// Found by the third-party client, in one of four runs: the id of the first of these said that all
// of `a` up to what arrives had been sent, and who went on from there never had its first message.
#[tokio::test]
async fn whoever_goes_on_from_any_event_misses_nothing_of_what_is_overtaken() {
    let face = Face::new(Limits::default());
    let mut events = ask(face.address, "GET", "/v1/events/**").events().await;
    events.block().await.unwrap();
    // All of it is read at once, up to a batch: two of these.
    let large = [b'x'; 9000];
    face.shared.core.with(|engine| {
        let upload = Opening { topic: "a", size: 200_000, stamp: 0, origin: None };
        publish(engine, "b", b"1");
        publish(engine, "a", b"1");
        engine.begin(1, &upload).unwrap();
        (0..5).for_each(|_| _ = publish(engine, "b", &large));
    });
    let seen = [("b", 1), ("a", 1), ("b", 2), ("b", 3), ("b", 4), ("b", 5), ("b", 6)];
    for (at, (topic, sequence)) in seen.into_iter().enumerate() {
        let event = within(events.event()).await.unwrap();
        let is = |event: &serde_json::Value, (topic, sequence): (&str, u64)| {
            assert_eq!((&event["topic"], &event["sequence"]), (&topic.into(), &sequence.into()));
        };
        is(&event.json(), (topic, sequence));
        let resume = ask(face.address, "GET", "/v1/events/**");
        let mut resumed = resume.header("last-event-id", event.id.unwrap()).events().await;
        for next in &seen[at + 1..] {
            is(&within(resumed.event()).await.unwrap().json(), *next);
        }
    }
}

// What a stream is sent of `a/*`, from an id on, up to the last of `b`.
async fn rest(face: &Face, id: &str) -> Vec<(String, u64)> {
    let resume = ask(face.address, "GET", "/v1/events/**").header("last-event-id", id);
    let (mut events, mut seen) = (resume.events().await, Vec::new());
    loop {
        let event = within(events.event()).await.unwrap().json();
        let of = (event["topic"].as_str().unwrap().into(), event["sequence"].as_u64().unwrap());
        seen.push(of.clone());
        if of.0 == "last" {
            return seen;
        }
    }
}

fn begin(engine: &mut Engine, topic: &str) -> crate::engine::Upload {
    let opening = Opening { topic, size: LARGE, stamp: 0, origin: None };
    let crate::engine::Begun::Arriving(upload) = engine.begin(1, &opening).unwrap() else {
        panic!("it is new");
    };
    upload
}

fn end(engine: &mut Engine, upload: crate::engine::Upload) {
    let payload = vec![7; LARGE as usize];
    for chunk in payload.chunks(65_536) {
        engine.append(upload, Bytes::copy_from_slice(chunk)).unwrap();
    }
    engine.end(1, upload, crate::wire::Digest::of(&payload)).unwrap();
}

const LARGE: u64 = 70_000;

// Found by a reviewer: 17 slow uploads held up all that came after them. An id names 32 topics at
// most; with more, whoever goes on from it has some events again, and misses none.
#[tokio::test]
async fn however_many_are_overtaken_nobody_waits_or_misses_anything() {
    for (many, repeats) in [(20, false), (32, false), (100, true)] {
        let face = Face::new(Limits::default());
        let mut events = ask(face.address, "GET", "/v1/events/**").events().await;
        events.block().await.unwrap();
        let uploads: Vec<_> = face.shared.core.with(|engine| {
            let uploads = (0..many).map(|n| begin(engine, &format!("a/{n}"))).collect();
            (0..many).for_each(|n| _ = publish(engine, &format!("a/{n}"), b"2"));
            (0..5).for_each(|_| _ = publish(engine, "b", b"b"));
            uploads
        });
        let mut ids = Vec::new();
        for sequence in 1..=5 {
            let event = within(events.event()).await.unwrap();
            assert_eq!(event.json()["sequence"], sequence, "{many}");
            assert_eq!(event.json()["topic"], "b", "{many}");
            ids.push(event.id.unwrap());
        }
        face.shared.core.with(|engine| {
            uploads.into_iter().for_each(|upload| end(engine, upload));
            publish(engine, "last", b"last");
        });
        loop {
            let event = within(events.event()).await.unwrap();
            ids.push(event.id.clone().unwrap());
            if event.json()["topic"] == "last" {
                break;
            }
        }
        let mut all: Vec<_> = (1..=5).map(|sequence| ("b".to_string(), sequence)).collect();
        for n in 0..many {
            all.extend([(format!("a/{n}"), 1), (format!("a/{n}"), 2)]);
        }
        all.push(("last".into(), 1));
        assert_eq!(ids.len(), all.len(), "each once");
        assert!(ids.iter().all(|id| id.len() <= 800), "{ids:?}");
        let every = rest(&face, "1000000-0").await;
        assert_eq!(every.len(), all.len());
        for (at, id) in ids.iter().enumerate().take(ids.len() - 1).step_by(ids.len() / 7) {
            let rest = rest(&face, id).await;
            let left = all.len() - at - 1;
            let mut once = rest.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), rest.len(), "twice after {id}");
            assert!(rest.len() >= left, "{} of {left} after {id}", rest.len());
            assert!(repeats || rest.len() == left, "{many}: {} of {left} after {id}", rest.len());
        }
    }
}

// Whoever goes on twice: the second time from an event that came late, while another that was named
// had not come.
#[tokio::test]
async fn whoever_goes_on_again_misses_nothing_of_what_was_named_the_first_time() {
    let face = Face::new(Limits::default());
    let mut events = ask(face.address, "GET", "/v1/events/**").events().await;
    events.block().await.unwrap();
    let (a, b) = face.shared.core.with(|engine| {
        let uploads = (begin(engine, "a"), begin(engine, "b"));
        publish(engine, "c", b"c");
        uploads
    });
    let id = within(events.event()).await.unwrap().id.unwrap();
    face.shared.core.with(|engine| {
        end(engine, a);
        end(engine, b);
        publish(engine, "last", b"last");
    });
    let mut due =
        [("a", 1), ("b", 1), ("last", 1)].map(|(topic, n)| (topic.to_string(), n)).to_vec();
    assert_eq!(rest(&face, &id).await, due);
    let resume = ask(face.address, "GET", "/v1/events/**").header("last-event-id", &id);
    let again = within(resume.events().await.event()).await.unwrap().id.unwrap();
    due.remove(0);
    assert_eq!(rest(&face, &again).await, due, "after {id}, then {again}");
}

// The topics of another run have other ids.
#[tokio::test]
async fn what_an_id_of_another_run_names_is_not_taken_for_a_topic_of_this_one() {
    let face = Face::new(Limits::default());
    (0..5).for_each(|_| _ = face.publish("a", b"a"));
    face.publish("last", b"last");
    let all = rest(&face, "999-3").await;
    assert_eq!(rest(&face, "999-3~1.4").await, all);
    assert_eq!(all.len(), 6);
}
