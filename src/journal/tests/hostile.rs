//! Files with right checksums and values that no engine has written.

use super::memory::Memory;
use super::{OPENING, open, publish, shown};
use crate::engine::{
    Change, EngineState, Part, Payload, Place, PublicationId, Record, SavedBody, SavedMessage,
    SavedWindow, TopicState, Total,
};
use crate::journal::format::block::{BlockKind, BlockWriter};
use crate::journal::format::header::Kind;
use crate::journal::format::note::Note;
use crate::journal::format::part;
use crate::journal::format::record::RecordWriter;
use crate::journal::recovery::End;
use crate::wire::{Digest, ProducerId};
use bytes::Bytes;

const MAX: u64 = u64::MAX;

fn block(out: &mut Vec<u8>, kind: BlockKind, first: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let writer = BlockWriter::new(out, kind, first);
    write(out);
    writer.end(out);
}

fn snapshot(parts: Vec<Part>) -> Memory {
    let mut file = Kind::Snapshot.header().to_vec();
    for one in parts {
        block(&mut file, BlockKind::Part, 0, |out| part::encode(out, one));
    }
    let storage = Memory::default();
    storage.put("snapshot-0000000001.weir", file);
    storage
}

fn log(blocks: &[(u64, Record)]) -> Memory {
    let mut file = Kind::Log.header().to_vec();
    for (first, record) in blocks {
        block(&mut file, BlockKind::Records, *first, |out| {
            let mut writer = RecordWriter::default();
            writer.begin(out, 5);
            writer.push(out, record);
        });
    }
    let storage = Memory::default();
    storage.put("log-0000000001.weir", file);
    storage
}

fn engine() -> EngineState {
    let past = Vec::new();
    EngineState { run: 5, past, secret: [1; 32], position: 9, next_topic: 3, recorded: 9 }
}

fn topic() -> TopicState {
    TopicState {
        id: 1,
        name: "a".into(),
        created_at: 1,
        next: 4,
        evicted_through: 2,
        recorded: 9,
        windows: Vec::new(),
        keys: Vec::new(),
        top: Vec::new(),
        overtaken: Vec::new(),
        ends: Vec::new(),
    }
}

fn place(position: u64) -> Place {
    Place { position, accepted: 5, stamp: MAX, origin: None }
}

fn total() -> Total {
    Total { digest: Digest::of(b"abc"), count: MAX, since: MAX }
}

fn message(sequence: u64, position: u64) -> SavedMessage {
    let payload = Payload::from(Bytes::from_static(b"abc"));
    SavedMessage { sequence, place: place(position), body: SavedBody::Complete(total(), payload) }
}

fn arriving(size: u64, had: usize) -> SavedBody {
    SavedBody::Arriving(size, Bytes::from(vec![7; had]).into())
}

fn messages(messages: Vec<SavedMessage>) -> Part {
    Part::Messages { topic: 1, messages }
}

fn end(records_from: u64) -> Part {
    Part::End { records_from, dropped_at: MAX }
}

fn parts(topic: TopicState, said: Vec<SavedMessage>) -> Vec<Part> {
    vec![Part::Engine(engine()), Part::Topic(Box::new(topic)), messages(said), end(10)]
}

fn record(topic: u64, name: &str, sequence: u64, change: Change) -> Record {
    Record { topic, name: name.into(), sequence, change }
}

fn published(topic: u64, name: &str, sequence: u64, position: u64) -> Record {
    let payload = Payload::from(Bytes::from_static(b"abc"));
    let change = Change::Published { place: place(position), total: total(), payload };
    record(topic, name, sequence, change)
}

// It starts, sets the file aside if it is to, and goes on.
fn start(what: &str, storage: &Memory, aside: bool) {
    let (mut keeper, mut opened) = open(storage, &OPENING);
    let lines = opened.lines.iter().any(|line| line.contains(".aside-1"));
    assert_eq!(lines, aside, "{what}: {:?}", opened.lines);
    shown(&mut opened.engine);
    for n in 0..5 {
        let (first, records) = publish(&mut opened.engine, "a", n);
        keeper.keep(5, first, &records).unwrap();
    }
    keeper.snapshot_all(&mut opened.engine).unwrap();
    keeper.close().unwrap();
    let (_, next) = open(storage, &OPENING);
    assert_eq!(next.lines, Vec::<String>::new(), "{what}");
}

