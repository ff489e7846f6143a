//! The effect of one publisher on another's messages.

use super::{READ, begin};
use crate::engine::tests::{engine, publish, small};
use crate::engine::{BeginOutcome, Engine, Item, Limits, UploadId, UploadRequest};
use crate::wire::{Code, Digest, Start, Which};
use bytes::Bytes;

/// A publication of so many bytes begins to arrive, with these.
pub(in crate::engine::tests) fn arrive(
    engine: &mut Engine,
    topic: &str,
    size: u64,
    came: &Bytes,
) -> UploadId {
    let opening = UploadRequest { topic, size, stamp: 0, origin: None };
    let Ok(BeginOutcome::Arriving(upload)) = engine.begin(1, &opening) else {
        panic!("it is new");
    };
    engine.append(upload, came.clone()).unwrap();
    upload
}

fn read(engine: &mut Engine, id: crate::engine::SubscriptionId) -> Vec<String> {
    let (mut seen, mut of) = (Vec::new(), String::new());
    engine.take_wakes(&mut Vec::new());
    while engine
        .read(id, READ, &mut |item| match item {
            Item::Topic { .. } | Item::Chunk(_) => {}
            Item::Begin(message) => {
                of = message.topic().to_string();
                seen.push(format!("begin {of}"));
            }
            Item::Message(message) => {
                seen.push(format!("{} {}", message.topic(), message.sequence()));
            }
            Item::End { .. } => seen.push(format!("end {of}")),
            Item::Abort { code } => {
                assert_eq!(code, Code::OVERTAKEN);
                seen.push(format!("overtaken {of}"));
            }
            other => panic!("{other:?}"),
        })
        .unwrap()
    {}
    seen
}

#[test]
fn a_complete_message_overtakes_one_that_stands_still() {
    let engine = &mut engine(Limits::default());
    let id = begin(engine, "**", &Start::New);
    let slow = arrive(engine, "slow", 200_000, &Bytes::from(vec![1; 1000]));
    publish(engine, 2, "b", &vec![2; 100_000].into(), None).unwrap();
    publish(engine, 3, "b", &Bytes::from_static(b"after it"), None).unwrap();
    publish(engine, 4, "c", &Bytes::from_static(b"another"), None).unwrap();
    // The first of all, the small ones of other topics, and all of b.
    let seen = read(engine, id);
    let at = |what: &str| {
        seen.iter().position(|seen| seen == what).unwrap_or_else(|| {
            panic!("no {what} in {seen:?}");
        })
    };
    assert!(at("begin slow") < at("overtaken slow") && at("overtaken slow") < at("begin b"));
    assert!(at("begin b") < at("end b") && at("end b") < at("b 2"));
    assert_eq!((at("c 1") < seen.len(), seen.len()), (true, 6), "{seen:?}");
    // More of it is nothing to be woken for; the whole is.
    let rest = Bytes::from(vec![1; 49_750]);
    for _ in 0..4 {
        engine.append(slow, rest.clone()).unwrap();
        assert!(read(engine, id).is_empty());
    }
    engine.end(5, slow, Digest::of(&vec![1; 200_000])).unwrap();
    assert_eq!(read(engine, id), ["begin slow", "end slow"]);
    engine.audit();
}

#[test]
fn what_arrives_is_not_given_up_for_less_than_its_topic_could_give() {
    let engine = &mut engine(small());
    let upload = arrive(engine, "busy", 200_000, &Bytes::from(vec![9; 100_000]));
    for said in ["a", "b"] {
        publish(engine, 2, "busy", &Bytes::from_static(said.as_bytes()), None).unwrap();
    }
    for n in 0..8_u8 {
        publish(engine, 3, &format!("idle/{n}"), &vec![n; 150_000].into(), None).unwrap();
    }
    assert_eq!(engine.append(upload, Bytes::from(vec![9; 100_000])), Ok(()));
    engine.end(4, upload, Digest::of(&vec![9; 200_000])).unwrap();
    while engine.run_deferred() {}
    engine.audit();
}

#[test]
fn a_topic_within_its_share_keeps_its_messages() {
    // A dozen topics of one message each, of which three would fill the cache.
    let engine = &mut engine(Limits::default().with_cache(16 << 20));
    for n in 0..2000_u32 {
        publish(engine, 1, "victim", &Bytes::copy_from_slice(&n.to_le_bytes()), None).unwrap();
    }
    for n in 0..12_u8 {
        publish(engine, 2, &format!("large/{n}"), &vec![n; 4 << 20].into(), None).unwrap();
        while engine.run_deferred() {}
        let victim = engine.slot("victim").and_then(|slot| engine.topic(slot));
        assert_eq!(victim.map(crate::engine::topic::Topic::messages), Some(2000), "after {n}");
        // The message that was just published stays for the subscriptions woken for it.
        assert!(engine.slot(&format!("large/{n}")).is_some());
    }
    engine.audit();
}

