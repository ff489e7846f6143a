//! A client that resumes from the id of any event misses no overtaken message without a gap.

use super::client::{Ask, Block, ask};
use super::{Face, publish, random, seeds, within};
use crate::engine::{BeginOutcome, Engine, Limits, UploadId, UploadRequest};
use crate::wire::Digest;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc;

// The third-party client found this in one of four runs. The id of the first event claimed that all
// of `a` before the arriving message had been sent. A client that resumed from it never received the
// first message of `a`.
#[tokio::test]
async fn whoever_goes_on_from_any_event_misses_nothing_of_what_is_overtaken() {
    let face = Face::patient(Limits::default());
    let mut events = ask(face.address, "GET", "/v1/events/**").events().await;
    events.block().await.unwrap();
    // One read takes a batch: two of these messages.
    let large = [b'x'; 9000];
    face.state.broker.with(|engine| {
        let upload = UploadRequest { topic: "a", size: 200_000, stamp: 0, origin: None };
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

// Returns what a stream receives of `a/*`, from an id up to the last message of `b`.
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

fn begin(engine: &mut Engine, topic: &str) -> UploadId {
    let opening = UploadRequest { topic, size: LARGE, stamp: 0, origin: None };
    let BeginOutcome::Arriving(upload) = engine.begin(1, &opening).unwrap() else {
        panic!("it is new");
    };
    upload
}

fn end(engine: &mut Engine, upload: UploadId) {
    let payload = vec![7; LARGE as usize];
    for chunk in payload.chunks(65_536) {
        engine.append(upload, Bytes::copy_from_slice(chunk)).unwrap();
    }
    engine.end(1, upload, Digest::of(&payload)).unwrap();
}

const LARGE: u64 = 70_000;

// A reviewer found that 17 slow uploads delayed everything after them. An id names at most 32 topics.
// With more, a client that resumes from it receives some events again, and misses none.
#[tokio::test]
async fn however_many_are_overtaken_nobody_waits_or_misses_anything() {
    for (many, repeats) in [(20, false), (32, false), (40, true)] {
        let face = Face::patient(Limits::default());
        let mut events = ask(face.address, "GET", "/v1/events/**").events().await;
        events.block().await.unwrap();
        let uploads: Vec<_> = face.state.broker.with(|engine| {
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
        face.state.broker.with(|engine| {
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

// A client resumes twice. The second time it resumes from an event that arrived late, while another
// named topic was still arriving.
#[tokio::test]
async fn whoever_goes_on_again_misses_nothing_of_what_was_named_the_first_time() {
    let face = Face::patient(Limits::default());
    let mut events = ask(face.address, "GET", "/v1/events/**").events().await;
    events.block().await.unwrap();
    let (a, b) = face.state.broker.with(|engine| {
        let uploads = (begin(engine, "a"), begin(engine, "b"));
        publish(engine, "c", b"c");
        uploads
    });
    let id = within(events.event()).await.unwrap().id.unwrap();
    face.state.broker.with(|engine| {
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
    let face = Face::patient(Limits::default());
    (0..5).for_each(|_| _ = face.publish("a", b"a"));
    face.publish("last", b"last");
    let all = rest(&face, "999-3").await;
    assert_eq!(rest(&face, "999-3~1.4").await, all);
    assert_eq!(all.len(), 6);
}

// Resumes from an id that names `named` topics, whose messages are all complete, and again from each id
// that follows.
async fn go_on_twice(named: usize, others: usize) {
    let face = Face::patient(Limits::default());
    let mut events = ask(face.address, "GET", "/v1/events/**").events().await;
    within(events.block()).await.unwrap();
    face.state.broker.with(|engine| {
        (0..others).for_each(|n| _ = publish(engine, &format!("other/{n}"), b"x"));
    });
    for _ in 0..others {
        within(events.event()).await.unwrap();
    }
    let uploads: Vec<_> = face.state.broker.with(|engine| {
        let uploads = (0..named).map(|n| begin(engine, &format!("a/{n}"))).collect();
        publish(engine, "c", b"c");
        uploads
    });
    let id = within(events.event()).await.unwrap().id.unwrap();
    face.state.broker.with(|engine| {
        uploads.into_iter().for_each(|upload| end(engine, upload));
        publish(engine, "last", b"last");
    });
    let mut due: Vec<_> = (0..named).map(|n| (format!("a/{n}"), 1)).collect();
    due.push(("last".into(), 1));
    assert_eq!(rest(&face, &id).await, due);
    let mut again =
        ask(face.address, "GET", "/v1/events/**").header("last-event-id", &id).events().await;
    for at in 0..named {
        let next = within(again.event()).await.unwrap().id.unwrap();
        assert_eq!(rest(&face, &next).await, due[at + 1..], "after {id}, then {next}");
    }
}

// A reviewer found this case: more messages than one read takes.
#[tokio::test]
async fn nor_where_three_were_named() {
    go_on_twice(3, 0).await;
}

// A reviewer found this case: the first reads sweep the names of topics, and return nothing.
#[tokio::test]
async fn nor_where_the_beginning_takes_more_than_one_read() {
    go_on_twice(2, 1000).await;
}

// Returns the sequences that an event reports: all that a gap covers.
fn told(event: &serde_json::Value) -> impl Iterator<Item = (String, u64)> {
    let topic = event["topic"].as_str().unwrap().to_string();
    let number = |of: &str| event[of].as_u64();
    let one = number("sequence");
    let (first, last) = (number("first").or(one).unwrap(), number("last").or(one).unwrap());
    (first..=last).map(move |sequence| (topic.clone(), sequence))
}

/// The sequences that a stream has reported, and its ids, each with the number of sequences before.
struct Told {
    blocks: mpsc::UnboundedReceiver<Block>,
    seen: Vec<(String, u64)>,
    ids: Vec<(String, usize)>,
}

impl Told {
    async fn begin(request: Ask) -> Self {
        let mut events = request.events().await;
        let (to, blocks) = mpsc::unbounded_channel();
        // Reads in a task, because a dropped read of the connection would lose bytes.
        tokio::spawn(async move {
            while let Some(block) = events.block().await {
                let _ = to.send(block);
            }
        });
        Self { blocks, seen: Vec::new(), ids: Vec::new() }
    }

    // Takes events for this time. Returns whether the last one was among them.
    async fn take(&mut self, time: Duration) -> bool {
        let until = tokio::time::Instant::now() + time;
        while let Ok(block) = tokio::time::timeout_at(until, self.blocks.recv()).await {
            let block = block.unwrap();
            let event = block.data.as_ref().map(|_| block.json());
            if let Some(event) = &event {
                assert!(event["code"].is_null(), "{event}");
                self.seen.extend(told(event));
            }
            if let Some(id) = block.id {
                self.ids.push((id, self.seen.len()));
            }
            if event.is_some_and(|event| event["topic"] == "last") {
                return true;
            }
        }
        false
    }

    async fn after(face: &Face, id: &str) -> Self {
        let resume = ask(face.address, "GET", "/v1/events/**").header("last-event-id", id);
        let mut told = Self::begin(resume).await;
        assert!(told.take(Duration::from_secs(60)).await, "after {id}: {:?}", told.seen.last());
        told
    }
}

// Small and large messages, complete, aborted or arriving, are read at random moments. A client that
// resumes from any id, and again from any later id, receives a message or a gap for each. The test is
// deterministic except for the moments.
#[tokio::test]
async fn whatever_came_whoever_goes_on_twice_misses_nothing() {
    for seed in seeds(3) {
        go_on_from_everywhere(seed).await;
    }
}

async fn go_on_from_everywhere(seed: u64) {
    let mut random = random(seed);
    let face = Face::patient(Limits::default());
    let topics = 2 + random(50);
    let ms = Duration::from_millis;
    let mut whole = Told::begin(ask(face.address, "GET", "/v1/events/**")).await;
    whole.take(ms(20)).await;
    let (mut uploads, mut due) = (Vec::new(), BTreeMap::<String, u64>::new());
    for _ in 0..100 {
        let topic = format!("t/{}", random(topics));
        face.state.broker.with(|engine| match random(10) {
            0..=3 => {
                let size = if random(3) == 0 { 9000 } else { 5 };
                publish(engine, &topic, &vec![b'x'; size]);
                *due.entry(topic.clone()).or_default() += 1;
            }
            4..=5 => {
                uploads.push(begin(engine, &topic));
                *due.entry(topic.clone()).or_default() += 1;
            }
            what if !uploads.is_empty() => {
                let upload = uploads.swap_remove(random(uploads.len()));
                if what == 9 { engine.abort(upload) } else { end(engine, upload) }
            }
            _ => {}
        });
        match random(12) {
            0 => _ = whole.take(ms(3)).await,
            // Longer than the keep-alive interval.
            1 if random(6) == 0 => _ = whole.take(ms(230)).await,
            _ => {}
        }
    }
    whole.take(ms(30)).await;
    face.state.broker.with(|engine| {
        for upload in uploads.drain(..) {
            if random(2) == 0 { end(engine, upload) } else { engine.abort(upload) }
        }
        while engine.run_deferred() {}
        publish(engine, "last", b"last");
    });
    assert!(whole.take(Duration::from_secs(60)).await, "seed {seed}: {:?}", whole.seen.last());
    let all: BTreeSet<_> =
        due.iter().flat_map(|(topic, n)| (1..=*n).map(|n| (topic.clone(), n))).collect();
    let once: BTreeSet<_> = whole.seen.iter().cloned().collect();
    assert_eq!(once.len(), whole.seen.len(), "seed {seed}: twice");
    assert!(all.is_subset(&once), "seed {seed}: {all:?}, {once:?}");
    let every = 1 + whole.ids.len() / 6;
    for (id, had) in whole.ids.iter().step_by(every).filter(|(_, had)| *had < once.len()) {
        let before: BTreeSet<_> = whole.seen[..*had].iter().cloned().collect();
        let rest = Told::after(&face, id).await;
        let got = |told: &[(String, u64)]| before.iter().chain(told).cloned().collect();
        let missed = |got: BTreeSet<_>| all.difference(&got).cloned().collect::<Vec<_>>();
        assert_eq!(missed(got(&rest.seen)), [], "seed {seed}: after {id}");
        let (next, had) = &rest.ids[random(rest.ids.len())];
        if *had < rest.seen.len() {
            let again = Told::after(&face, next).await;
            let seen = [&rest.seen[..*had], &again.seen].concat();
            assert_eq!(missed(got(&seen)), [], "seed {seed}: after {id}, then {next}");
        }
    }
}
