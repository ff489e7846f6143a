//! Topic rules: each rule by itself. [`world`] has all of them together.

mod bounds;
mod expiry;
mod limits;
mod restarts;
mod world;

use super::{engine, publish, small};
use crate::engine::{
    BeginOutcome, Engine, Item, Keep, LargePayloads, Limits, PublicationId, ReadOptions, Repaired,
    SubscriptionId, TopicRule, TopicRules, UploadId, UploadRequest,
};
use crate::wire::{Code, Digest, Lag, Position, ProducerId, Resume, Start, Which};
use bytes::Bytes;
use core::time::Duration;
use std::num::NonZeroU64;

/// A second, in the engine's time.
const SECOND: u64 = 1_000_000;

/// The time at which these tests begin.
const BEGIN: u64 = 1_000 * SECOND;

/// After this, messages are not held any more.
const LATER: u64 = BEGIN + 6 * SECOND;

fn rule(filter: &str) -> TopicRule {
    TopicRule::new(filter.parse().unwrap())
}

fn newest(most: u64) -> Keep {
    Keep::Newest(NonZeroU64::new(most).unwrap())
}

fn seconds(ttl: u64) -> Duration {
    Duration::from_secs(ttl)
}

fn with_rules(limits: Limits, rules: impl IntoIterator<Item = TopicRule>) -> Engine {
    engine(limits).with_topic_rules(TopicRules::new(rules).unwrap())
}

// An engine with a rule for "a".
fn ruled(of: impl FnOnce(TopicRule) -> TopicRule) -> Engine {
    with_rules(Limits::default(), [of(rule("a"))])
}

fn small_payload(n: u64) -> Bytes {
    n.to_string().into()
}

// Publishes small messages with these numbers as payloads.
fn fill(engine: &mut Engine, now: u64, topic: &str, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        publish(engine, now, topic, &small_payload(n), None).unwrap();
    }
}

fn begin(engine: &mut Engine, start: &Start<'_>, lag: Lag) -> SubscriptionId {
    engine.subscribe("**".parse().unwrap(), start, lag)
}

// Drops all that is due.
fn sweep(engine: &mut Engine, now: u64) {
    while engine.expire(now) {}
    audit(engine);
}

fn audit(engine: &mut Engine) {
    engine.take_wakes(&mut Vec::new());
    engine.audit();
}

fn read_as(engine: &mut Engine, id: SubscriptionId, large: LargePayloads) -> Vec<String> {
    let mut seen = Vec::new();
    let options = ReadOptions { large, ..(1 << 20).into() };
    let sink = &mut |item: Item<'_>| match item {
        Item::Topic { .. } | Item::Chunk(_) => {}
        Item::Message(message) | Item::Large(message) => seen.push(message.sequence().to_string()),
        Item::Gap { first, last, cause, .. } => seen.push(format!("{cause:?} {first}-{last}")),
        Item::Begin(message) => seen.push(format!("begin {}", message.sequence())),
        Item::End { .. } => seen.push("end".into()),
        Item::Abort { code } => seen.push(code.name().into()),
    };
    while engine.read(id, options, sink).unwrap() {}
    audit(engine);
    seen
}

// Reads all that there is, and returns it in short.
fn read(engine: &mut Engine, id: SubscriptionId) -> Vec<String> {
    read_as(engine, id, LargePayloads::WhenComplete)
}

// Returns the messages that a new subscription receives.
fn replay(engine: &mut Engine, start: &Start<'_>) -> Vec<String> {
    let id = begin(engine, start, Lag::Oldest);
    let seen = read(engine, id);
    engine.unsubscribe(id);
    seen
}

// Repairs in short.
fn repair(engine: &mut Engine, id: SubscriptionId, first: u64, last: u64) -> Vec<String> {
    let mut seen = Vec::new();
    engine.repair(id, 1, (first, last), 1 << 20, &mut |item| {
        seen.push(match item {
            Repaired::Message(message) | Repaired::Large(message) => message.sequence().to_string(),
            Repaired::NotCached { first, last, cause } => format!("{cause:?} {first}-{last}"),
        });
    });
    seen
}

fn get(engine: &mut Engine, which: Which) -> Result<u64, Code> {
    engine.get("a", which).map(|found| found.sequence()).map_err(|refusal| refusal.code)
}

fn digest(n: u64) -> Digest {
    Digest::of(&small_payload(n))
}

fn resume(engine: &Engine, next: u64) -> Start<'static> {
    let since = Position { run: engine.run(), position: 0 };
    Start::Resume { since, topics: vec![Resume { topic: "a", epoch: engine.run(), next }] }
}

fn upload(engine: &mut Engine, now: u64, number: u64, size: usize) -> UploadId {
    let origin = Some(PublicationId { producer: ProducerId([9; 16]), number });
    let request = UploadRequest { topic: "a", size: size as u64, stamp: 0, origin };
    let Ok(BeginOutcome::Arriving(id)) = engine.begin(now, &request) else { panic!("refused") };
    id
}

// All of the payload, in chunks.
fn send(engine: &mut Engine, id: UploadId, payload: &Bytes) {
    for chunk in payload.chunks(60_000) {
        engine.append(id, Bytes::copy_from_slice(chunk)).unwrap();
    }
}

