//! Clients that resume event streams many times, from any id, while large messages are arriving.

use super::client::{Block, ask};
use super::{Face, publish, random, seeds, within};
use crate::engine::{BeginOutcome, Engine, Limits, UploadId, UploadRequest};
use crate::wire::{Digest, TopicCursor};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

const LARGE: usize = 140_000;

#[derive(Debug, Clone)]
struct Made {
    topic: String,
    epoch: u64,
    sequence: u64,
}

#[derive(Debug, Clone)]
enum Told {
    Message(usize),
    Gap { topic: String, epoch: u64, first: u64, last: u64 },
}

struct Chain {
    filter: String,
    blocks: Option<mpsc::UnboundedReceiver<Block>>,
    seen: Vec<Told>,
    ids: Vec<(String, usize)>,
    done: bool,
    went: usize,
    lagged: usize,
}

impl Chain {
    async fn go(&mut self, face: &Face) {
        let mut request = ask(face.address, "GET", &format!("/v1/events/{}?from=all", self.filter));
        if let Some((id, had)) = self.ids.last() {
            request = request.header("last-event-id", id);
            self.seen.truncate(*had);
        }
        self.went += 1;
        let (to, blocks) = mpsc::unbounded_channel();
        let mut events = request.events().await;
        tokio::spawn(async move {
            while let Some(block) = events.block().await {
                if to.send(block).is_err() {
                    return;
                }
            }
        });
        self.blocks = Some(blocks);
    }

    fn take(&mut self) -> bool {
        let mut any = false;
        while let Some(Ok(block)) = self.blocks.as_mut().map(mpsc::UnboundedReceiver::try_recv) {
            any = true;
            self.block(&block);
        }
        any
    }

    fn block(&mut self, block: &Block) {
        if block.data.is_some() {
            let event = block.json();
            if block.is("ended") {
                assert_eq!(event["name"], "lagged", "{event}");
                self.lagged += 1;
                self.blocks = None;
                return;
            }
            let topic = event["topic"].as_str().unwrap().to_owned();
            if block.is("gap") {
                self.seen.push(Told::Gap {
                    topic,
                    epoch: event["epoch"].as_str().unwrap().parse().unwrap(),
                    first: event["first"].as_u64().unwrap(),
                    last: event["last"].as_u64().unwrap(),
                });
            } else {
                let payload = event["payload"].as_str().unwrap();
                let n: usize = payload.split(' ').next().unwrap().parse().unwrap();
                self.seen.push(Told::Message(n));
                self.done |= payload.ends_with("last");
            }
        }
        if let Some(id) = &block.id {
            assert!(id.len() < 900);
            self.ids.push((id.clone(), self.seen.len()));
        }
    }
}

fn text(n: usize, size: usize) -> Vec<u8> {
    let mut text = format!("{n} ").into_bytes();
    text.resize(size.max(text.len()), b'x');
    text
}

fn begin(engine: &mut Engine, topic: &str) -> Option<UploadId> {
    let opening = UploadRequest { topic, size: LARGE as u64, stamp: 0, origin: None };
    match engine.begin(1, &opening) {
        Ok(BeginOutcome::Arriving(upload)) => Some(upload),
        _ => None,
    }
}

fn end(engine: &mut Engine, upload: UploadId, n: usize) {
    let payload = text(n, LARGE);
    for chunk in payload.chunks(65_536) {
        if engine.append(upload, Bytes::copy_from_slice(chunk)).is_err() {
            return;
        }
    }
    let _ = engine.end(1, upload, Digest::of(&payload));
}

// A client disconnects at random moments and resumes from any id, many times, while others publish.
// It receives every message of a topic that still exists, as a message or in a gap. Without eviction,
// it receives none twice. The test is deterministic except for the moments.
#[tokio::test]
async fn whoever_goes_on_again_and_again_misses_nothing() {
    for seed in seeds(4) {
        chain(seed).await;
    }
}