#[test]
fn a_snapshot_with_hostile_values_is_set_aside() {
    start("intact", &snapshot(parts(topic(), vec![message(2, 3), message(3, 4)])), false);
    for state in [
        EngineState { run: 0, ..engine() },
        EngineState { position: MAX, ..engine() },
        EngineState { next_topic: MAX, ..engine() },
        EngineState { recorded: MAX, ..engine() },
    ] {
        start(&format!("{state:?}"), &snapshot(vec![Part::Engine(state), end(10)]), true);
    }
    for from in [0, 11, MAX] {
        start(&format!("from {from}"), &snapshot(vec![Part::Engine(engine()), end(from)]), true);
    }
    for state in [
        TopicState { id: 0, ..topic() },
        TopicState { id: MAX, ..topic() },
        TopicState { name: "a//b".into(), ..topic() },
        TopicState { next: 0, ..topic() },
        TopicState { next: MAX, ..topic() },
        TopicState { created_at: MAX, ..topic() },
        TopicState { evicted_through: MAX, ..topic() },
        TopicState { recorded: MAX, ..topic() },
    ] {
        start(&format!("{state:?}"), &snapshot(parts(state, Vec::new())), true);
    }
    for said in [
        vec![message(0, 3)],
        vec![message(4, 3)],
        vec![message(MAX, 3)],
        vec![message(2, MAX)],
        vec![message(2, 2)],
        vec![message(2, 4), message(3, 4)],
        vec![message(2, 4), message(3, 3)],
        vec![message(2, 3), message(2, 4)],
        vec![SavedMessage { body: arriving(MAX, 0), ..message(2, 3) }],
        vec![SavedMessage { body: arriving(2, 3), ..message(2, 3) }],
    ] {
        start(&format!("{said:?}"), &snapshot(parts(topic(), said)), true);
    }
    let twice = [parts(topic(), Vec::new()), parts(topic(), Vec::new())].concat();
    start("twice", &snapshot(twice), true);
}

#[test]
fn windows_and_runs_of_a_snapshot_are_brought_into_their_bounds() {
    let window = |floor, highest, ahead: &[u64]| SavedWindow {
        producer: ProducerId([1; 16]),
        floor,
        passed: floor,
        highest,
        ahead: ahead.into(),
    };
    let windows = vec![
        window(MAX, 0, &[]),
        window(0, MAX, &[MAX; 3]),
        window(3, 9, &[MAX; 1000]),
        window(0, 5, &[]),
    ];
    let ends = (0..1000).map(|run| (run, MAX)).collect();
    start("windows", &snapshot(parts(TopicState { windows, ends, ..topic() }, Vec::new())), false);
}

#[test]
fn a_log_with_hostile_values_is_set_aside() {
    let first = || published(1, "a", 1, 1);
    start("intact", &log(&[(1, first()), (2, published(1, "a", 2, 2))]), false);
    let origin = Some(PublicationId { producer: ProducerId([1; 16]), number: MAX });
    let begun = |size| Change::Begun { place: Place { origin, ..place(2) }, size };
    let chunk = |offset| Change::Chunk { offset, bytes: b"abc".as_slice().into() };
    for (number, hostile) in [
        (0, published(1, "a", 2, 2)),
        (MAX, published(1, "a", 2, 2)),
        (2, published(0, "a", 2, 2)),
        (2, published(MAX, "b", 2, 2)),
        (2, published(2, "b//", 1, 2)),
        (2, published(1, "b", 2, 2)),
        (2, published(1, "a", 0, 2)),
        (2, published(1, "a", 1, 2)),
        (2, published(1, "a", MAX, 2)),
        (2, published(1, "a", 2, MAX)),
        (2, published(1, "a", 2, 1)),
        (2, published(1, "a", 2, 0)),
        (2, record(1, "a", 2, begun(MAX))),
    ] {
        start(&format!("{hostile:?}"), &log(&[(1, first()), (number, hostile)]), true);
    }
    for (size, change) in [(9, chunk(MAX)), (1, chunk(0))] {
        let begun = record(1, "a", 2, begun(size));
        let blocks = [(1, first()), (2, begun), (3, record(1, "a", 2, change))];
        start("a chunk", &log(&blocks), true);
    }
    // Far ahead, which is a hole.
    let storage = log(&[(1, first()), (1 << 61, published(1, "a", 1 << 40, 1 << 50))]);
    let (_, opened) = open(&storage, &OPENING);
    assert_eq!(opened.lines.len(), 1, "{:?}", opened.lines);
    assert_eq!(opened.engine.head("a").unwrap().next, (1 << 40) + 1);
}

#[test]
fn a_note_with_hostile_values_is_set_aside() {
    for run in [0, MAX] {
        let past = crate::engine::PastRun {
            run: 9,
            through: MAX,
            next_topic: MAX,
            lossy: true,
            state: None,
        };
        let (past, boot) = (Some(past), "x".repeat(1000));
        let note = Note::Opened { run, past, boot, always: false };
        let mut file = Kind::Log.header().to_vec();
        block(&mut file, BlockKind::Note, 0, |out| note.encode(out));
        let storage = Memory::default();
        storage.put("log-0000000001.weir", file);
        start("a note", &storage, run == 0);
    }
}

// As of a version that did not name the file in which it ended.
#[test]
fn an_older_note_of_a_good_end_is_read() {
    let opened = Note::Opened { run: 9, past: None, boot: "one".into(), always: false };
    let mut file = Kind::Log.header().to_vec();
    for note in [opened, Note::Closed] {
        block(&mut file, BlockKind::Note, 0, |out| note.encode(out));
    }
    let storage = Memory::default();
    storage.put("log-0000000001.weir", file);
    assert_eq!(open(&storage, &OPENING).1.end, End::Closed);
}
