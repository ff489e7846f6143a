//! Single stories that random steps seldom tell.

use super::{engine, payload, publish, small};
use crate::engine::memory::evicted_counts::EvictedCounts;
use crate::engine::{BeginOutcome, Engine, Item, SubscriptionId, UploadRequest};
use crate::wire::{Code, Digest, Filter, Lag, Position, Resume, Start, Which};
use bytes::Bytes;

fn subscribe(engine: &mut Engine, filter: &str, start: &Start<'_>) -> SubscriptionId {
    engine.subscribe(filter.parse::<Filter>().unwrap(), start, Lag::Oldest)
}

/// Returns the items that a subscription receives, as text.
fn read_all(engine: &mut Engine, id: SubscriptionId) -> Vec<String> {
    let mut items = Vec::new();
    let sink = &mut |item: Item<'_>| {
        items.push(match item {
            Item::Topic { name, next, .. } => format!("topic {name} from {next}"),
            Item::Gap { name, first, last, .. } => format!("gap {name} {first}-{last}"),
            Item::Message(message) => format!("{} {}", message.topic(), message.sequence()),
            other => panic!("{other:?}"),
        });
    };
    while engine.read(id, 1000, sink).unwrap() {}
    items
}

#[test]
fn one_that_never_reads_holds_nobody_up() {
    let mut limits = small();
    limits.topics = 500;
    let mut engine = engine(limits);
    let stuck = subscribe(&mut engine, "**", &Start::New);
    let reads = subscribe(&mut engine, "**", &Start::New);
    let mut named = Vec::new();
    for n in 0..5000_u64 {
        let topic = format!("many/{n}");
        publish(&mut engine, n, &topic, &payload(n as u32), None).unwrap();
        engine.take_wakes(&mut named);
        assert_eq!(read_all(&mut engine, reads).len(), 2, "topic and message");
        assert!(engine.bytes() <= engine.limits().cache && engine.topics() <= 500);
    }
    engine.audit();
    let ended = engine.read(stuck, 1000, &mut |_| ()).unwrap_err();
    assert_eq!(ended.code, Code::LAGGED);
    let times = named.iter().filter(|id| **id == stuck).count();
    assert_eq!(times, 1, "named once, and not read since");
    engine.unsubscribe(stuck);
    engine.audit();
}

#[test]
fn a_subscription_that_has_ended_is_not_taken_for_the_next() {
    let mut engine = engine(small());
    publish(&mut engine, 1, "a", &payload(1), None).unwrap();
    let old = subscribe(&mut engine, "a", &Start::All);
    engine.unsubscribe(old);
    let new = subscribe(&mut engine, "a", &Start::All);
    let mut named = Vec::new();
    engine.take_wakes(&mut named);
    assert_eq!((old.index(), named), (new.index(), vec![new]));
    let refused = engine.read(old, 1000, &mut |_| panic!("of another")).unwrap_err();
    assert_eq!(refused.code, Code::DONE);
    engine.unsubscribe(old);
    assert_eq!(read_all(&mut engine, new), ["topic a from 1", "a 1"]);
    engine.audit();
}

#[test]
fn slow_subscribers_cost_no_memory() {
    let mut engine = engine(small());
    for _ in 0..100 {
        subscribe(&mut engine, "a", &Start::All);
    }
    for n in 0..3000 {
        publish(&mut engine, n, "a", &payload(n as u32), None).unwrap();
        assert!(engine.bytes() <= engine.limits().cache);
    }
    while engine.run_deferred() {}
    assert_eq!(engine.subscriptions.wakes.len(), 100);
    let all = engine.subscriptions.all.iter().flatten();
    assert!(all.into_iter().all(|one| one.window.len() <= 1 && one.start_charge.is_none()));
}

#[test]
fn counts_fall_out_of_the_ledger_and_say_since_when() {
    let mut engine = engine(small());
    let one = payload(2);
    for now in 1..=3 {
        let receipt = publish(&mut engine, now, "a", &one, None).unwrap();
        assert_eq!((receipt.count, receipt.since), (now, 0));
    }
    // Enough counts above it that the list of the highest lets it go; and then out of everything.
    for n in 1000..1100 {
        (0..5).for_each(|_| drop(publish(&mut engine, 10, "a", &payload(n * 8), None)));
    }
    for n in 2000..12_000 {
        publish(&mut engine, 20, "a", &payload(n * 8 + 1), None).unwrap();
    }
    let receipt = publish(&mut engine, 77, "a", &one, None).unwrap();
    assert_eq!((receipt.count, receipt.since), (1, 77));
    let receipt = publish(&mut engine, 99, "a", &one, None).unwrap();
    assert_eq!((receipt.count, receipt.since), (2, 77));
    let high = publish(&mut engine, 100, "a", &payload(1000 * 8), None).unwrap();
    assert_eq!((high.count, high.since), (6, 0), "among the highest it is never lost");
    // Every count of a topic that begins now is known.
    let receipt = publish(&mut engine, 101, "b", &one, None).unwrap();
    assert_eq!((receipt.count, receipt.since), (1, 0));
}

