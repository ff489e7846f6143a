//! The engine's memory for subscriptions that are behind, and for deferred work, is bounded, whatever
//! peers do. Beyond a bound a subscription ends with a reason.

use super::fairness::arrive;
use super::{READ, begin, fill, named};
use crate::engine::tests::{engine, publish, small};
use crate::engine::{Engine, Item, Limits, SubscriptionId};
use crate::wire::{Code, Refusal, Start};
use bytes::Bytes;

fn payload(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_le_bytes())
}

/// Reads to the end. Gives the first sequence of `topic` that the subscription was told of, in a
/// message or in a gap.
fn first_of(engine: &mut Engine, id: SubscriptionId, topic: &str) -> Result<Option<u64>, Refusal> {
    let mut first = None;
    let mut see = |item: Item<'_>| match item {
        Item::Message(m) if **m.topic() == *topic => _ = first.get_or_insert(m.sequence()),
        Item::Gap { name, first: from, .. } if **name == *topic => _ = first.get_or_insert(from),
        _ => {}
    };
    while engine.read(id, READ, &mut see)? {}
    Ok(first)
}

// Each subscription has a position of its own, and the topic would have to remember the next message
// for each of them.
#[test]
fn a_topic_remembers_what_is_next_for_so_many_positions() {
    let engine = &mut engine(Limits::default());
    let many = 1500;
    let mut ids = Vec::new();
    for n in 0..many {
        ids.push(begin(engine, "*", &Start::New));
        publish(engine, 1, "a", &payload(n), None).unwrap();
        // It does not read.
        drop(named(engine));
    }
    let slot = engine.slot("a").unwrap();
    while engine.topic(slot).unwrap().messages() > 1 {
        engine.evict(slot);
    }
    while engine.run_deferred() {}
    let cost = engine.topic(slot).unwrap().marks_cost();
    assert!(cost <= 512 * 24, "{cost} bytes of marks");
    engine.audit();
    // Each is told everything from its beginning on, or is ended.
    let mut ended = 0;
    for (id, next) in ids.into_iter().zip(1..) {
        match first_of(engine, id, "a") {
            Ok(first) => assert_eq!(first, Some(next), "silently missed"),
            Err(why) => {
                assert_eq!(why.code, Code::LAGGED);
                ended += 1;
            }
        }
    }
    assert!(ended <= many - 512, "{ended} ended");
}

// Names are up to 1,024 bytes long, and any number of topics can be made.
#[test]
fn so_many_topics_that_were_forgotten_are_remembered() {
    let engine = &mut engine(Limits { topics: 100, ..Limits::default() });
    fill(engine, 100);
    let behind = begin(engine, "**", &Start::All);
    for n in 0..3000 {
        publish(engine, 1, &format!("new/{n}"), &payload(n), None).unwrap();
        assert!(engine.forgotten.len() <= 256, "{} remembered", engine.forgotten.len());
    }
    assert_eq!(engine.forgotten.len(), 256);
    let why = first_of(engine, behind, "new/0").unwrap_err();
    assert_eq!(why.code, Code::LAGGED);
}

// A publication wakes 64 subscriptions at once, and defers the other wakes. A publisher to many topics
// with many subscriptions each runs deferred wakes itself before they add up.
#[test]
fn so_many_publications_leave_wakes_to_be_done_later() {
    let engine = &mut engine(Limits { topics: 1000, ..Limits::default() });
    let (topics, each) = (300, 70);
    for n in 0..topics {
        (0..each).for_each(|_| _ = begin(engine, &format!("t/{n}"), &Start::New));
    }
    drop(named(engine));
    let mut woken = 0;
    for n in 0..topics {
        // As the owner of the engine does it.
        let before = engine.deferred_wakes();
        publish(engine, 1, &format!("t/{n}"), &payload(n), None).unwrap();
        while engine.must_run_deferred(before) {
            engine.run_deferred();
        }
        assert!(
            engine.deferred_wakes() <= 64,
            "{} publications left wakes to be done",
            engine.deferred_wakes()
        );
        woken += named(engine).len();
    }
    while engine.run_deferred() {}
    woken += named(engine).len();
    assert_eq!(woken, topics as usize * each);
}

// Each aborted upload keeps a place in the log. A publisher that aborts one upload after the other
// must not have the newest messages of other topics evicted for them.
#[test]
fn aborted_uploads_make_room_before_other_topics_do() {
    let engine = &mut engine(small());
    let quiet = |engine: &mut Engine, topics: std::ops::Range<u32>| {
        for n in topics {
            publish(engine, 1, &format!("quiet/{n}"), &payload(n), None).unwrap();
            while engine.run_deferred() {}
        }
    };
    // One message each: there is nothing to evict but whole topics, the oldest first.
    quiet(engine, 0..150);
    publish(engine, 1, "hostile", &payload(0), None).unwrap();
    while engine.bytes() < engine.limits().cache * 15 / 16 {
        let upload = arrive(engine, "hostile", 100_000, &Bytes::from_static(b"x"));
        engine.abort(upload);
    }
    let slot = engine.slot("hostile").unwrap();
    let places = |engine: &Engine| {
        let topic = engine.topic(slot).unwrap();
        topic.next_sequence() - topic.first_sequence()
    };
    let before = places(engine);
    assert!(before > 1000, "{before} places");
    quiet(engine, 150..250);
    assert!(engine.bytes() <= engine.limits().cache, "{} bytes", engine.bytes());
    assert!(places(engine) < before, "room was not needed");
    let kept = (0..250).filter(|n| engine.slot(&format!("quiet/{n}")).is_some()).count();
    assert_eq!(kept, 250, "topics were forgotten for aborted uploads");
    engine.audit();
}
