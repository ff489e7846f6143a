//! A stream with wildcards continues after a daemon was killed that had not kept all that it had shown.

use super::client::{Events, ask};
use super::{Face, publish, within};
use crate::engine::{BeginOutcome, Engine, Limits, Record, UploadId, UploadRequest};
use crate::wire::Digest;
use bytes::Bytes;
use serde_json::Value;

const LARGE: usize = 100_000;

fn begin(engine: &mut Engine, topic: &str) -> UploadId {
    let opening = UploadRequest { topic, size: LARGE as u64, stamp: 0, origin: None };
    let BeginOutcome::Arriving(upload) = engine.begin(1, &opening).unwrap() else {
        panic!("it is new");
    };
    upload
}

fn records(engine: &mut Engine) -> Vec<Record> {
    let mut records = Vec::new();
    engine.take_records(&mut records);
    records
}

// Replaces the engine of a face by one that has these records, in its next run.
fn restart(face: &Face, run: u64, records: &[Record]) {
    let mut next = restored(records);
    next.renew(run, false);
    next.go_on();
    face.state.broker.with(|engine| *engine = next);
}

fn restored(records: &[Record]) -> Engine {
    let mut next = Engine::new(Limits::default(), 1_000_000, [7; 32]);
    next.begin_restoring();
    for (number, record) in (1..).zip(records) {
        assert!(next.restore(number, record));
    }
    next.end_restoring();
    next
}

// Returns the name of the run after these records, if it begins on a full disk.
fn unkept_after(records: &[Record]) -> u64 {
    restored(records).ending(false).unkept()
}

// Reads the torn message, and one after it, so that the id does not name its topic.
async fn publish_and_read(face: &Face, stream: &mut Events) {
    for _ in 0..2 {
        within(stream.event()).await.unwrap();
        face.publish("y/b", b"2");
    }
    within(stream.event()).await.unwrap();
}

// Returns the events of a stream as text, up to the first message of a topic.
async fn until(face: &Face, filter: &str, id: &str, topic: &str) -> Vec<String> {
    let request = ask(face.address, "GET", &format!("/v1/events/{filter}"));
    let mut stream = request.header("last-event-id", id).events().await;
    let mut seen = Vec::new();
    loop {
        let data: Value = within(stream.event()).await.unwrap().json();
        if let Some(most) = data.get("most") {
            seen.push(format!("lost {most}"));
            continue;
        }
        let at = |name: &str| data[name].as_u64().unwrap_or_default();
        let name = data["topic"].as_str().unwrap();
        if data["event"] == "gap" {
            seen.push(format!("{} {name} {}-{}", data["cause"], at("first"), at("last")));
        } else if name == topic {
            return seen;
        } else {
            seen.push(format!("{name} {}", at("sequence")));
        }
    }
}

// A disk was full. A large message had begun before, was shown complete, and its end was not kept.
// Everything else was. So its position was before the end of the run, and nothing was told.
#[tokio::test]
async fn a_large_message_that_was_shown_and_not_kept_is_told() {
    let face = Face::patient(Limits::default());
    face.state.broker.with(Engine::make_records);
    let mut stream = ask(face.address, "GET", "/v1/events/**").events().await;
    within(stream.block()).await.unwrap();
    let (upload, kept) = face.state.broker.with(|engine| {
        publish(engine, "x/a", b"1");
        let upload = begin(engine, "x/a");
        publish(engine, "y/b", b"1");
        engine.append(upload, Bytes::from(vec![7; 65_536])).unwrap();
        publish(engine, "y/b", b"2");
        (upload, records(engine))
    });
    let mut before = String::new();
    for _ in 0..3 {
        before = within(stream.event()).await.unwrap().id.unwrap();
    }
    face.state.broker.with(|engine| {
        engine.append(upload, Bytes::from(vec![7; LARGE - 65_536])).unwrap();
        engine.end(1, upload, Digest::of(&vec![7; LARGE])).unwrap();
    });
    let mut after = [const { String::new() }; 2];
    for id in &mut after {
        let event = within(stream.event()).await.unwrap();
        assert!(event.json()["size"] == LARGE || event.json()["payload"] == "3");
        *id = event.id.unwrap();
        // It has another read, which takes the topic out of the id.
        face.publish("y/b", b"3");
    }
    drop(stream);

    restart(&face, 2_000_000, &kept);
    face.publish("y/end", b"");
    face.publish("x/end", b"");
    let [named, unnamed] = &after;
    let gaps = ["\"lost\" x/a 2-2", "\"aborted\" x/a 2-2"];
    assert_eq!(until(&face, "x/**", named, "x/end").await, gaps);
    assert_eq!(until(&face, "**", unnamed, "x/end").await, ["lost 2", "y/end 1"]);
    assert_eq!(until(&face, "x/**", unnamed, "x/end").await, ["lost 2"]);
    assert_eq!(until(&face, "y/**", unnamed, "y/end").await, ["lost 1"], "it had no part in x/a");
    // This client had not received it.
    assert_eq!(until(&face, "x/**", &before, "x/end").await, ["\"aborted\" x/a 2-2"]);
}