async fn chain(seed: u64) {
    let mut random = random(seed);
    let mut limits = Limits::default();
    let kind = seed % 4;
    if kind == 1 || kind == 3 {
        limits.cache = 8 << 20;
    }
    if kind >= 2 {
        limits.topics = 6;
    }
    let face = Face::patient(limits);
    let topics =
        if kind >= 2 { 5 + random(6) } else { 2 + random(if seed % 8 < 4 { 28 } else { 60 }) };
    let mut clients: Vec<Chain> = (0..6)
        .map(|n| Chain {
            filter: ["**", "t/*", "t/0"][[0, 0, 1, 1, 0, 2][n]].to_owned(),
            blocks: None,
            seen: Vec::new(),
            ids: Vec::new(),
            done: false,
            went: 0,
            lagged: 0,
        })
        .collect();
    for client in &mut clients {
        client.go(&face).await;
    }
    let mut made: Vec<Made> = Vec::new();
    let mut uploads: Vec<(UploadId, usize)> = Vec::new();
    let steps = 150;
    for _ in 0..steps {
        for _ in 0..=random(6) {
            let topic = format!("t/{}", random(topics));
            let n = made.len();
            face.state.broker.with(|engine| match random(10) {
                0..=4 => {
                    let size = if random(3) == 0 { 20_000 } else { 5 };
                    let sequence = publish(engine, &topic, &text(n, size));
                    let TopicCursor { epoch, .. } = engine.head(&topic).unwrap();
                    made.push(Made { topic: topic.clone(), epoch, sequence });
                }
                5..=6 => {
                    if let Some(upload) = begin(engine, &topic) {
                        let TopicCursor { epoch, next } = engine.head(&topic).unwrap();
                        made.push(Made { topic: topic.clone(), epoch, sequence: next - 1 });
                        uploads.push((upload, n));
                    }
                }
                what if !uploads.is_empty() => {
                    let (upload, n) = uploads.swap_remove(random(uploads.len()));
                    if what == 9 { engine.abort(upload) } else { end(engine, upload, n) }
                }
                _ => {}
            });
        }
        // The times after which clients disconnect; the second is longer than the keep-alive interval.
        // The received messages do not depend on them.
        match random(4) {
            0 => tokio::time::sleep(Duration::from_millis(1 + random(4) as u64)).await,
            1 if random(8) == 0 => tokio::time::sleep(Duration::from_millis(230)).await,
            2 => tokio::task::yield_now().await,
            _ => {}
        }
        for client in &mut clients {
            client.take();
            if client.blocks.is_none() || random(12) == 0 {
                // Usually the last id, sometimes an earlier one.
                let back = if random(3) == 0 { random(client.ids.len().clamp(1, 30)) } else { 0 };
                let left = client.ids.len().saturating_sub(back).max(1);
                client.ids.truncate(left);
                client.go(&face).await;
            }
        }
    }
    let n = made.len();
    face.state.broker.with(|engine| {
        for (upload, n) in uploads.drain(..) {
            if random(2) == 0 { end(engine, upload, n) } else { engine.abort(upload) }
        }
        for topic in ["t/0", "t/last"] {
            let payload = format!("{} last", n + usize::from(topic == "t/last"));
            publish(engine, topic, payload.as_bytes());
        }
    });
    let current: BTreeMap<String, u64> = face.state.broker.with(|engine| {
        let of =
            |made: &Made| engine.head(&made.topic).map(|head| (made.topic.clone(), head.epoch));
        made.iter().filter_map(of).collect()
    });
    let mut repeated = 0;
    for (at, client) in clients.iter_mut().enumerate() {
        loop {
            client.take();
            let is_last = |told: &Told| matches!(told, Told::Message(of) if *of == n + 1 || (*of == n && client.filter == "t/0"));
            if client.seen.iter().any(is_last) {
                break;
            }
            match client.blocks.as_mut() {
                None => client.go(&face).await,
                Some(blocks) => {
                    let next = timeout(Duration::from_secs(20), blocks.recv()).await;
                    let next = next.unwrap_or_else(|late| {
                        panic!("seed {seed}, client {at}: {late} after {:?}", client.ids.last())
                    });
                    match next {
                        Some(block) => client.block(&block),
                        None => client.blocks = None,
                    }
                }
            }
        }
        let messages: Vec<usize> = client
            .seen
            .iter()
            .filter_map(|told| if let Told::Message(n) = told { Some(*n) } else { None })
            .collect();
        let once: BTreeSet<usize> = messages.iter().copied().collect();
        repeated += messages.len() - once.len();
        let gap = |made: &Made| {
            client.seen.iter().any(|told| {
                matches!(told, Told::Gap { topic, epoch, first, last } if *topic == made.topic
                    && *epoch == made.epoch && (*first..=*last).contains(&made.sequence))
            })
        };
        let wanted = |made: &Made| {
            (client.filter != "t/0" || made.topic == "t/0")
                && current.get(&made.topic) == Some(&made.epoch)
        };
        let missed: Vec<_> = made
            .iter()
            .enumerate()
            .filter(|(n, made)| wanted(made) && !once.contains(n) && !gap(made))
            .collect();
        assert!(
            missed.is_empty(),
            "seed {seed}, kind {kind}, client {at} ({}), went {}, lagged {}: missed {} of {n}: {:?}",
            client.filter,
            client.went,
            client.lagged,
            missed.len(),
            &missed[..missed.len().min(5)]
        );
        if kind == 0 && topics <= 32 {
            assert_eq!(
                messages.len(),
                once.len(),
                "seed {seed}, client {at} ({}): repeated",
                client.filter
            );
        }
    }
    let went: usize = clients.iter().map(|client| client.went).sum();
    let lagged: usize = clients.iter().map(|client| client.lagged).sum();
    println!(
        "seed {seed} kind {kind}: {n} made, {topics} topics, went {went}, lagged {lagged}, repeated {repeated}"
    );
}

