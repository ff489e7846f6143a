//! Defects that the tests with uploads found, each by itself.

use super::{arrive, engine, publish, small};
use crate::engine::subscribe::portions::{PORTIONS, Portions};
use crate::engine::{Engine, Item, LargePayloads, Limits, ReadOptions, SubscriptionId};
use crate::wire::{Code, Digest, GapCause, Lag, Start};
use bytes::Bytes;

const SIZE: u64 = 100_000;

fn begin(engine: &mut Engine, filter: &str) -> SubscriptionId {
    engine.subscribe(filter.parse().unwrap(), &Start::New, Lag::Oldest)
}

fn whole() -> Bytes {
    vec![1; SIZE as usize].into()
}

// Reads once. Gives what there was, and whether to read again.
fn read(
    engine: &mut Engine,
    id: SubscriptionId,
    large: LargePayloads,
    budget: usize,
) -> (Vec<String>, bool) {
    let mut seen = Vec::new();
    engine.take_wakes(&mut Vec::new());
    let wanted = ReadOptions { large, ..budget.into() };
    let again = engine
        .read(id, wanted, &mut |item| match item {
            Item::Message(message) => {
                seen.push(format!("{} {}", message.topic(), message.sequence()));
            }
            Item::Begin(message) => {
                seen.push(format!("begin {} {}", message.topic(), message.sequence()));
            }
            Item::Gap { name, first, last, .. } => seen.push(format!("gap {name} {first} {last}")),
            Item::Abort { code } => {
                assert_eq!(code, Code::OVERTAKEN);
                seen.push("overtaken".to_owned());
            }
            Item::End { .. } => seen.push("end".to_owned()),
            Item::Topic { .. } | Item::Chunk(_) => {}
            Item::Large(_) => seen.push("apart".to_owned()),
        })
        .unwrap();
    (seen, again)
}

fn read_all(engine: &mut Engine, id: SubscriptionId, large: LargePayloads) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let (seen, again) = read(engine, id, large, 1 << 20);
        all.extend(seen);
        if !again {
            return all;
        }
    }
}

// Its sweep had passed the topic while its cursor waited there, and had not ended when that message
// was complete. So the messages after it in that topic were never read.
#[test]
fn what_follows_one_that_completes_while_topics_are_swept_over_is_not_missed() {
    for large in [LargePayloads::WhenComplete, LargePayloads::InChunks] {
        let engine = &mut engine(Limits::default());
        let id = begin(engine, "**");
        let upload = arrive(engine, "a", SIZE, &whole().slice(..1000));
        read_all(engine, id, large);
        let one = Bytes::from_static(b"x");
        let mut due = vec!["a 2".to_owned()];
        publish(engine, 1, "a", &one, None).unwrap();
        for n in 0..600 {
            publish(engine, 1, &format!("t/{n}"), &one, None).unwrap();
            due.push(format!("t/{n} 1"));
        }
        while !engine.is_sweeping(id) {
            assert_eq!(read(engine, id, large, 1 << 20), (vec![], true));
        }
        // By now it has come beyond the first name.
        assert_eq!(read(engine, id, large, 1 << 20), (vec![], true));
        engine.append(upload, whole().slice(1000..65_536)).unwrap();
        engine.append(upload, whole().slice(65_536..)).unwrap();
        engine.end(1, upload, Digest::of(&whole())).unwrap();
        let mut seen = read_all(engine, id, large);
        assert!(["a 1", "end"].contains(&&*seen.remove(0)));
        assert_eq!(seen, due);
        engine.audit();
    }
}

// It was read before its wake, which found that it knew: so it counted as one that has had
// everything, with a part of that still to come.
#[test]
fn one_that_has_read_in_part_what_it_waited_for_says_so() {
    let engine = &mut engine(small());
    engine.portions = Portions { wakes: 3, ..PORTIONS };
    let id = begin(engine, "a");
    let others: Vec<_> = (0..3).map(|_| begin(engine, "**")).collect();
    let upload = arrive(engine, "a", SIZE, &whole().slice(..60_000));
    while engine.run_deferred() {}
    assert!(read_all(engine, id, LargePayloads::WhenComplete).is_empty());
    others.into_iter().for_each(|id| _ = read_all(engine, id, LargePayloads::AnnounceOnly));
    publish(engine, 1, "a", &Bytes::from_static(b"x"), None).unwrap();
    assert!(engine.has_deferred(), "it is to be woken later");
    engine.append(upload, whole().slice(60_000..)).unwrap();
    engine.end(1, upload, Digest::of(&whole())).unwrap();
    for (sequence, had) in [("a 1", 1), ("a 2", 2)] {
        assert_eq!(read(engine, id, LargePayloads::WhenComplete, 1).0, [sequence]);
        while engine.run_deferred() {}
        assert_eq!(engine.delivered_through(id), had);
    }
}

