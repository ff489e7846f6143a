//! The memory of subscriptions, and the bytes charged for it.

use super::{READ, TOPICS, begin, fill, named, read_all};
use crate::engine::subscribe::announced::REMEMBERED;
use crate::engine::tests::{engine, publish, small};
use crate::engine::{Engine, Item, LargePayloads, Limits, ReadOptions, SubscriptionId};
use crate::wire::{Code, Position, Resume, Start};
use allocation_counter::measure;
use bytes::Bytes;

/// Bytes that a subscription may take above its charge. The session is charged for them.
const FREE: usize = 8 << 10;

// Returns the bytes of a subscription that has received everything, measured with 64 of them.
fn of_idle(topics: usize, start: &Start<'_>) -> u64 {
    let engine = &mut engine(Limits::default());
    fill(engine, topics);
    let mut ids = Vec::with_capacity(64);
    let info = measure(|| {
        for _ in 0..64 {
            ids.push(begin(engine, "**", start));
        }
        for id in &ids {
            read_all(engine, *id);
        }
        // And they move with what is published.
        for n in 0..topics.min(100) {
            publish(engine, 2, &format!("t/{n}"), &Bytes::from_static(b"x"), None).unwrap();
            drop(named(engine));
            ids.iter().for_each(|id| _ = read_all(engine, *id));
        }
        drop(named(engine));
    });
    assert_eq!(engine.budget().held(), 0, "those who have had everything hold nothing");
    info.bytes_current.max(0).cast_unsigned() / 64
}

#[test]
fn whoever_has_had_everything_costs_a_position_however_many_topics_there_are() {
    let (none, new) = (of_idle(0, &Start::New), of_idle(TOPICS, &Start::New));
    assert!(none <= 1024 && new <= none + 256, "{none}, with topics {new}");
    let all = of_idle(8192, &Start::All);
    assert!(all <= none + 256, "{none}, after all that was cached {all}");
}

// Reads each once in turn, until they have what they need to go on, or are refused for want of room.
// Returns how many were refused.
fn read_each(engine: &mut Engine, ids: &[SubscriptionId]) -> usize {
    let mut ended = vec![false; ids.len()];
    let little = ReadOptions { budget: 1, ..READ };
    for _ in 0..2 * 10_000 / 2048 {
        for (id, ended) in ids.iter().zip(&mut ended) {
            match engine.read(*id, little, &mut |_| ()) {
                Ok(_) => assert!(!*ended),
                Err(why) => {
                    assert!([Code::OVERLOADED, Code::LAGGED].contains(&why.code));
                    *ended = true;
                }
            }
        }
    }
    ended.into_iter().filter(|ended| *ended).count()
}

#[test]
fn what_those_who_are_behind_hold_is_charged_and_limited() {
    let engine = &mut engine(Limits::default().with_cache(32 << 20));
    fill(engine, 10_000);
    let many = 64;
    let mut ids = Vec::with_capacity(many);
    let info = measure(|| {
        for _ in 0..many {
            ids.push(begin(engine, "**", &Start::All));
        }
        read_each(engine, &ids);
    });
    let (held, took) =
        (engine.budget().held(), usize::try_from(info.bytes_current.max(0)).unwrap());
    assert!(held > 0 && held <= engine.budget().most());
    assert!(took <= held + held / 4 + many * FREE, "{took} bytes for {held} charged");
    // The window of one holds what is left of it, and no more than so many.
    let cursor = size_of::<crate::engine::subscribe::cursor::Cursor>();
    assert!(held <= many * engine.portions.window * cursor);
    // All of it comes back, as they catch up or end.
    for id in &ids[..many / 2] {
        while engine.read(*id, READ, &mut |_| ()) == Ok(true) {}
    }
    assert!(engine.budget().held() < held);
    ids.iter().for_each(|id| engine.unsubscribe(*id));
    assert_eq!(engine.budget().held(), 0);
    engine.audit();
}

#[test]
fn without_room_for_windows_subscriptions_are_slower_and_miss_nothing() {
    let engine = &mut engine(Limits::default());
    fill(engine, 10_000);
    let all = engine.budget().take(engine.budget().most()).unwrap();
    // Windows of 64, which are free.
    let id = begin(engine, "**", &Start::Last(1));
    let (reads, messages) = read_all(engine, id);
    assert_eq!(messages, 10_000);
    assert!(reads >= 10_000 / engine.portions.free, "{reads}");
    assert_eq!(engine.budget().held(), all.bytes());
}