// A stream resumes from the id of a keep-alive that was sent while a message of the topic arrived.
#[tokio::test]
async fn of_one_topic_a_sign_of_life_does_not_name_what_still_arrives() {
    for start in ["?from=all", "?from=latest", "?last_event_id="] {
        let face = Face::patient(Limits::default());
        face.publish("a", b"0 ");
        let (upload, epoch) = face.state.broker.with(|engine| {
            let upload = begin(engine, "a").unwrap();
            (upload, engine.head("a").unwrap().epoch)
        });
        let had = start.ends_with('=');
        let id = if had { format!("1000000-1-{epoch}-1") } else { String::new() };
        let mut events =
            ask(face.address, "GET", &format!("/v1/events/a{start}{id}")).events().await;
        if !had {
            assert_eq!(within(events.event()).await.unwrap().json()["sequence"], 1);
        }
        let block = within(async {
            loop {
                let block = events.block().await.unwrap();
                if block.comments > 0 && block.id.is_some() {
                    return block;
                }
            }
        });
        let id = block.await.id.unwrap();
        face.state.broker.with(|engine| end(engine, upload, 1));
        face.publish("a", b"2 ");
        let resume = ask(face.address, "GET", "/v1/events/a").header("last-event-id", &id);
        let mut resumed = resume.events().await;
        for sequence in [2, 3] {
            let event = within(resumed.event()).await.unwrap();
            assert_eq!(event.json()["sequence"], sequence, "{start}, after {id}");
        }
    }
}

// A forged id names a position that the daemon has not reached.
#[tokio::test]
async fn an_id_from_the_future_names_no_more_than_there_is() {
    let face = Face::patient(Limits::default());
    let upload = face.state.broker.with(|engine| {
        publish(engine, "b", b"0 ");
        let upload = begin(engine, "b").unwrap();
        engine.abort(upload);
        begin(engine, "b").unwrap()
    });
    let id = format!("1000000-{}~1.2", u64::MAX);
    let resume = ask(face.address, "GET", "/v1/events/**").header("last-event-id", &id);
    let mut events = resume.events().await;
    let gap = within(events.event()).await.unwrap();
    assert!(gap.is("gap"), "{gap:?}");
    face.publish("c", b"1 ");
    let id = within(events.event()).await.unwrap().id.unwrap();
    face.state.broker.with(|engine| end(engine, upload, 2));
    face.publish("c", b"3 ");
    let mut resumed =
        ask(face.address, "GET", "/v1/events/**").header("last-event-id", &id).events().await;
    for (topic, sequence) in [("b", 3), ("c", 2)] {
        let event = within(resumed.event()).await.unwrap().json();
        assert_eq!(
            (&event["topic"], &event["sequence"]),
            (&topic.into(), &sequence.into()),
            "{id}"
        );
    }
}
