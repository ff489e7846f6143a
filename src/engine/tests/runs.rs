//! A client comes back in another run, and is told of what was not kept.

use super::{engine, publish, small};
use crate::engine::{BeginOutcome, Engine, Item, Limits, Record, SubscriptionId, UploadRequest};
use crate::wire::{Filter, GapCause, Had, Lag, Position, Resume, Start, TopicCursor};
use bytes::Bytes;

// The gap of what was lost, and the first sequence that follows.
fn resume(engine: &mut Engine, since: Position, at: TopicCursor) -> (Option<(u64, u64)>, u64) {
    let TopicCursor { epoch, next } = at;
    let topics = vec![Resume { topic: "a", epoch, next }];
    let start = Start::Resume { since, topics };
    let id = engine.subscribe(Filter::new("a").unwrap(), &start, Lag::Oldest);
    let (mut lost, mut first) = (None, 0);
    while engine
        .read(id, 1 << 20, &mut |item| match item {
            Item::Gap { first, last, cause: GapCause::Lost, .. } => lost = Some((first, last)),
            Item::Gap { first: gap, .. } if first == 0 => first = gap,
            Item::Message(message) if first == 0 => first = message.sequence(),
            _ => {}
        })
        .unwrap()
    {}
    engine.unsubscribe(id);
    (lost, first)
}

fn say(engine: &mut Engine, topic: &str, times: u32, size: usize) {
    for n in 0..times {
        let mut payload = vec![0; size];
        payload[..4].copy_from_slice(&n.to_le_bytes());
        publish(engine, 1, topic, &Bytes::from(payload), None).unwrap();
    }
}

// An engine that has only the first records, as after a kill; in its next run.
fn after_kill(records: &[Record], run: u64) -> Engine {
    let mut engine = engine(small());
    engine.begin_restoring();
    for (number, record) in (1..).zip(records) {
        assert!(engine.restore(number, record));
    }
    engine.end_restoring();
    engine.renew(run, false);
    engine.go_on();
    engine
}

fn recorded(engine: &mut Engine) -> Vec<Record> {
    let mut records = Vec::new();
    engine.take_records(&mut records);
    records
}

#[test]
fn what_is_lost_begins_where_the_run_ended_also_when_that_was_evicted() {
    let mut live = engine(small());
    live.make_records();
    say(&mut live, "a", 10, 10);
    let since = Position { run: live.run(), position: live.position() };
    let at = live.head("a").unwrap();
    let records = recorded(&mut live);
    let mut next = after_kill(&records[..7], 2_000_000);
    assert_eq!(resume(&mut next, since, at), (Some((8, 10)), 0));
    // Far more than the cache has room for.
    say(&mut next, "a", 300, 9000);
    let (lost, first) = resume(&mut next, since, at);
    assert_eq!((lost, first), (Some((8, 10)), 8));
    // A client that had received only what was kept.
    let at = TopicCursor { next: 8, ..at };
    assert_eq!(resume(&mut next, since, at), (None, 8));
}

#[test]
fn a_topic_that_was_not_kept_at_all_is_lost() {
    let (live, kept, since) = without_a();
    let at = live.head("a").unwrap();
    for others in [0, 3] {
        let mut next = after_kill(&kept, 2_000_000);
        // The same id, or another one.
        (0..others).for_each(|n| say(&mut next, &format!("x/{n}"), 1, 10));
        say(&mut next, "a", 5, 10);
        assert_eq!(resume(&mut next, since, at), (Some((1, 3)), 1));
        // An epoch that no run had.
        let other = TopicCursor { epoch: at.epoch + (1 << 40), ..at };
        assert_eq!(resume(&mut next, since, other), (None, 1));
    }
}

// An engine with three messages of `a`, its records without them, and its position.
fn without_a() -> (Engine, Vec<Record>, Position) {
    let mut live = engine(small());
    live.make_records();
    say(&mut live, "b", 2, 10);
    let kept = recorded(&mut live);
    say(&mut live, "a", 3, 10);
    let since = Position { run: live.run(), position: live.position() };
    (live, kept, since)
}