// Found by a reviewer: payloads that had been looked up were kept when they left the log. So room was
// searched for in one topic after the other, and their messages were evicted in vain.
#[test]
fn large_messages_that_were_asked_for_go_one_by_one() {
    let mut engine = engine(Limits::default().with_cache(64 << 20));
    for n in 0..10_000_u32 {
        publish(&mut engine, 1, "small", &Bytes::copy_from_slice(&n.to_le_bytes()), None).unwrap();
    }
    let topics: Vec<_> = (0..60).map(|n| format!("large/{n}")).collect();
    let served = |engine: &mut Engine| {
        topics.iter().filter(|topic| engine.get(topic, Which::Latest).is_ok()).count()
    };
    for (n, topic) in topics.iter().enumerate() {
        let large = Bytes::from(vec![n as u8; (1 << 20) + n]);
        publish(&mut engine, 1, topic, &large, None).unwrap();
        while engine.run_deferred() {}
        let there = served(&mut engine);
        assert!(there >= (n + 1).min(40), "{there} after {n}");
    }
    // Of equal size the oldest goes first: the newest are there.
    assert!(engine.get(topics.last().unwrap(), Which::Latest).is_ok());
    engine.audit();
}

// Found on a last reading: a window that is handed out in part holds what has been overtaken.
#[test]
fn what_is_overtaken_is_named_though_its_window_was_handed_out_in_part() {
    let engine = &mut engine(Limits::default());
    let id = begin(engine, "**", &Start::New);
    let payload = Bytes::from(vec![1; 100_000]);
    let upload = arrive(engine, "a", 100_000, &payload.slice(..1000));
    let one = Bytes::from_static(b"x");
    for topic in ["a", "b", "c"] {
        publish(engine, 1, topic, &one, None).unwrap();
    }
    // An item, and no more.
    let read_one = |engine: &mut Engine| {
        let mut positions = Vec::new();
        let wanted = crate::engine::ReadOptions::from(1);
        engine
            .read(id, wanted, &mut |item| {
                if let Item::Message(message) = item {
                    positions.push(message.position());
                }
            })
            .unwrap();
        positions
    };
    assert_eq!(read_one(engine), [3], "b overtakes");
    let overtaken = |engine: &Engine, by| {
        let all = engine.overtaken(id, by).into_iter();
        all.map(|one| (one.topic, one.next, one.position)).collect::<Vec<_>>()
    };
    assert_eq!(overtaken(engine, 3), [(1, 1, 1)]);
    engine.append(upload, payload.slice(1000..)).unwrap();
    engine.end(1, upload, Digest::of(&payload)).unwrap();
    assert_eq!(read_one(engine), [1]);
    assert_eq!(overtaken(engine, 3), [(1, 2, 2)], "the next of a stands before b");
    assert_eq!((read_one(engine), read_one(engine)), (vec![2], vec![4]));
    assert_eq!(overtaken(engine, 4), []);
}

// Found by a reviewer: some uploads complete while a subscription reads its first windows. They are
// newer than its beginning, and it skipped the messages in between without a gap.
#[test]
fn where_the_last_messages_begin_does_not_move_by_what_completes_or_leaves_later() {
    for leaves in [false, true] {
        let engine = &mut engine(Limits::default());
        let say = |engine: &mut Engine, topic: &str, n: u64| {
            publish(engine, 1, topic, &Bytes::copy_from_slice(&n.to_le_bytes()), None).unwrap();
        };
        (1..=3).for_each(|n| say(engine, "a", n));
        (0..200).for_each(|n| say(engine, &format!("other/{n}"), n));
        (4..=5).for_each(|n| say(engine, "a", n));
        let whole = Bytes::from(vec![1; 100_000]);
        let uploads = [(); 2].map(|()| arrive(engine, "a", 100_000, &whole.slice(..50_000)));
        // Windows of 64.
        let _all = engine.budget().take(engine.budget().most()).unwrap();
        let id = begin(engine, "**", &Start::Last(3));
        let (mut seen, mut gap) = (Vec::new(), Vec::new());
        let mut ends = uploads.to_vec();
        while engine
            .read(id, READ, &mut |item| match item {
                Item::Begin(message) | Item::Message(message) if **message.topic() == *"a" => {
                    seen.push(message.sequence());
                }
                Item::Gap { first, last, .. } => gap.extend(first..=last),
                _ => {}
            })
            .unwrap()
        {
            if !seen.is_empty() {
                for upload in ends.drain(..) {
                    engine.append(upload, whole.slice(50_000..)).unwrap();
                    engine.end(2, upload, Digest::of(&whole)).unwrap();
                }
                let slot = engine.slot("a").unwrap();
                while leaves && engine.topic(slot).is_some_and(|topic| topic.first_sequence() <= 5)
                {
                    engine.evict(slot);
                }
            }
        }
        let all: Vec<u64> = if leaves { [3, 6, 7].into() } else { (3..=7).collect() };
        assert_eq!((seen, gap), (all, if leaves { vec![4, 5] } else { vec![] }));
    }
}
