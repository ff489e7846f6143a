//! Subscriptions that show, as they resume, what they have received above the lowest hole.

use super::{SMALLEST, engine, payload, publish, small};
use crate::engine::{
    BeginOutcome, Engine, Item, LargePayloads, Limits, ReadOptions, Repaired, SubscriptionId,
    UploadRequest,
};
use crate::wire::{Code, Digest, GapCause, Had, Lag, MAX_HAD, Position, Resume, Start};
use bytes::Bytes;
use std::collections::BTreeMap;

fn start<'a>(
    engine: &Engine,
    topic: &'a str,
    (epoch, next): (u64, u64),
    had: &[(u64, u64)],
) -> Start<'a> {
    Start::ResumeWith {
        since: Position { run: engine.run(), position: 0 },
        topics: vec![Resume { topic, epoch, next }],
        had: vec![Had::new(0, next, had)],
    }
}

fn begin(engine: &mut Engine, filter: &str, start: &Start<'_>, lag: Lag) -> SubscriptionId {
    engine.subscribe(filter.parse().unwrap(), start, lag)
}

// Reads all that there is, and returns it in short.
fn read(engine: &mut Engine, id: SubscriptionId, large: LargePayloads) -> Vec<String> {
    let mut seen = Vec::new();
    let options = ReadOptions { large, ..(1 << 20).into() };
    let sink = &mut |item: Item<'_>| {
        seen.push(match item {
            Item::Topic { next, .. } => format!("from {next}"),
            Item::Message(message) | Item::Large(message) => message.sequence().to_string(),
            Item::Gap { first, last, cause, .. } => format!("{cause:?} {first}-{last}"),
            Item::Begin(message) => format!("begin {}", message.sequence()),
            Item::Chunk(_) => "chunk".into(),
            Item::End { .. } => "end".into(),
            Item::Abort { code } => format!("{code:?}"),
        });
    };
    while engine.read(id, options, sink).unwrap() {}
    seen
}

fn read_whole(engine: &mut Engine, id: SubscriptionId) -> Vec<String> {
    read(engine, id, LargePayloads::WhenComplete)
}

fn fill(engine: &mut Engine, topic: &str, messages: u32) {
    for n in 0..messages {
        publish(engine, 1, topic, &payload(8 * n), None).unwrap();
    }
}

fn epoch(engine: &Engine, topic: &str) -> u64 {
    engine.topic(engine.slot(topic).unwrap()).unwrap().epoch()
}

#[test]
fn what_was_shown_is_not_sent_again() {
    let mut engine = engine(small());
    fill(&mut engine, "a", 12);
    let epoch = epoch(&engine, "a");
    let start = start(&engine, "a", (epoch, 3), &[(5, 6), (8, 8), (11, 40)]);
    for filter in ["a", "**"] {
        let id = begin(&mut engine, filter, &start, Lag::Oldest);
        let expected = ["from 3", "3", "4", "Had 5-6", "7", "Had 8-8", "9", "10", "Had 11-12"];
        assert_eq!(read_whole(&mut engine, id), expected);
        let stats = engine.subscription_stats(id).unwrap();
        assert_eq!((stats.messages, stats.skips.total()), (0, 0));
        engine.unsubscribe(id);
    }
    // Sequences that were not accepted when it began are new, whatever the client has shown.
    let id = begin(&mut engine, "a", &start, Lag::Oldest);
    fill(&mut engine, "a", 2);
    assert_eq!(read_whole(&mut engine, id)[8..], ["Had 11-12", "13", "14"]);
}

#[test]
fn the_backlog_is_what_is_still_to_come() {
    let mut engine = engine(small());
    fill(&mut engine, "a", 10);
    let epoch = epoch(&engine, "a");
    let start = start(&engine, "a", (epoch, 3), &[(5, 6), (8, 100)]);
    let id = begin(&mut engine, "a", &start, Lag::Oldest);
    let stats = engine.subscription_stats(id).unwrap();
    assert_eq!((stats.messages, stats.bytes), (3, 30));
}