type Told = (String, u64, u64, Option<GapCause>);

fn message(topic: &str, sequence: u64) -> Told {
    (topic.to_owned(), sequence, sequence, None)
}

// Reads everything, or if the budget is one byte, one item.
fn told(engine: &mut Engine, id: SubscriptionId, budget: usize) -> Vec<Told> {
    let mut told = Vec::new();
    let mut see = |item: Item<'_>| match item {
        Item::Gap { first, last, cause, name, .. } => {
            told.push((name.to_string(), first, last, Some(cause)));
        }
        Item::Message(message) => {
            let sequence = message.sequence();
            told.push((message.topic().to_string(), sequence, sequence, None));
        }
        _ => {}
    };
    while engine.read(id, budget, &mut see).unwrap() && budget > 1 {}
    told
}

// The client comes back before anybody has published to the topic again: nothing was told, and the next message
// had a sequence that it knew.
#[test]
fn a_topic_that_was_not_kept_is_lost_when_it_exists_again() {
    let (live, kept, since) = without_a();
    let TopicCursor { epoch, next } = live.head("a").unwrap();
    let known = live.head("b").unwrap();
    for filter in ["a", "*"] {
        let mut engine = after_kill(&kept, 2_000_000);
        // The filters match no topic `x/a`, which was not kept either.
        let topics = vec![
            Resume { topic: "a", epoch, next },
            Resume { topic: "x/a", epoch: epoch + 1, next: 5 },
            Resume { topic: "b", epoch: known.epoch, next: known.next },
        ];
        let start = Start::Resume { since, topics };
        let id = engine.subscribe(Filter::new(filter).unwrap(), &start, Lag::Oldest);
        let read = |engine: &mut Engine| told(engine, id, 1 << 20);
        assert_eq!(read(&mut engine), [], "{filter}");
        // Others go on.
        say(&mut engine, "b", 1, 20);
        let others = if filter == "*" { vec![message("b", 3)] } else { Vec::new() };
        assert_eq!(read(&mut engine), others, "{filter}");
        say(&mut engine, "a", 2, 10);
        let gap = ("a".to_owned(), 1, 3, Some(GapCause::Lost));
        assert_eq!(read(&mut engine), [gap, message("a", 1), message("a", 2)], "{filter}");
        // It is told once.
        say(&mut engine, "a", 1, 20);
        assert_eq!(read(&mut engine), [message("a", 3)], "{filter}");
        assert_eq!(engine.budget().held(), 0);
        engine.unsubscribe(id);
        assert_eq!(engine.budget().held(), 0);
    }
}

// It was taken for one that was there, if it was published to while the client still read others.
#[test]
fn a_topic_that_exists_again_while_others_are_read_is_lost() {
    let (live, kept, since) = without_a();
    let TopicCursor { epoch, next } = live.head("a").unwrap();
    let mut engine = after_kill(&kept, 2_000_000);
    say(&mut engine, "c", 4, 10);
    // Also one that shows it any number of times holds it once.
    let topics = vec![Resume { topic: "a", epoch, next }; 60_000];
    let start = Start::Resume { since, topics };
    let id = engine.subscribe(Filter::new("**").unwrap(), &start, Lag::Oldest);
    assert_eq!(told(&mut engine, id, 1).first(), Some(&message("c", 1)));
    say(&mut engine, "a", 2, 10);
    let mut all = told(&mut engine, id, 1 << 20);
    all.retain(|(topic, ..)| topic == "a");
    let gap = ("a".to_owned(), 1, 3, Some(GapCause::Lost));
    assert_eq!(all, [gap, message("a", 1), message("a", 2)]);
    engine.unsubscribe(id);
    assert_eq!(engine.budget().held(), 0);
}