// A daemon started on a full disk, and was killed before its run was kept. The next one told a client
// of the torn message once more. A client that had received the new id alone was never told of it.
#[tokio::test]
async fn a_loss_is_told_together_with_the_next_id_and_once() {
    let face = Face::patient(Limits::default());
    face.state.broker.with(Engine::make_records);
    let mut stream = ask(face.address, "GET", "/v1/events/**").events().await;
    within(stream.block()).await.unwrap();
    let (upload, kept) = face.state.broker.with(|engine| {
        let upload = begin(engine, "x/a");
        publish(engine, "y/b", b"1");
        (upload, records(engine))
    });
    face.state.broker.with(|engine| {
        engine.append(upload, Bytes::from(vec![7; LARGE])).unwrap();
        engine.end(1, upload, Digest::of(&vec![7; LARGE])).unwrap();
    });
    publish_and_read(&face, &mut stream).await;
    let first = stream.id.take().unwrap();
    drop(stream);

    restart(&face, unkept_after(&kept), &kept);
    let request = ask(face.address, "GET", "/v1/events/**");
    let mut stream = request.header("last-event-id", &first).events().await;
    let block = within(stream.block()).await.unwrap();
    assert!(block.is("lost") && block.retry.is_some(), "{block:?}");
    let second = block.id.unwrap();
    drop(stream);

    restart(&face, 3_000_000, &kept);
    face.publish("z", b"");
    assert_eq!(until(&face, "**", &second, "z").await, [""; 0]);
}

// An id names 32 topics that were overtaken. With more, its position is before what was delivered.
#[tokio::test]
async fn what_overtook_many_topics_and_was_not_kept_is_told() {
    let face = Face::patient(Limits::default());
    face.state.broker.with(Engine::make_records);
    let mut stream = ask(face.address, "GET", "/v1/events/**").events().await;
    within(stream.block()).await.unwrap();
    let kept = face.state.broker.with(|engine| {
        (0..40).for_each(|n| _ = begin(engine, &format!("x/{n}")));
        publish(engine, "y", b"1");
        let kept = records(engine);
        (2..4).for_each(|n: u8| _ = publish(engine, "y", &[n]));
        kept
    });
    let mut id = String::new();
    for _ in 0..3 {
        id = within(stream.event()).await.unwrap().id.unwrap();
    }
    drop(stream);
    restart(&face, 2_000_000, &kept);
    let told = until(&face, "**", &id, "y").await;
    // Two of `y`, and eight large ones that the id could not name: it does not say that they had not
    // been delivered.
    assert_eq!(told.first().map(String::as_str), Some("lost 10"), "{told:?}");
}

// The id of a stream whose topic did not exist any more did not name it. So the next stream was not told.
#[tokio::test]
async fn a_topic_that_was_not_kept_is_told_however_often_its_stream_is_resumed_before() {
    let face = Face::patient(Limits::default());
    face.state.broker.with(Engine::make_records);
    face.publish("b", b"1");
    let kept = face.state.broker.with(records);
    let mut stream = ask(face.address, "GET", "/v1/events/a").events().await;
    within(stream.block()).await.unwrap();
    let mut id = String::new();
    for n in 0..3 {
        face.publish("a", &[n]);
        id = within(stream.event()).await.unwrap().id.unwrap();
    }
    drop(stream);
    restart(&face, 2_000_000, &kept);
    for _ in 0..2 {
        let request = ask(face.address, "GET", "/v1/events/a").header("last-event-id", &id);
        let mut stream = request.events().await;
        id = within(stream.block()).await.unwrap().id.unwrap();
    }
    face.publish("a", b"9");
    assert_eq!(until(&face, "a", &id, "a").await, ["\"lost\" a 1-3"]);
}