#[test]
fn lists_of_topics_are_charged_until_they_are_done_with_or_refused() {
    let engine = &mut engine(small());
    fill(engine, 100);
    let names: Vec<_> = (0..5000).map(|n| format!("some/{n}")).collect();
    let start = |count: usize| Start::Resume {
        since: Position { run: 1, position: 0 },
        topics: names[..count].iter().map(|topic| Resume { topic, epoch: 1, next: 1 }).collect(),
    };
    let room = engine.budget().most();
    // Each of them takes 40 bytes and its name.
    let fits = begin(engine, "**", &start(1000));
    assert!((40_000..room).contains(&engine.budget().held()));
    let refused = begin(engine, "**", &start(5000));
    let why = engine.read(refused, READ, &mut |_| ()).unwrap_err();
    assert_eq!(why.code, Code::OVERLOADED);
    assert!(why.reason.contains("with fewer"), "{}", why.reason);
    // The one goes on, and gives it back once it has come to what is new.
    assert_eq!(read_all(engine, fits).1, 100);
    assert_eq!(engine.budget().held(), 0);
    let held: Vec<_> = (0..10).map(|_| begin(engine, "**", &start(1000))).collect();
    assert!(engine.budget().held() <= room);
    held.into_iter().chain([refused, fits]).for_each(|id| engine.unsubscribe(id));
    assert_eq!(engine.budget().held(), 0);
    engine.audit();
}

#[test]
fn what_one_that_is_read_apart_knows_is_charged_and_limited() {
    let engine = &mut engine(Limits::default());
    fill(engine, TOPICS);
    let id = begin(engine, "**", &Start::All);
    let apart = ReadOptions { large: LargePayloads::AnnounceOnly, ..READ };
    let (mut read, mut most) = (Ok(true), 0);
    while read == Ok(true) {
        let mut messages = 0;
        read = engine.read(id, apart, &mut |item| {
            messages += usize::from(matches!(item, Item::Message(_)));
        });
        most = most.max(engine.budget().held());
        // To remember where it began takes longer than to look.
        assert!(messages <= engine.portions.work / REMEMBERED, "{messages}");
    }
    assert_eq!(read, Ok(false), "it may know as many as there are");
    assert!((48 * TOPICS / 2..8 << 20).contains(&most), "{most}");
    engine.unsubscribe(id);
    assert_eq!(engine.budget().held(), 0);
    // Without room it is to end, and then holds nothing.
    let charge = engine.budget().take(engine.budget().most() - (256 << 10)).unwrap();
    let id = begin(engine, "**", &Start::All);
    let mut read = Ok(true);
    while read == Ok(true) {
        read = engine.read(id, apart, &mut |_| ());
    }
    assert_eq!(read.unwrap_err().code, Code::OVERLOADED);
    assert_eq!(engine.budget().held(), charge.bytes());
    engine.unsubscribe(id);
    engine.audit();
}

// Found missing on a last reading: the tests above stay below the bound.
#[test]
fn one_that_is_read_apart_is_told_of_so_many_topics_and_no_more() {
    let most = 131_072;
    let limits = Limits { topics: most + 1, ..Limits::default() };
    let engine = &mut engine(limits.with_cache(1 << 29));
    fill(engine, most);
    let apart = ReadOptions { large: LargePayloads::AnnounceOnly, ..READ };
    let id = begin(engine, "**", &Start::All);
    while engine.read(id, apart, &mut |_| ()).unwrap() {}
    assert_eq!(engine.subscriptions.get(id).unwrap().announced.len(), most);
    let held = engine.budget().held();
    assert!((48 * most..=48 * most + (512 << 10)).contains(&held), "{held}");
    publish(engine, 1, "t/0", &Bytes::from_static(b"known"), None).unwrap();
    while engine.read(id, apart, &mut |_| ()).unwrap() {}
    publish(engine, 1, "one more", &Bytes::from_static(b"x"), None).unwrap();
    let mut read = Ok(true);
    while read == Ok(true) {
        read = engine.read(id, apart, &mut |_| ());
    }
    let why = read.unwrap_err();
    assert_eq!(why.code, Code::OVERLOADED);
    assert!(why.reason.contains("131072"), "{}", why.reason);
    assert_eq!(engine.budget().held(), 0);
}

#[test]
fn topics_give_way_to_what_is_held_and_no_further() {
    let engine = &mut engine(Limits::default().with_cache(16 << 20));
    for n in 0..100_000_u32 {
        publish(engine, 1, "a", &Bytes::copy_from_slice(&n.to_le_bytes()), None).unwrap();
    }
    let charge = engine.budget().take(engine.budget().most()).unwrap();
    publish(engine, 1, "a", &Bytes::from_static(b"x"), None).unwrap();
    while engine.run_deferred() {}
    assert!(engine.bytes() <= 16 << 20, "{}", engine.bytes());
    assert!(engine.budget().take(1).is_none());
    drop(charge);
}