// The ranges that it had shown were forgotten with the first message of another topic.
#[test]
fn all_that_a_client_had_of_a_topic_is_lost_when_it_exists_again() {
    let (live, kept, since) = without_a();
    let TopicCursor { epoch, .. } = live.head("a").unwrap();
    let mut engine = after_kill(&kept, 2_000_000);
    let topics = vec![Resume { topic: "a", epoch, next: 1 }];
    let had = vec![Had { topic: 0, ranges: vec![(1, 2)] }];
    let start = Start::ResumeWith { since, topics, had };
    let id = engine.subscribe(Filter::new("**").unwrap(), &start, Lag::Oldest);
    assert_eq!(told(&mut engine, id, 1 << 20), []);
    say(&mut engine, "b", 1, 20);
    assert_eq!(told(&mut engine, id, 1 << 20), [message("b", 3)]);
    say(&mut engine, "a", 1, 10);
    let gap = ("a".to_owned(), 1, 3, Some(GapCause::Lost));
    assert_eq!(told(&mut engine, id, 1 << 20), [gap, message("a", 1)]);
    say(&mut engine, "b", 1, 30);
    assert_eq!(told(&mut engine, id, 1 << 20), [message("b", 4)]);
    assert_eq!(engine.budget().held(), 0, "nothing is kept any more");
    engine.unsubscribe(id);
}

// The sum of two such claims ended the daemon.
#[test]
fn a_client_may_claim_any_sequence() {
    let (live, kept, since) = without_a();
    let TopicCursor { epoch, .. } = live.head("a").unwrap();
    let mut engine = after_kill(&kept, 2_000_000);
    say(&mut engine, "a", 1, 10);
    for _ in 0..3 {
        let topics = vec![Resume { topic: "a", epoch, next: u64::MAX }];
        let start = Start::Resume { since, topics };
        let id = engine.subscribe(Filter::new("a").unwrap(), &start, Lag::Oldest);
        let gap = ("a".to_owned(), 1, u64::MAX - 1, Some(GapCause::Lost));
        assert_eq!(told(&mut engine, id, 1 << 20), [gap, message("a", 1)]);
        engine.unsubscribe(id);
    }
}

#[test]
fn what_is_missing_between_others_is_told() {
    let mut live = engine(small());
    live.make_records();
    say(&mut live, "a", 10, 10);
    let since = Position { run: live.run(), position: live.position() };
    let at = live.head("a").unwrap();
    let mut next = engine(small());
    next.begin_restoring();
    for (number, record) in (1..).zip(recorded(&mut live)) {
        if !(4..7).contains(&number) {
            assert!(next.restore(number, &record));
        }
    }
    next.end_restoring();
    let past = next.renew(2_000_000, true);
    next.go_on();
    assert_eq!(past.through, 3);
    // Those before the hole are still there.
    assert_eq!(resume(&mut next, since, TopicCursor { next: 1, ..at }).1, 1);
    assert!(next.get("a", crate::wire::Which::Sequence(3)).is_ok());
    assert_eq!(resume(&mut next, since, at), (Some((4, 10)), 4));
}

// A large message was shown complete, and its end was not kept. It is known as torn, also after further
// restarts, and only of the run that had shown it.
#[test]
fn a_message_without_its_end_is_torn() {
    let mut live = engine(small());
    live.make_records();
    say(&mut live, "a", 2, 10);
    let upload = UploadRequest { topic: "a", size: 70_000, stamp: 0, origin: None };
    assert!(matches!(live.begin(1, &upload), Ok(BeginOutcome::Arriving(_))));
    say(&mut live, "a", 2, 10);
    let (first, records) = (live.run(), recorded(&mut live));
    let mut next = after_kill(&records, 2_000_000);
    let torn = |engine: &Engine, run| {
        let torn = engine.torn_in(run)?;
        let places = torn.known.iter().map(|torn| (torn.topic.1, torn.sequence, torn.position));
        Some((places.collect::<Vec<_>>(), torn.more))
    };
    for run in [3_000_000, 4_000_000, 5_000_000] {
        assert_eq!(torn(&next, first), Some((vec![(1, 3, 3)], 0)));
        assert_eq!(torn(&next, next.run()), None);
        say(&mut next, "a", 1, 10);
        next.renew(run, false);
        next.go_on();
    }
    assert_eq!(torn(&next, 2_000_000), None);
    // There is a limit to what is known of them.
    let mut live = engine(small().with_cache(64 << 20));
    live.make_records();
    let _ = live.begin(1, &upload).unwrap();
    for _ in 0..1200 {
        let BeginOutcome::Arriving(upload) = live.begin(1, &upload).unwrap() else {
            panic!("it is new");
        };
        live.abort(upload);
    }
    let (first, records) = (live.run(), recorded(&mut live));
    let next = after_kill(&records, 2_000_000);
    let torn = next.torn_in(first).unwrap();
    assert_eq!((torn.known.len(), torn.more), (1024, 177));
}