#[test]
fn a_payload_that_comes_back_is_counted_on_and_ranked() {
    let mut limits = small();
    limits.topics = 1;
    let mut engine = engine(limits);
    for n in 0..120_u32 {
        for _ in 0..n / 10 {
            publish(&mut engine, 1, "a", &payload(n), None).unwrap();
        }
    }
    publish(&mut engine, 1, "b", &payload(0), None).unwrap();
    assert_eq!(engine.get("a", Which::Latest).unwrap_err().code, Code::NOT_FOUND);
    for n in (0..120_u32).rev().step_by(7) {
        let receipt = publish(&mut engine, 1, "a", &payload(n), None).unwrap();
        assert_eq!((receipt.count, receipt.since), (u64::from(n / 10) + 1, 0));
    }
    let counts: Vec<_> = engine.top("a", 9).unwrap().iter().map(|one| one.count).collect();
    let mut sorted = counts.clone();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(counts, sorted);
    assert_eq!(counts[0], 12);
}

#[test]
fn the_highest_counts_outlive_the_ledger_and_their_topic() {
    let mut limits = small();
    limits.topics = 1;
    let mut engine = engine(limits);
    engine.evicted_counts = EvictedCounts::new(2);
    let x = payload(1);
    (0..3).for_each(|_| drop(publish(&mut engine, 1, "a", &x, None)));
    // The large ones push it out of the cache, and out of the ledger.
    for n in 0..20 {
        publish(&mut engine, 1, "a", &payload(7 + 8 * n), None).unwrap();
    }
    publish(&mut engine, 1, "b", &x, None).unwrap();
    let receipt = publish(&mut engine, 1, "a", &x, None).unwrap();
    assert_eq!(receipt.count, 4);
}

#[test]
fn what_was_asked_for_outlives_its_message_but_the_newest_message_stays() {
    let mut engine = engine(small());
    let (asked, newest) = (payload(7), payload(15));
    publish(&mut engine, 1, "a", &asked, None).unwrap();
    publish(&mut engine, 1, "a", &newest, None).unwrap();
    let which = Which::Digest(Digest::of(&asked));
    engine.get("a", which).unwrap();
    // One more than there is room for: of the two, the one asked for was used later.
    for n in 3..7 {
        publish(&mut engine, 1, &format!("b/{n}"), &payload(7 + 8 * n), None).unwrap();
    }
    engine.audit();
    assert_eq!(engine.get("a", Which::Latest).unwrap().payload(), newest);
    assert_eq!(engine.get("a", which).unwrap_err().code, Code::EVICTED);
}

#[test]
fn what_is_asked_for_outlives_its_message() {
    let mut engine = engine(small());
    let which = Which::Digest(Digest::of(&payload(7)));
    for n in 0..20 {
        publish(&mut engine, 1, "a", &payload(7 + 8 * n), None).unwrap();
        assert_eq!(engine.get("a", which).unwrap().sequence(), 1);
    }
    let gone = engine.get("a", Which::Sequence(1)).unwrap_err();
    assert_eq!(gone.code, Code::EVICTED, "its place in the log is not kept");
    engine.audit();
}

#[test]
fn a_repeat_gets_the_receipt_that_the_original_got() {
    let mut engine = engine(small());
    let (x, y) = (payload(1), payload(2));
    let first = publish(&mut engine, 1, "a", &x, Some((1, 5))).unwrap();
    let second = publish(&mut engine, 2, "a", &y, Some((1, 3))).unwrap();
    for n in 10..20 {
        publish(&mut engine, 3, "a", &payload(n), Some((2, n.into()))).unwrap();
    }
    publish(&mut engine, 4, "a", &x, None).unwrap();
    for (number, payload, receipt) in [(5, &x, first), (3, &y, second)] {
        let again = publish(&mut engine, 9, "a", payload, Some((1, number))).unwrap();
        assert!(again.duplicate);
        assert_eq!(crate::engine::Receipt { duplicate: false, ..again }, receipt);
    }
    assert_eq!(engine.position(), 13);
}

#[test]
fn a_topic_that_was_forgotten_begins_again_under_another_epoch() {
    let mut limits = small();
    limits.topics = 1;
    let mut engine = engine(limits);
    let id = subscribe(&mut engine, "**", &Start::New);
    let mut seen = Vec::new();
    for topic in ["a", "b", "a"] {
        publish(&mut engine, 1, topic, &payload(1), None).unwrap();
        seen.extend(read_all(&mut engine, id));
    }
    let expected = ["topic a from 1", "a 1", "topic b from 1", "b 1", "topic a from 1", "a 1"];
    assert_eq!(seen, expected);
    let since = Position { run: engine.run(), position: 0 };
    let topics = vec![Resume { topic: "a", epoch: engine.run(), next: 2 }];
    let id = subscribe(&mut engine, "**", &Start::Resume { since, topics });
    assert_eq!(read_all(&mut engine, id), ["topic a from 1", "a 1"], "another epoch");
}