fn large(n: u8) -> Bytes {
    vec![n; 100_000].into()
}

#[test]
fn newcomers_get_the_newest_and_those_who_are_there_get_all() {
    let mut engine = ruled(|rule| rule.with_keep(newest(3)));
    let live = begin(&mut engine, &Start::New, Lag::Oldest);
    let slow = begin(&mut engine, &Start::New, Lag::Oldest);
    fill(&mut engine, BEGIN, "a", 1..=10);
    assert_eq!(replay(&mut engine, &Start::All), ["8", "9", "10"]);
    assert_eq!(replay(&mut engine, &Start::Last(2)), ["9", "10"]);
    assert_eq!(replay(&mut engine, &Start::Last(9)), ["8", "9", "10"]);
    assert_eq!(replay(&mut engine, &Start::Latest), ["10"]);
    assert_eq!(replay(&mut engine, &Start::Sequence(2)), ["Evicted 2-7", "8", "9", "10"]);
    let from = resume(&engine, 5);
    assert_eq!(replay(&mut engine, &from), ["Evicted 5-7", "8", "9", "10"]);
    let from = Start::Resume { since: Position { run: engine.run(), position: 6 }, topics: vec![] };
    assert_eq!(replay(&mut engine, &from), ["Evicted 7-7", "8", "9", "10"]);
    assert_eq!(read(&mut engine, live), (1..=10).map(|n| n.to_string()).collect::<Vec<_>>());
    // One who is still there after the time for which messages are held has missed them.
    sweep(&mut engine, LATER);
    assert_eq!(read(&mut engine, slow), ["Evicted 1-7", "8", "9", "10"]);
    assert_eq!(engine.topic(0).unwrap().messages(), 3);
    // A topic without a rule keeps all.
    fill(&mut engine, BEGIN, "b", 1..=10);
    sweep(&mut engine, LATER);
    assert_eq!(engine.topic(1).unwrap().messages(), 10);
}

#[test]
fn what_is_not_kept_is_not_got() {
    let mut engine = ruled(|rule| rule.with_keep(newest(3)));
    fill(&mut engine, BEGIN, "a", 1..=10);
    for now in [BEGIN, LATER] {
        engine.tell_time(now);
        assert_eq!(get(&mut engine, Which::Latest), Ok(10));
        assert_eq!(get(&mut engine, Which::Sequence(8)), Ok(8));
        assert_eq!(get(&mut engine, Which::Sequence(7)), Err(Code::EVICTED));
        assert_eq!(get(&mut engine, Which::Digest(digest(8))), Ok(8));
        assert_eq!(get(&mut engine, Which::Digest(digest(7))), Err(Code::EVICTED));
        let payloads = engine.top("a", 100).unwrap();
        let cached = payloads.iter().filter(|ranked| ranked.payload.is_some());
        let mut cached: Vec<_> = cached.map(|ranked| ranked.sequence).collect();
        cached.sort_unstable();
        assert_eq!((payloads.len(), &cached[..]), (10, &[8, 9, 10][..]));
        sweep(&mut engine, LATER);
    }
    // To look it up does not make it stay.
    fill(&mut engine, LATER, "a", [11]);
    sweep(&mut engine, LATER + 6 * SECOND);
    assert_eq!(get(&mut engine, Which::Digest(digest(8))), Err(Code::EVICTED));
    assert_eq!(engine.topic(0).unwrap().payloads().len(), 3);
}

#[test]
fn counts_outlive_what_is_dropped() {
    for keep in [Keep::None, Keep::LATEST, newest(2)] {
        let mut engine = ruled(|rule| rule.with_keep(keep).with_ttl(seconds(3)));
        for round in 1..=4_u64 {
            let now = BEGIN + round * 100 * SECOND;
            for n in 1..=20 {
                let receipt = publish(&mut engine, now, "a", &small_payload(n), None).unwrap();
                assert_eq!((receipt.count, receipt.since), (round, 0));
                assert_eq!(receipt.sequence, (round - 1) * 20 + n);
            }
            sweep(&mut engine, now + 50 * SECOND);
            assert_eq!(engine.topic(0).unwrap().messages(), 0, "{keep:?}");
            assert_eq!(engine.top("a", 1).unwrap()[0].count, round);
        }
    }
}