// A daemon was killed while a large message arrived. The messages after it were kept, and clients had
// received them in any order: they were told that all of these were lost, and received them again.
#[test]
fn what_was_kept_after_a_torn_message_is_not_lost() {
    let mut live = engine(small());
    live.make_records();
    say(&mut live, "a", 1, 10);
    let upload = UploadRequest { topic: "a", size: 70_000, stamp: 0, origin: None };
    live.begin(1, &upload).unwrap();
    say(&mut live, "a", 5, 10);
    let since = Position { run: live.run(), position: live.position() };
    let (epoch, kept) = (live.head("a").unwrap().epoch, recorded(&mut live));
    say(&mut live, "a", 1, 20);
    let mut next = after_kill(&kept, 2_000_000);
    let mut told = |next_sequence, had: &[(u64, u64)]| {
        let topics = vec![Resume { topic: "a", epoch, next: next_sequence }];
        let had = vec![Had::new(0, next_sequence, had)];
        let start = Start::ResumeWith { since, topics, had };
        let id = next.subscribe(Filter::new("a").unwrap(), &start, Lag::Oldest);
        let mut told = Vec::new();
        let mut see = |item: Item<'_>| match item {
            Item::Gap { first, last, cause, .. } => told.push(format!("{cause:?} {first}-{last}")),
            Item::Message(message) => told.push(format!("{}", message.sequence())),
            _ => {}
        };
        while next.read(id, 1 << 20, &mut see).unwrap() {}
        next.unsubscribe(id);
        told
    };
    // It had not received the large one.
    assert_eq!(told(2, &[(3, 7)]), ["Aborted 2-2", "Had 3-7"]);
    assert_eq!(
        told(2, &[(4, 4), (8, 8)]),
        ["Lost 8-8", "Aborted 2-2", "3", "Had 4-4", "5", "6", "7"]
    );
    assert_eq!(told(2, &[]), ["Aborted 2-2", "3", "4", "5", "6", "7"]);
    // It had, so that it begins there again.
    assert_eq!(told(8, &[]), ["Lost 2-7", "Aborted 2-2", "3", "4", "5", "6", "7"]);
}

#[test]
fn a_producer_that_was_forgotten_may_begin_anew_also_after_a_restart() {
    let one = Limits { producers: 1, ..small() };
    let mut live = Engine::new(one, 1_000_000, [7; 32]);
    live.make_records();
    let mut number = 0_u8;
    let mut say = |live: &mut Engine, producer, n| {
        number = number.wrapping_add(1);
        let payload = Bytes::from(vec![number; 10]);
        publish(live, 1, "a", &payload, Some((producer, n))).unwrap().duplicate
    };
    for (producer, n) in [(1, 1), (1, 2), (1, 3), (2, 1), (1, 1), (1, 2)] {
        assert!(!say(&mut live, producer, n));
    }
    // One that remembers more.
    let mut next = after_kill(&recorded(&mut live), 2_000_000);
    assert!(say(&mut next, 1, 2));
    // As many as a window has: none of them is taken for one of before.
    assert!((3..1500).all(|n| !say(&mut next, 1, n)));
    next.audit();
}
