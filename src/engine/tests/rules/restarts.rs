//! A restart, with the same rules or with others.

use super::*;
use crate::engine::{Capture, Part, Record};

// A snapshot, and the records after it.
struct Kept {
    parts: Vec<Part>,
    records: Vec<(u64, Record)>,
}

fn snapshot(engine: &mut Engine) -> Vec<Part> {
    let mut capture = Capture::new();
    std::iter::from_fn(|| engine.capture(&mut capture)).collect()
}

fn records(engine: &mut Engine) -> Vec<(u64, Record)> {
    let mut records = Vec::new();
    engine.take_records(&mut records);
    let first = engine.recorded() + 1 - records.len() as u64;
    (first..).zip(records).collect()
}

fn restored(kept: &Kept, rules: impl IntoIterator<Item = TopicRule>) -> Engine {
    let mut engine = with_rules(Limits::default(), rules);
    engine.begin_restoring();
    for part in &kept.parts {
        assert!(engine.restore_part(part.clone()), "{part:?} does not fit");
    }
    for (number, record) in &kept.records {
        assert!(engine.restore(*number, record), "{record:?} does not fit");
    }
    engine.end_restoring();
    engine.make_records();
    engine.audit();
    engine
}

fn payloads(parts: &[Part]) -> usize {
    let complete = |message: &crate::engine::SavedMessage| {
        matches!(message.body, crate::engine::SavedBody::Complete(..))
    };
    let of = |part: &Part| match part {
        Part::Messages { messages, .. } => messages.iter().filter(|m| complete(m)).count(),
        _ => 0,
    };
    parts.iter().map(of).sum()
}

// The ten messages "1" to "10", before and after a snapshot.
fn ten(of: impl FnOnce(TopicRule) -> TopicRule) -> (Engine, Kept) {
    let mut engine = ruled(of);
    engine.make_records();
    fill(&mut engine, BEGIN, "a", 1..=5);
    records(&mut engine);
    let parts = snapshot(&mut engine);
    fill(&mut engine, BEGIN + SECOND, "a", 6..=10);
    let records = records(&mut engine);
    (engine, Kept { parts, records })
}

#[test]
fn the_time_of_a_message_goes_on_over_a_restart() {
    let (_, kept) = ten(|rule| rule.with_ttl(seconds(10)));
    let mut engine = restored(&kept, [rule("a").with_ttl(seconds(10))]);
    engine.tell_time(BEGIN + 10 * SECOND - 1);
    assert_eq!(replay(&mut engine, &Start::All).len(), 10);
    engine.tell_time(BEGIN + 10 * SECOND);
    assert_eq!(replay(&mut engine, &Start::All), ["6", "7", "8", "9", "10"]);
    sweep(&mut engine, BEGIN + 11 * SECOND);
    assert_eq!(replay(&mut engine, &Start::Sequence(1)), ["Expired 1-10"]);
    let receipt = publish(&mut engine, BEGIN + 11 * SECOND, "a", &small_payload(1), None);
    assert_eq!(receipt.map(|receipt| (receipt.sequence, receipt.count)), Ok((11, 2)));
}

// A smaller `keep` shows at once, and what it drops goes in portions.
#[test]
fn other_rules_apply_to_what_is_there() {
    let none: fn(TopicRule) -> TopicRule = |rule| rule;
    for before in [none, |rule| rule.with_keep(newest(7)), |rule| rule.with_ttl(seconds(60))] {
        let (_, kept) = ten(before);
        let mut engine = restored(&kept, [rule("a").with_keep(newest(3))]);
        engine.tell_time(BEGIN + 2 * SECOND);
        assert_eq!(replay(&mut engine, &Start::All), ["8", "9", "10"]);
        assert_eq!(replay(&mut engine, &Start::Sequence(5)), ["Evicted 5-7", "8", "9", "10"]);
        let live = begin(&mut engine, &Start::New, Lag::Oldest);
        fill(&mut engine, BEGIN + 2 * SECOND, "a", 11..=15);
        assert_eq!(read(&mut engine, live).len(), 5);
        sweep(&mut engine, BEGIN + 10 * SECOND);
        assert_eq!(engine.topic(0).unwrap().messages(), 3);
        // And without rules, the rest is as it was.
        let mut engine = restored(&kept, []);
        fill(&mut engine, BEGIN + 2 * SECOND, "a", [11]);
        let seen = replay(&mut engine, &Start::All);
        assert_eq!(seen.last().map(String::as_str), Some("11"));
        assert!(seen.len() >= 6, "{seen:?}");
    }
    // A hundred thousand messages.
    let mut engine = ruled(none);
    engine.make_records();
    fill(&mut engine, BEGIN, "a", 1..=100_000);
    let kept = Kept { parts: snapshot(&mut engine), records: Vec::new() };
    let mut engine = restored(&kept, [rule("a").with_keep(Keep::LATEST)]);
    assert_eq!(replay(&mut engine, &Start::All), ["100000"]);
    engine.begin_work();
    assert!(engine.expire(LATER));
    assert!(engine.work <= engine.portions.evictions + 1, "{}", engine.work);
    sweep(&mut engine, LATER);
    assert_eq!(engine.topic(0).unwrap().messages(), 1);
}

