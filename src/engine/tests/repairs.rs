//! Repairs and late messages: unordered and realtime delivery need these of the engine.

use super::{engine, publish, small};
use crate::engine::{Engine, Item, LargePayloads, ReadOptions, Repaired, SubscriptionId};
use crate::wire::{GapCause, Lag, Start};
use bytes::Bytes;

fn payload(n: u64, size: usize) -> Bytes {
    let mut bytes = vec![0; size.max(8)];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes.into()
}

// Publishes a message of its own to each sequence.
fn fill(
    engine: &mut Engine,
    now: u64,
    topic: &str,
    sequences: std::ops::RangeInclusive<u64>,
    size: usize,
) {
    for n in sequences {
        let receipt = publish(engine, now, topic, &payload(n, size), None).unwrap();
        assert_eq!(receipt.sequence, n);
    }
}

fn begin(engine: &mut Engine, filter: &str, start: &Start<'_>, lag: Lag) -> SubscriptionId {
    engine.subscribe(filter.parse().unwrap(), start, lag)
}

// Returns the items of a read, in short: `m`essages and gaps (`e`victed, `s`kipped, `l`ate) with topic
// id and sequences.
fn read(
    engine: &mut Engine,
    id: SubscriptionId,
    wanted: impl Into<ReadOptions>,
) -> Vec<(char, u64, u64, u64)> {
    let mut seen = Vec::new();
    let wanted = ReadOptions { large: LargePayloads::AnnounceOnly, ..wanted.into() };
    let any = engine.read(id, wanted, &mut |item| match item {
        Item::Topic { .. } => {}
        Item::Message(message) => {
            assert_eq!(message.payload()[..8], message.sequence().to_le_bytes());
            seen.push(('m', message.topic_id(), message.sequence(), message.sequence()));
        }
        Item::Gap { id, first, last, cause, .. } => {
            let cause = match cause {
                GapCause::Evicted => 'e',
                GapCause::Late => 'l',
                _ => 's',
            };
            seen.push((cause, id, first, last));
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(any, Ok(!seen.is_empty()));
    seen
}

fn read_all(engine: &mut Engine, id: SubscriptionId) {
    while !read(engine, id, 1 << 20).is_empty() {}
}

// Returns the items of a repair, and the sequence to go on with.
fn repair(
    engine: &mut Engine,
    id: SubscriptionId,
    topic: u64,
    hole: (u64, u64),
    budget: usize,
) -> (Vec<(char, u64, u64)>, Option<u64>) {
    let mut seen = Vec::new();
    let next = engine.repair(id, topic, hole, budget, &mut |item| {
        seen.push(match item {
            Repaired::Message(message) => {
                assert_eq!(message.topic_id(), topic);
                assert_eq!(message.payload()[..8], message.sequence().to_le_bytes());
                ('m', message.sequence(), message.sequence())
            }
            Repaired::NotCached { first, last, .. } => ('g', first, last),
            Repaired::Large(message) => panic!("{message:?}"),
        });
    });
    (seen, next)
}

fn messages(sequences: std::ops::RangeInclusive<u64>) -> Vec<(char, u64, u64)> {
    sequences.map(|n| ('m', n, n)).collect()
}

#[test]
fn what_was_handed_out_is_handed_out_again_and_nothing_beyond() {
    let engine = &mut engine(small());
    let id = begin(engine, "a", &Start::New, Lag::Oldest);
    fill(engine, 1, "a", 1..=10, 100);
    assert_eq!(repair(engine, id, 1, (1, 10), 1000), (vec![], None), "not handed out yet");
    read_all(engine, id);
    fill(engine, 1, "a", 11..=12, 100);
    let all = usize::MAX;
    assert_eq!(repair(engine, id, 1, (3, 3), all), (messages(3..=3), None));
    assert_eq!(repair(engine, id, 1, (9, 12), all), (messages(9..=10), None));
    assert_eq!(repair(engine, id, 1, (0, 2), all), (messages(1..=2), None));
    for hole in [(11, 12), (11, u64::MAX), (u64::MAX, u64::MAX), (7, 6)] {
        assert_eq!(repair(engine, id, 1, hole, all), (vec![], None), "{hole:?}");
    }
    // To be repaired takes nothing away.
    assert_eq!(read(engine, id, 1000), [('m', 1, 11, 11), ('m', 1, 12, 12)]);
    assert_eq!(repair(engine, id, 1, (11, 12), all), (messages(11..=12), None));
    engine.unsubscribe(id);
    assert_eq!(repair(engine, id, 1, (1, 2), all), (vec![], None), "it has ended");
}

#[test]
fn a_repair_comes_in_portions() {
    let engine = &mut engine(small());
    let id = begin(engine, "a", &Start::New, Lag::Oldest);
    fill(engine, 1, "a", 1..=40, 100);
    read_all(engine, id);
    for budget in [0, 1, 150, 1000] {
        let (mut from, mut seen, mut portions) = (5, Vec::new(), 0);
        loop {
            let (some, next) = repair(engine, id, 1, (from, 30), budget);
            assert!(!some.is_empty() && some.len() <= 1 + budget / 100, "{some:?}");
            seen.extend(some);
            portions += 1;
            let Some(next) = next else { break };
            from = next;
        }
        assert_eq!(seen, messages(5..=30));
        assert!(portions >= 2);
    }
}

#[test]
fn what_has_left_the_cache_is_told_as_gone() {
    let engine = &mut engine(small());
    let id = begin(engine, "a", &Start::New, Lag::Oldest);
    for n in 1..=400 {
        fill(engine, 1, "a", n..=n, 4000);
        read_all(engine, id);
    }
    let oldest = engine.topic(0).unwrap().first_sequence();
    assert!((100..400).contains(&oldest));
    let (seen, next) = repair(engine, id, 1, (oldest - 5, oldest + 1), usize::MAX);
    let expected = [&[('g', oldest - 5, oldest - 1)][..], &messages(oldest..=oldest + 1)].concat();
    assert_eq!((seen, next), (expected, None));
    let gone = repair(engine, id, 1, (3, 9), usize::MAX);
    assert_eq!(gone, (vec![('g', 3, 9)], None));
    // A gap counts as an item: a portion may be one.
    let (seen, next) = repair(engine, id, 1, (1, 400), 0);
    assert_eq!((seen[0], next), (('g', 1, oldest - 1), Some(oldest + 1)));
}

#[test]
fn another_topic_is_gone_whatever_there_is_of_it() {
    let mut limits = small();
    limits.topics = 2;
    let engine = &mut engine(limits);
    let id = begin(engine, "a/*", &Start::New, Lag::Oldest);
    fill(engine, 1, "a/x", 1..=3, 10);
    fill(engine, 1, "b", 1..=3, 10);
    read_all(engine, id);
    let other = begin(engine, "**", &Start::All, Lag::Oldest);
    read_all(engine, other);
    assert_eq!(repair(engine, other, 2, (1, 3), 1000), (messages(1..=3), None));
    for unknown in [0, 2, 3, u64::MAX] {
        assert_eq!(repair(engine, id, unknown, (1, 3), 1000), (vec![('g', 1, 3)], None));
    }
    assert_eq!(repair(engine, id, 1, (1, 3), 1000), (messages(1..=3), None));
    // Forgotten, and begun anew under another id: the old one stays gone.
    fill(engine, 1, "c", 1..=1, 10);
    fill(engine, 1, "a/x", 1..=1, 10);
    read_all(engine, id);
    assert_eq!(repair(engine, id, 1, (1, 3), 1000), (vec![('g', 1, 3)], None));
    assert_eq!(repair(engine, id, 4, (1, 3), 1000), (messages(1..=1), None));
}

fn since(accepted_since: u64) -> ReadOptions {
    ReadOptions { accepted_since, ..ReadOptions::from(1 << 20) }
}

#[test]
fn late_messages_are_told_as_one_gap() {
    let engine = &mut engine(small());
    let id = begin(engine, "**", &Start::New, Lag::Oldest);
    fill(engine, 100, "a", 1..=5, 10);
    fill(engine, 200, "a", 6..=7, 10);
    assert_eq!(read(engine, id, since(200)), [('l', 1, 1, 5), ('m', 1, 6, 6), ('m', 1, 7, 7)]);
    assert_eq!(read(engine, id, since(1000)), [], "what was sent stays sent");
    fill(engine, 300, "a", 8..=9, 10);
    assert_eq!(read(engine, id, since(1000)), [('l', 1, 8, 9)]);
    assert_eq!(read(engine, id, since(1000)), []);
    fill(engine, 1000, "a", 10..=10, 10);
    assert_eq!(read(engine, id, since(1000)), [('m', 1, 10, 10)], "just in time");
    // Skipped messages can be repaired nevertheless.
    assert_eq!(repair(engine, id, 1, (1, 5), 1000), (messages(1..=5), None));
    // Of two topics, in the order of what was accepted.
    for (now, topic, n) in [(1100, "a", 11), (1100, "b", 1), (1100, "a", 12), (1200, "b", 2)] {
        fill(engine, now, topic, n..=n, 10);
    }
    let expected = [('l', 1, 11, 11), ('l', 2, 1, 1), ('l', 1, 12, 12), ('m', 2, 2, 2)];
    assert_eq!(read(engine, id, since(1150)), expected);
}

#[test]
fn late_and_evicted_are_told_apart_and_nothing_is_told_twice() {
    for lag in [Lag::Oldest, Lag::Newest] {
        let engine = &mut engine(small());
        let id = begin(engine, "a", &Start::New, lag);
        fill(engine, 100, "a", 1..=400, 4000);
        fill(engine, 200, "a", 401..=403, 10);
        let oldest = engine.topic(0).unwrap().first_sequence();
        assert!((100..400).contains(&oldest));
        let seen = read(engine, id, since(200));
        let rest = [('m', 1, 401, 401), ('m', 1, 402, 402), ('m', 1, 403, 403)];
        if lag == Lag::Oldest {
            let gaps = [('e', 1, 1, oldest - 1), ('l', 1, oldest, 400)];
            assert_eq!(seen, [&gaps[..], &rest].concat());
        } else {
            assert_eq!(seen, [('s', 1, 1, 402), rest[2]]);
        }
    }
    // One at a time.
    let engine = &mut engine(small());
    let id = begin(engine, "a", &Start::New, Lag::Oldest);
    fill(engine, 100, "a", 1..=400, 4000);
    fill(engine, 200, "a", 401..=402, 10);
    let (mut seen, mut next) = (Vec::new(), 1);
    loop {
        let some = read(engine, id, ReadOptions { accepted_since: 200, ..ReadOptions::from(0) });
        if some.is_empty() {
            break;
        }
        seen.extend(some);
    }
    for (_, _, first, last) in &seen {
        assert_eq!(*first, next);
        next = last + 1;
    }
    assert_eq!((next, seen.len()), (403, 4), "{seen:?}");
    // A late subscription has not lagged.
    let id = begin(engine, "a", &Start::Last(2), Lag::Disconnect);
    assert_eq!(read(engine, id, since(300)), [('l', 1, 401, 402)]);
}
