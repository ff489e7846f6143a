//! No call takes long, and nothing that a peer makes the engine hold goes uncounted, whatever the
//! peers do. As counts of work and of bytes; `benches/lock` has the times.

mod answers;
pub(super) mod fairness;
mod memory;
mod remembered;
mod reviewed;
mod uploads;

use super::peer::{Peer, subscribe};
use super::{engine, publish};
use crate::engine::{Engine, Item, LargePayloads, Limits, ReadOptions, SubscriptionId, WORK};
use crate::wire::{DaemonFrame, Filter, GapCause, Lag, Start};
use bytes::Bytes;

const TOPICS: usize = 65_536;

const READ: ReadOptions =
    ReadOptions { budget: 64 << 10, accepted_since: 0, large: LargePayloads::InChunks };

/// A topic that 65,536 filters match: 16 segments, each of them a star or not.
const DEEP: &str = "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p";

fn begin(engine: &mut Engine, filter: &str, start: &Start<'_>) -> SubscriptionId {
    engine.subscribe(Filter::new(filter).unwrap(), start, Lag::Oldest)
}

fn fill(engine: &mut Engine, topics: usize) {
    let one = Bytes::from_static(b"x");
    for n in 0..topics {
        publish(engine, 1, &format!("t/{n}"), &one, None).unwrap();
    }
}

// The call does what it may do under one lock, and no more; what it leaves is done in portions of
// as much. Gives how many.
fn bounded<T>(engine: &mut Engine, call: impl FnOnce(&mut Engine) -> T) -> (T, usize) {
    engine.begin_work();
    let result = call(engine);
    assert!(engine.work <= WORK, "{} units in one call", engine.work);
    let mut portions = 0;
    while engine.has_deferred() {
        engine.begin_work();
        engine.run_deferred();
        assert!(engine.work <= WORK, "{} units in one portion", engine.work);
        portions += 1;
    }
    (result, portions)
}

// Reads until it has had everything. Gives how many reads and how many messages that were.
fn read_all(engine: &mut Engine, id: SubscriptionId) -> (usize, usize) {
    let (mut reads, mut messages) = (0, 0);
    while bounded(engine, |engine| {
        engine.read(id, READ, &mut |item| messages += usize::from(matches!(item, Item::Message(_))))
    })
    .0
    .unwrap()
    {
        reads += 1;
    }
    (reads, messages)
}

pub(super) fn named(engine: &mut Engine) -> Vec<SubscriptionId> {
    let mut named = Vec::new();
    engine.take_wakes(&mut named);
    named
}

#[test]
fn a_wildcard_looks_at_topics_in_portions() {
    let engine = &mut engine(Limits::default());
    fill(engine, TOPICS);
    // Nothing that it matches, and it knows only when it has looked.
    let (none, _) = bounded(engine, |engine| begin(engine, "*/*/x", &Start::All));
    let (reads, messages) = read_all(engine, none);
    assert!((TOPICS / 512..2 * TOPICS / 256).contains(&reads), "{reads}");
    assert_eq!(messages, 0);
    // Everything.
    let (all, _) = bounded(engine, |engine| begin(engine, "**", &Start::All));
    assert_eq!(read_all(engine, all).1, TOPICS);
    // One that begins with what is new looks at nothing.
    engine.begin_work();
    let new = begin(engine, "**", &Start::New);
    assert!(engine.work <= 16 && !engine.read(new, READ, &mut |_| ()).unwrap());
    engine.audit();
}

#[test]
fn of_one_message_as_many_frames_are_handled_as_there_is_work() {
    let engine = &mut engine(Limits::default());
    fill(engine, TOPICS);
    let mut peer = Peer::open(engine, 1);
    let (mut locks, mut request) = (0, 0);
    while request < 256 {
        engine.begin_work();
        while request < 256 && !engine.is_work_spent() {
            peer.say(engine, &subscribe(request, "*/*/x", Start::All)).unwrap();
            assert!(matches!(super::peer::decode(&peer.reply()), DaemonFrame::Subscribed { .. }));
            request += 1;
        }
        assert!(engine.work <= WORK + engine.portions.first + 64, "{}", engine.work);
        locks += 1;
    }
    assert!(locks >= 256 * engine.portions.first / WORK, "{locks}");
    // All of them have yet to look.
    assert_eq!(named(engine).len(), 256);
    bounded(engine, |engine| assert_eq!(peer.session.close(engine), 256));
    drop(peer);
    assert_eq!((engine.subscriptions(), engine.budget().held()), (0, 0));
    engine.audit();
}