#[test]
fn a_gap_after_a_position_begins_no_earlier_than_positions_go() {
    let mut engine = engine(small());
    let large = |n: u32| payload(7 + 8 * n);
    (0..3).for_each(|n| drop(publish(&mut engine, 1, "a", &payload(n), None)));
    let since = Position { run: engine.run(), position: engine.position() };
    let start = Start::Resume { since, topics: Vec::new() };
    (0..20).for_each(|n| drop(publish(&mut engine, 1, "a", &large(n), None)));
    let id = subscribe(&mut engine, "*", &start);
    let begin = read_all(&mut engine, id);
    assert_eq!(begin[0], "topic a from 4", "nothing else was published: exact");
    assert!(begin[1].starts_with("gap a 4-"), "{begin:?}");
    // Each publication elsewhere leaves one more that may have been missed.
    (0..2).for_each(|n| drop(publish(&mut engine, 1, "b", &payload(n), None)));
    publish(&mut engine, 1, "a", &large(50), None).unwrap();
    (0..20).for_each(|n| drop(publish(&mut engine, 1, "a", &large(n), None)));
    let id = subscribe(&mut engine, "*", &start);
    assert!(read_all(&mut engine, id).contains(&"topic a from 2".to_owned()));
}

#[test]
fn a_wrong_digest_harms_nothing() {
    let mut engine = engine(small());
    for n in 0..400 {
        let payload = payload(n);
        let publication = crate::engine::Publication {
            topic: "a",
            payload: &crate::engine::Payload::from(payload.clone()),
            digest: Digest([n as u8 % 3; 32]),
            stamp: 0,
            origin: None,
        };
        engine.publish(1, &publication).unwrap();
        engine.audit();
    }
}

#[test]
fn memory_goes_back_when_a_topic_shrinks() {
    let mut engine = engine(small());
    let tiny = |n: u32| Bytes::copy_from_slice(&n.to_le_bytes());
    (0..5000).for_each(|n| drop(publish(&mut engine, 1, "noisy", &tiny(n), None)));
    let slot = engine.by_use.peek("noisy").copied().unwrap();
    let full = engine.topic(slot).unwrap().cost();
    for topic in 0..6 {
        let topic = format!("large/{topic}");
        publish(&mut engine, 1, &topic, &vec![topic.len() as u8; 110_000].into(), None).unwrap();
    }
    let topic = engine.topic(slot).unwrap();
    assert!(topic.cost() < full / 4 && topic.slack() < 20_000);
    assert!(topic.table() <= 8 * topic.messages() as usize + 64, "{}", topic.table());
}

#[test]
fn what_arrives_is_not_given_up_for_the_newest_messages_of_idle_topics() {
    let mut engine = engine(small());
    for n in 0..6_u64 {
        publish(&mut engine, n, &format!("idle/{n}"), &vec![n as u8; 150_000].into(), None)
            .unwrap();
    }
    let whole = Bytes::from(vec![9; 200_000]);
    let opening = UploadRequest { topic: "busy", size: 200_000, stamp: 0, origin: None };
    let Ok(BeginOutcome::Arriving(upload)) = engine.begin(10, &opening) else {
        panic!("it does not begin");
    };
    engine.append(upload, whole.slice(..100_000)).unwrap();
    // Not the newest of its topic any more.
    publish(&mut engine, 11, "busy", &payload(0), None).unwrap();
    engine.append(upload, whole.slice(100_000..)).unwrap();
    for n in 0..100 {
        publish(&mut engine, 12, "other", &payload(4 + 8 * n), None).unwrap();
    }
    let receipt = engine.end(13, upload, Digest::of(&whole)).unwrap();
    assert_eq!((receipt.sequence, receipt.count), (1, 1));
    engine.audit();
}

#[test]
fn what_arrives_side_by_side_on_one_topic_keeps_to_the_budget() {
    let mut engine = engine(small());
    let size = 200_000;
    let opening = UploadRequest { topic: "busy", size, stamp: 0, origin: None };
    let mut refused = 0;
    let mut uploads = Vec::new();
    for _ in 0..12 {
        let Ok(BeginOutcome::Arriving(upload)) = engine.begin(10, &opening) else {
            panic!("it does not begin");
        };
        uploads.push(upload);
    }
    for at in 0..20 {
        uploads.retain(|upload| {
            let appended = engine.append(*upload, vec![at; 10_000].into());
            assert!(engine.bytes() <= engine.limits().cache, "{}", engine.bytes());
            refused += usize::from(appended.is_err());
            appended.is_ok()
        });
    }
    // The oldest made room for the newest.
    assert!(uploads.len() >= 2, "{}", uploads.len());
    assert_eq!(uploads.len() + refused, 12);
    engine.audit();
}