#[test]
fn a_gap_is_cut_around_what_was_shown() {
    let mut engine = engine(small());
    fill(&mut engine, "a", 10);
    let epoch = epoch(&engine, "a");
    // Large ones push these out, all but the newest of them.
    (0..20).for_each(|n| drop(publish(&mut engine, 1, "a", &payload(7 + 8 * n), None)));
    let first = engine.topic(engine.slot("a").unwrap()).unwrap().first_sequence();
    assert!((15..29).contains(&first));
    let start = start(&engine, "a", (epoch, 3), &[(5, 6), (9, first)]);
    let id = begin(&mut engine, "a", &start, Lag::Oldest);
    let seen = read_whole(&mut engine, id);
    let cut = ["from 3", "Evicted 3-4", "Had 5-6", "Evicted 7-8"];
    assert_eq!(seen[..4], cut);
    assert_eq!(seen[4..6], [format!("Had 9-{}", first - 1), format!("Had {first}-{first}")]);
    assert_eq!(seen[6], (first + 1).to_string());
    assert_eq!(engine.subscription_stats(id).unwrap().skips.evicted, 4);
    let newest = begin(&mut engine, "a", &start, Lag::Newest);
    let seen = read_whole(&mut engine, newest);
    let expected = ["from 3", "Skipped 3-4", "Had 5-6", "Skipped 7-8"];
    assert_eq!(seen[..4], expected);
    assert_eq!(seen[4], format!("Had 9-{first}"));
    assert_eq!(seen[5..], [format!("Skipped {}-29", first + 1), "30".into()]);
}

#[test]
fn messages_that_were_shown_may_have_left_the_cache() {
    let mut engine = engine(small());
    fill(&mut engine, "a", 10);
    (0..20).for_each(|n| drop(publish(&mut engine, 1, "a", &payload(7 + 8 * n), None)));
    let epoch = epoch(&engine, "a");
    let first = engine.topic(engine.slot("a").unwrap()).unwrap().first_sequence();
    let had = start(&engine, "a", (epoch, 3), &[(3, 4), (5, first - 1)]);
    let id = begin(&mut engine, "a", &had, Lag::Disconnect);
    let seen = read_whole(&mut engine, id);
    assert_eq!(seen[1..3], ["Had 3-4".to_owned(), format!("Had 5-{}", first - 1)]);
    let hole = start(&engine, "a", (epoch, 3), &[(3, 4), (6, first - 1)]);
    let id = begin(&mut engine, "a", &hole, Lag::Disconnect);
    let why = engine.read(id, 1000, &mut |_| ()).unwrap_err();
    assert_eq!(why.code, Code::LAGGED);
}

#[test]
fn ranges_go_on_in_the_next_run_up_to_the_last_message_that_was_kept() {
    for lossy in [false, true] {
        let mut engine = engine(small());
        fill(&mut engine, "a", 10);
        let (shown, run) = (epoch(&engine, "a"), engine.run());
        engine.renew(run + 1_000_000, lossy);
        fill(&mut engine, "a", 6);
        // The client had 11 to 14, which were not kept: their sequences have other payloads now.
        let start = Start::ResumeWith {
            since: Position { run, position: 0 },
            topics: vec![Resume { topic: "a", epoch: shown, next: 3 }],
            had: vec![Had::new(0, 3, &[(5, 6), (9, 12), (14, 14)])],
        };
        let id = begin(&mut engine, "a", &start, Lag::Oldest);
        let seen = read_whole(&mut engine, id);
        let expected = [
            "from 3",
            "Lost 11-14",
            "3",
            "4",
            "Had 5-6",
            "7",
            "8",
            "Had 9-10",
            "11",
            "12",
            "13",
            "14",
            "15",
            "16",
        ];
        assert_eq!(seen, expected);
        assert_eq!(engine.subscription_stats(id).unwrap().skips.total(), 4);
    }
}