#[test]
fn those_who_resume_after_a_restart_are_told_what_is_not_kept() {
    for (keep, most) in [(Keep::None, 0), (newest(2), 2)] {
        let with = |rule: TopicRule| rule.with_keep(keep);
        let (mut engine, kept) = ten(with);
        // The held messages are dropped, and are in no snapshot.
        sweep(&mut engine, LATER + SECOND);
        let parts = snapshot(&mut engine);
        assert_eq!(payloads(&parts), most);
        let again = Kept { parts, records: Vec::new() };
        for kept in [kept, again] {
            let mut engine = restored(&kept, [with(rule("a"))]);
            engine.tell_time(BEGIN + SECOND);
            let rest = if most == 2 { &["9", "10"][..] } else { &[] };
            assert_eq!(replay(&mut engine, &Start::All), rest);
            // By its place, and by the position of the last message that it has.
            let gap = format!("Evicted 4-{}", 10 - most);
            let expected = [&[&*gap], rest].concat();
            let from = resume(&engine, 4);
            assert_eq!(replay(&mut engine, &from), expected);
            let since = Position { run: engine.run(), position: 3 };
            let seen = replay(&mut engine, &Start::Resume { since, topics: vec![] });
            // Or the gap begins earlier, where it is not known which messages came after it.
            let end = seen[0].rsplit('-').next().map(str::to_owned);
            assert_eq!(end, Some((10 - most).to_string()), "{seen:?}");
            assert_eq!(&seen[1..], rest);
            let next = publish(&mut engine, LATER, "a", &small_payload(10), None).unwrap();
            assert_eq!((next.sequence, next.count), (11, 2));
        }
    }
}

// The messages of a topic leave its log between two parts of a snapshot.
#[test]
fn what_is_dropped_while_a_snapshot_is_taken_is_told_too() {
    for keep in [Keep::None, Keep::LATEST] {
        let mut engine = ruled(|rule| rule.with_keep(keep));
        engine.make_records();
        fill(&mut engine, BEGIN, "a", 1..=5);
        records(&mut engine);
        let mut capture = Capture::new();
        let mut parts: Vec<_> = (0..2).filter_map(|_| engine.capture(&mut capture)).collect();
        assert!(matches!(parts.last(), Some(Part::Topic(_))));
        fill(&mut engine, LATER, "a", 6..=7);
        sweep(&mut engine, LATER);
        parts.extend(std::iter::from_fn(|| engine.capture(&mut capture)));
        let kept = Kept { parts, records: records(&mut engine) };
        let mut engine = restored(&kept, [rule("a").with_keep(keep)]);
        engine.tell_time(LATER);
        let since = Position { run: engine.run(), position: 3 };
        let seen = replay(&mut engine, &Start::Resume { since, topics: vec![] });
        let rest = if keep == Keep::None { vec![] } else { vec!["7".to_owned()] };
        let last = 7 - rest.len();
        assert!(seen[0].ends_with(&format!("-{last}")), "{seen:?}");
        assert_eq!(&seen[1..], rest);
    }
}

// The log says nothing of rules: whoever restores from it has the same sequences, counts and receipts,
// whatever is kept there.
#[test]
fn engines_with_other_rules_agree_on_the_same_records() {
    let all: [fn(TopicRule) -> TopicRule; 5] = [
        |rule| rule,
        |rule| rule.with_keep(Keep::None),
        |rule| rule.with_keep(newest(4)).with_ttl(seconds(1)),
        |rule| rule.with_rate(std::num::NonZeroU32::MIN).with_payload(1),
        |rule| rule.with_ttl(seconds(3)),
    ];
    let mut leader = ruled(all[0]);
    leader.make_records();
    for n in 0..500_u64 {
        let origin = Some((1 + (n % 3) as u8, n / 3 + 1));
        let payload = small_payload(n * n % 17);
        publish(&mut leader, BEGIN + n * 20_000, "a", &payload, origin).unwrap();
    }
    let id = upload(&mut leader, BEGIN, 1, 100_000);
    send(&mut leader, id, &large(1));
    leader.end(BEGIN + 10 * SECOND, id, Digest::of(&large(1))).unwrap();
    let kept = Kept { parts: Vec::new(), records: records(&mut leader) };
    let mut engines: Vec<_> = all.map(|of| restored(&kept, [of(rule("a"))])).into();
    engines.push(leader);
    let now = BEGIN + 12 * SECOND;
    let tops: Vec<_> = engines
        .iter_mut()
        .map(|engine| {
            sweep(engine, now);
            let top = engine.top("a", 100).unwrap().into_iter();
            let mut top: Vec<_> = top.map(|r| (r.count, r.digest, r.sequence, r.size)).collect();
            top.sort_unstable();
            top
        })
        .collect();
    assert!(tops.iter().all(|top| *top == tops[0]));
    // Repeated, each is answered: with its sequence where that is still there.
    for engine in &mut engines {
        for n in 0..500_u64 {
            let origin = Some((1 + (n % 3) as u8, n / 3 + 1));
            let receipt = publish(engine, now, "a", &small_payload(n * n % 17), origin).unwrap();
            assert!(receipt.duplicate && [0, n + 1].contains(&receipt.sequence));
        }
    }
    // The one that would refuse some of these is left out.
    engines.remove(3);
    for n in 0..17 {
        let once =
            |engine: &mut Engine| publish(engine, now, "a", &small_payload(n), None).unwrap();
        let receipts: Vec<_> = engines.iter_mut().map(once).collect();
        assert!(receipts.iter().all(|receipt| *receipt == receipts[0]), "{receipts:?}");
    }
}