#[test]
fn a_publication_wakes_in_portions() {
    let wildcard = |n: usize| {
        let star = |(at, segment)| if (n + 1) >> at & 1 == 1 { "*" } else { segment };
        DEEP.split('/').enumerate().map(star).collect::<Vec<_>>().join("/")
    };
    let many = 10_000;
    for filters in [vec!["**".to_owned(); many], (0..many).map(wildcard).collect()] {
        let engine = &mut engine(Limits::default());
        let ids = filters.iter().map(|filter| begin(engine, filter, &Start::New));
        let mut ids: Vec<_> = ids.collect();
        for n in 1..=3_u8 {
            let said = Bytes::copy_from_slice(&[n]);
            let (_, portions) =
                bounded(engine, |engine| publish(engine, 1, DEEP, &said, None).unwrap());
            assert!(portions >= many / WORK, "{portions}");
            let mut woken = named(engine);
            woken.sort_unstable();
            ids.sort_unstable();
            assert_eq!(woken, ids, "all of them, and each once");
            for id in &ids {
                assert_eq!(read_all(engine, *id).1, 1);
            }
        }
        for id in ids {
            bounded(engine, |engine| engine.unsubscribe(id));
        }
        engine.audit();
    }
}

#[test]
fn whoever_waits_for_what_arrives_is_woken_in_portions() {
    let engine = &mut engine(Limits::default());
    let many = 10_000;
    let ids: Vec<_> = (0..many).map(|_| begin(engine, "**", &Start::New)).collect();
    let upload = fairness::arrive(engine, "a", 200_000, &Bytes::from(vec![1; 1000]));
    while engine.run_deferred() {}
    let chunk = Bytes::from(vec![1; 30_000]);
    for _ in 0..3 {
        assert_eq!(named(engine).len(), many);
        for id in &ids {
            read_all(engine, *id);
        }
        let (appended, portions) = bounded(engine, |engine| engine.append(upload, chunk.clone()));
        assert!(appended.is_ok() && portions >= many / WORK, "{portions}");
    }
    bounded(engine, |engine| engine.abort(upload));
    assert_eq!(named(engine).len(), many);
    engine.audit();
}

#[test]
fn late_messages_are_passed_over_in_portions() {
    let engine = &mut engine(Limits::default());
    for n in 0..50_000_u32 {
        publish(engine, 1, "a", &Bytes::copy_from_slice(&n.to_le_bytes()), None).unwrap();
    }
    for filter in ["a", "**"] {
        let id = begin(engine, filter, &Start::All);
        let (mut next, mut gaps) = (1, 0);
        let late = ReadOptions { accepted_since: 2, ..READ };
        while engine
            .read(id, late, &mut |item| {
                let Item::Gap { first, last, cause: GapCause::Late, .. } = item else { return };
                assert_eq!(first, next, "told once, and in order");
                assert!(last - first < 4096, "{first} to {last} in one read");
                (next, gaps) = (last + 1, gaps + 1);
            })
            .unwrap()
        {}
        assert_eq!((next, gaps), (50_001, 50_000_usize.div_ceil(4096)));
        engine.unsubscribe(id);
    }
}

#[test]
fn room_is_made_in_portions() {
    let limits = Limits::default().with_cache(64 << 20);
    let engine = &mut engine(limits);
    for n in 0..140_000_u32 {
        publish(engine, 1, "a", &Bytes::copy_from_slice(&n.to_le_bytes()), None).unwrap();
    }
    let kept = engine.bytes();
    // For one large message thousands of small ones go.
    let large = Bytes::from(vec![1; 16 << 20]);
    let (_, portions) = bounded(engine, |engine| publish(engine, 2, "b", &large, None).unwrap());
    assert!(portions > 2 && engine.bytes() <= kept.max(64 << 20), "{portions} {kept}");
    engine.audit();
}

#[test]
fn a_topic_is_forgotten_in_portions() {
    let engine = &mut engine(Limits { topics: 2, ..Limits::default() });
    for topic in ["a", "b"] {
        for n in 0..20_000_u32 {
            publish(engine, 1, topic, &Bytes::copy_from_slice(&n.to_le_bytes()), None).unwrap();
        }
    }
    let said = Bytes::from_static(b"x");
    let (_, portions) = bounded(engine, |engine| publish(engine, 2, "c", &said, None).unwrap());
    assert!(portions >= 20_000 / engine.portions.evictions - 1, "{portions}");
    assert_eq!(engine.slot("a"), None);
    // Its counts are what is left of it.
    let seven = Bytes::copy_from_slice(&7_u32.to_le_bytes());
    assert_eq!(publish(engine, 3, "a", &seven, None).unwrap().count, 2);
    engine.audit();
}

#[test]
fn topics_come_and_go_at_a_bounded_price_beside_many_who_are_behind() {
    let engine = &mut engine(Limits { topics: 1000, ..Limits::default() });
    fill(engine, 1000);
    let ids: Vec<_> = (0..2000).map(|_| begin(engine, "**", &Start::All)).collect();
    for n in 0..2000 {
        let name = format!("new/{n}");
        bounded(engine, |engine| publish(engine, 2, &name, &Bytes::from_static(b"y"), None))
            .0
            .unwrap();
    }
    assert_eq!(engine.topics(), 1000);
    // They are told that they have missed a topic, rather than nothing.
    for id in ids {
        let mut read = Ok(true);
        while read == Ok(true) {
            read = bounded(engine, |engine| engine.read(id, READ, &mut |_| ())).0;
        }
        assert_eq!(read.unwrap_err().code, crate::wire::Code::LAGGED);
        bounded(engine, |engine| engine.unsubscribe(id));
    }
    engine.audit();
}