#[test]
fn ranges_of_an_unknown_epoch_count_for_nothing() {
    let mut engine = engine(small());
    fill(&mut engine, "a", 4);
    fill(&mut engine, "b", 4);
    let other = epoch(&engine, "b");
    for unknown in [0, other, other + 1_000] {
        let start = start(&engine, "a", (unknown, 2), &[(3, 4)]);
        let id = begin(&mut engine, "**", &start, Lag::Oldest);
        let all = ["from 1", "1", "2", "3", "4"];
        assert_eq!(read_whole(&mut engine, id), [all, all].concat(), "{unknown}");
        engine.unsubscribe(id);
    }
}

#[test]
fn hostile_ranges_cost_nothing_and_take_nothing_from_others() {
    let mut engine = engine(small());
    fill(&mut engine, "a", 4);
    fill(&mut engine, "b", 2);
    let (a, b) = (epoch(&engine, "a"), epoch(&engine, "b"));
    let topics = vec![
        Resume { topic: "a", epoch: a, next: 1 },
        Resume { topic: "b", epoch: b, next: u64::MAX },
        Resume { topic: "a", epoch: a, next: 3 },
    ];
    let had = vec![
        Had { topic: 0, ranges: vec![(1, 1), (0, 0), (u64::MAX, 1), (0, u64::MAX)] },
        Had { topic: 1, ranges: vec![(0, u64::MAX); 64] },
        Had { topic: 2, ranges: vec![(0, 100)] },
        Had { topic: 3, ranges: vec![(1, 1)] },
        Had { topic: u32::MAX, ranges: vec![(1, 1)] },
    ];
    let start = Start::ResumeWith { since: Position { run: 0, position: 0 }, topics, had };
    let id = begin(&mut engine, "**", &start, Lag::Oldest);
    assert_eq!(read_whole(&mut engine, id), ["from 1", "1", "Had 2-2", "3", "4"]);
    fill(&mut engine, "b", 1);
    assert_eq!(read_whole(&mut engine, id), ["from 3", "3"]);
    engine.take_wakes(&mut Vec::new());
    engine.audit();
}

// A slow message is the hole, and the client has those above it.
#[test]
fn what_was_shown_above_a_message_that_still_arrives_is_skipped_once_that_is_complete() {
    for large in [LargePayloads::InChunks, LargePayloads::WhenComplete] {
        let mut engine = engine(Limits::default());
        let bytes: Bytes = vec![7; 70_000].into();
        let request = UploadRequest { topic: "a", size: 70_000, stamp: 0, origin: None };
        let Ok(BeginOutcome::Arriving(upload)) = engine.begin(1, &request) else { panic!() };
        fill(&mut engine, "a", 4);
        let start = start(&engine, "a", (epoch(&engine, "a"), 1), &[(2, 3), (5, 5)]);
        let id = begin(&mut engine, "a", &start, Lag::Oldest);
        let began = read(&mut engine, id, large);
        fill(&mut engine, "a", 1);
        engine.append(upload, bytes.slice(..35_000)).unwrap();
        let part = read(&mut engine, id, large);
        let stats = engine.subscription_stats(id).unwrap();
        assert_eq!((stats.messages, stats.exact), (3, true), "{began:?} {part:?}");
        engine.append(upload, bytes.slice(35_000..)).unwrap();
        engine.end(1, upload, Digest::of(&bytes)).unwrap();
        let rest = read(&mut engine, id, large);
        let above = ["Had 2-3", "4", "Had 5-5", "6"];
        assert!(rest.ends_with(&above.map(str::to_owned)), "{rest:?}");
        assert_eq!(engine.budget().held(), 0, "what was skipped is forgotten");
    }
}

#[test]
fn a_repair_skips_what_was_shown() {
    let mut engine = engine(small());
    fill(&mut engine, "a", 10);
    let start = start(&engine, "a", (epoch(&engine, "a"), 3), &[(5, 6), (8, 9)]);
    let id = begin(&mut engine, "a", &start, Lag::Oldest);
    read(&mut engine, id, LargePayloads::AnnounceOnly);
    for budget in [0, 1, 1000] {
        let (mut seen, mut next) = (Vec::new(), Some(4));
        while let Some(first) = next {
            next = engine.repair(id, 1, (first, 10), budget, &mut |item| {
                seen.push(match item {
                    Repaired::Message(message) | Repaired::Large(message) => {
                        message.sequence().to_string()
                    }
                    Repaired::NotCached { first, last, cause } => {
                        format!("{cause:?} {first}-{last}")
                    }
                });
            });
        }
        assert_eq!(seen, ["4", "Had 5-6", "7", "Had 8-9", "10"]);
    }
}