// A gap comes before anything else, and a cursor that had told one kept its place there.
#[test]
fn one_that_waits_behind_a_gap_has_had_what_came_before() {
    let engine = &mut engine(small());
    let id = begin(engine, "a");
    for n in 0..20_000_u32 {
        publish(engine, 1, "a", &Bytes::copy_from_slice(&n.to_le_bytes()), None).unwrap();
    }
    arrive(engine, "a", SIZE, &whole().slice(..1000));
    let seen = read_all(engine, id, LargePayloads::WhenComplete);
    assert!(seen[0].starts_with("gap a 1 ") && seen.last().unwrap() == "a 20000");
    assert_eq!(engine.delivered_through(id), 20_000);
}

// It had made way for another, and so had to be complete before it came again; and so had the
// next in its place.
#[test]
fn whatever_follows_one_that_was_overtaken_and_aborted_comes_in_parts() {
    let engine = &mut engine(small());
    let id = begin(engine, "**");
    let first = arrive(engine, "a", SIZE, &whole().slice(..1000));
    assert_eq!(read_all(engine, id, LargePayloads::InChunks), ["begin a 1"]);
    arrive(engine, "a", SIZE, &whole().slice(..1000));
    publish(engine, 1, "b", &whole(), None).unwrap();
    assert_eq!(read_all(engine, id, LargePayloads::InChunks), ["overtaken", "begin b 1", "end"]);
    engine.abort(first);
    assert_eq!(read_all(engine, id, LargePayloads::InChunks), ["gap a 1 1", "begin a 2"]);
    engine.audit();
}

// A message that is evicted below an upload keeps its slot in the log. So each run of them became a
// gap, and the messages in between were read.
#[test]
fn whoever_wants_the_newest_skips_what_made_room_while_one_before_it_arrives() {
    let engine = &mut engine(small());
    let id = engine.subscribe("a".parse().unwrap(), &Start::New, Lag::Newest);
    arrive(engine, "a", SIZE, &whole().slice(..1000));
    assert_eq!(read_all(engine, id, LargePayloads::AnnounceOnly), ["apart"]);
    for n in 0..100 {
        publish(engine, 1, "a", &Bytes::from(vec![n; 20_000]), None).unwrap();
    }
    let mut seen = Vec::new();
    let wanted = ReadOptions { large: LargePayloads::AnnounceOnly, ..ReadOptions::from(1 << 20) };
    let mut see = |item: Item<'_>| match item {
        Item::Gap { first, last, cause, .. } => seen.push((first, last, Some(cause))),
        Item::Message(message) => seen.push((message.sequence(), message.sequence(), None)),
        _ => {}
    };
    while engine.read(id, wanted, &mut see).unwrap() {}
    assert_eq!(seen, [(2, 100, Some(GapCause::Skipped)), (101, 101, None)]);
    engine.audit();
}

// It looked after more had come, and began with what had been aborted above the one that arrived.
#[test]
fn whoever_begins_with_the_newest_gets_what_arrived_then_below_an_aborted_one() {
    let engine = &mut engine(small());
    engine.portions = Portions { sweep: 1, first: 1, ..PORTIONS };
    publish(engine, 1, "a", &Bytes::from_static(b"x"), None).unwrap();
    let upload = arrive(engine, "b", SIZE, &whole().slice(..60_000));
    let aborted = arrive(engine, "b", SIZE, &whole().slice(..1000));
    engine.abort(aborted);
    let id = engine.subscribe("**".parse().unwrap(), &Start::Latest, Lag::Oldest);
    publish(engine, 1, "b", &Bytes::from_static(b"x"), None).unwrap();
    engine.append(upload, whole().slice(60_000..)).unwrap();
    assert_eq!(read_all(engine, id, LargePayloads::InChunks), ["a 1", "begin b 1"]);
    engine.end(1, upload, Digest::of(&whole())).unwrap();
    assert_eq!(read_all(engine, id, LargePayloads::InChunks), ["end", "gap b 2 2", "b 3"]);
    engine.audit();
}