#[test]
fn nothing_is_kept_of_what_is_only_relayed() {
    let mut engine = ruled(|rule| rule.with_keep(Keep::None));
    let live = begin(&mut engine, &Start::New, Lag::Oldest);
    fill(&mut engine, BEGIN, "a", 1..=3);
    for start in [Start::All, Start::Latest, Start::Last(5), Start::New] {
        assert_eq!(replay(&mut engine, &start), [""; 0], "{start:?}");
    }
    assert_eq!(replay(&mut engine, &Start::Sequence(1)), ["Evicted 1-3"]);
    let from = resume(&engine, 2);
    assert_eq!(replay(&mut engine, &from), ["Evicted 2-3"]);
    let lagging = begin(&mut engine, &from, Lag::Disconnect);
    let refused = engine.read(lagging, 1 << 20, &mut |_| panic!("nothing comes"));
    assert_eq!(refused.unwrap_err().code, Code::LAGGED);
    for which in [Which::Latest, Which::Sequence(3), Which::Digest(digest(3))] {
        assert_eq!(get(&mut engine, which), Err(Code::EVICTED));
    }
    assert!(engine.top("a", 9).unwrap().iter().all(|ranked| ranked.payload.is_none()));
    // One that comes now gets what comes from now on.
    let late = begin(&mut engine, &Start::All, Lag::Oldest);
    fill(&mut engine, BEGIN, "a", [4]);
    assert_eq!(read(&mut engine, late), ["4"]);
    assert_eq!(read(&mut engine, live), ["1", "2", "3", "4"]);
    fill(&mut engine, BEGIN, "a", 5..=6);
    sweep(&mut engine, LATER);
    assert_eq!(read(&mut engine, live), ["Evicted 5-6"]);
    assert!(engine.topic(0).unwrap().is_empty());
}

#[test]
fn what_was_lost_on_the_way_is_repaired_while_it_is_held() {
    for keep in [Keep::None, Keep::LATEST] {
        let mut engine = ruled(|rule| rule.with_keep(keep));
        fill(&mut engine, BEGIN, "a", [1]);
        let from = resume(&engine, 1);
        let id = begin(&mut engine, &from, Lag::Oldest);
        fill(&mut engine, BEGIN, "a", 2..=5);
        let seen = read_as(&mut engine, id, LargePayloads::AnnounceOnly);
        let first = if keep == Keep::None { "Evicted 1-1" } else { "1" };
        assert_eq!(seen, [first, "2", "3", "4", "5"]);
        sweep(&mut engine, BEGIN + 4 * SECOND);
        assert_eq!(repair(&mut engine, id, 2, 4), ["2", "3", "4"]);
        // It has lost nothing that was never sent to it.
        if keep == Keep::None {
            assert_eq!(repair(&mut engine, id, 1, 2), ["Evicted 1-1", "2"]);
        }
        sweep(&mut engine, LATER);
        assert_eq!(repair(&mut engine, id, 2, 4), ["Evicted 2-4"]);
    }
}

#[test]
fn large_payloads_are_held_until_they_were_read() {
    let mut engine = ruled(|rule| rule.with_keep(Keep::None));
    let chunks = begin(&mut engine, &Start::New, Lag::Oldest);
    let whole = begin(&mut engine, &Start::New, Lag::Oldest);
    // Slower than anything is held.
    let id = upload(&mut engine, BEGIN, 1, 100_000);
    engine.append(id, large(1).slice(..60_000)).unwrap();
    assert_eq!(read_as(&mut engine, chunks, LargePayloads::InChunks), ["begin 1"]);
    // It was there before these.
    for start in [Start::All, Start::Latest] {
        assert_eq!(replay(&mut engine, &start), [""; 0]);
    }
    let late = begin(&mut engine, &Start::Sequence(1), Lag::Oldest);
    assert_eq!(read_as(&mut engine, late, LargePayloads::InChunks), ["Evicted 1-1"]);
    let ended = BEGIN + 60 * SECOND;
    sweep(&mut engine, ended);
    engine.append(id, large(1).slice(60_000..)).unwrap();
    engine.end(ended, id, Digest::of(&large(1))).unwrap();
    sweep(&mut engine, ended + SECOND);
    assert_eq!(read_as(&mut engine, chunks, LargePayloads::InChunks), ["end"]);
    assert_eq!(read(&mut engine, whole), ["1"]);
    assert!(engine.follow(1, 1).is_ok());
    sweep(&mut engine, ended + 6 * SECOND);
    assert!(engine.topic(0).unwrap().is_empty());
}

// A publisher that aborts takes no place away: what is kept are messages.
#[test]
fn aborted_messages_do_not_count_among_the_newest() {
    let mut engine = ruled(|rule| rule.with_keep(newest(2)));
    fill(&mut engine, BEGIN, "a", 1..=2);
    for number in 1..=200 {
        let id = upload(&mut engine, BEGIN, number, 100_000);
        engine.abort(id);
    }
    let seen = replay(&mut engine, &Start::All);
    assert_eq!(seen, ["1", "2", "Aborted 3-202"]);
    fill(&mut engine, BEGIN, "a", 3..=4);
    // The search for the first to be kept goes in portions.
    sweep(&mut engine, LATER);
    assert_eq!(replay(&mut engine, &Start::All), ["203", "204"]);
    assert_eq!(engine.topic(0).unwrap().messages(), 2);
    // Those that still arrive count once they are complete.
    let id = upload(&mut engine, LATER, 201, 100_000);
    assert_eq!(get(&mut engine, Which::Sequence(203)), Ok(203));
    send(&mut engine, id, &large(2));
    engine.end(LATER, id, Digest::of(&large(2))).unwrap();
    assert_eq!(get(&mut engine, Which::Sequence(203)), Err(Code::EVICTED));
    assert_eq!(replay(&mut engine, &Start::All), ["204", "205"]);
}