#[test]
fn what_was_shown_is_charged_until_it_is_passed_or_refused() {
    let mut engine = engine(Limits::default());
    let names: Vec<_> = (0..MAX_HAD).map(|n| format!("t/{n}")).collect();
    for name in &names {
        fill(&mut engine, name, 3);
    }
    let epochs: Vec<_> = names.iter().map(|name| epoch(&engine, name)).collect();
    let topics = names.iter().zip(&epochs);
    let topics = topics.map(|(topic, epoch)| Resume { topic, epoch: *epoch, next: 1 }).collect();
    let had = (0..MAX_HAD as u32).map(|topic| Had::new(topic, 1, &[(2, 2)])).collect();
    let since = Position { run: engine.run(), position: 0 };
    let start = Start::ResumeWith { since, topics, had };
    let fits = begin(&mut engine, "**", &start, Lag::Oldest);
    assert!(engine.budget().held() >= MAX_HAD * 40);
    let seen = read_whole(&mut engine, fits);
    let gaps = seen.iter().filter(|item| item.starts_with("Had")).count();
    assert_eq!((gaps, seen.len()), (MAX_HAD, 4 * MAX_HAD));
    assert_eq!(engine.budget().held(), 0);
    // One that may request repairs keeps it.
    let apart = begin(&mut engine, "**", &start, Lag::Oldest);
    read(&mut engine, apart, LargePayloads::AnnounceOnly);
    assert!(engine.budget().held() >= MAX_HAD * 40);
    engine.unsubscribe(apart);
    assert_eq!(engine.budget().held(), 0);
    let room = engine.budget().take(engine.budget().most()).unwrap();
    let refused = begin(&mut engine, "**", &start, Lag::Oldest);
    assert_eq!(engine.read(refused, 1, &mut |_| ()).unwrap_err().code, Code::OVERLOADED);
    assert_eq!(engine.budget().held(), room.bytes());
    engine.unsubscribe(refused);
}

// A window ends before the messages of other topics that found no room in it.
#[test]
fn in_the_smallest_of_windows_each_sequence_comes_once() {
    let mut engine = engine(small());
    engine.portions = SMALLEST;
    let names: Vec<_> = (0..6).map(|n| format!("t/{n}")).collect();
    for n in 0..9 {
        names.iter().for_each(|name| drop(publish(&mut engine, 1, name, &payload(8 * n), None)));
    }
    let epochs: Vec<_> = names.iter().map(|name| epoch(&engine, name)).collect();
    let topics = names.iter().zip(&epochs);
    let topics = topics.map(|(topic, epoch)| Resume { topic, epoch: *epoch, next: 2 }).collect();
    let had = (0..6).map(|topic| Had::new(topic, 2, &[(3, 4), (6, 6 + u64::from(topic) % 3)]));
    let since = Position { run: engine.run(), position: 0 };
    let start = Start::ResumeWith { since, topics, had: had.collect() };
    let id = begin(&mut engine, "**", &start, Lag::Oldest);
    let mut next = BTreeMap::new();
    let mut go_on = |id: u64, first: u64, last: u64| {
        assert_eq!(next.insert(id, last + 1).unwrap_or(2), first, "missed or repeated");
    };
    while engine
        .read(id, 1, &mut |item| match item {
            Item::Topic { .. } => {}
            Item::Gap { id, first, last, cause: GapCause::Had, .. } => go_on(id, first, last),
            Item::Message(message) => {
                go_on(message.topic_id(), message.sequence(), message.sequence());
            }
            other => panic!("{other:?}"),
        })
        .unwrap()
    {}
    assert!(next.len() == 6 && next.values().all(|next| *next == 10), "{next:?}");
    assert_eq!(engine.budget().held(), 0);
}
