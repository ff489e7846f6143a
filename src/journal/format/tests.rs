//! Every entry comes back as it was; the bytes are those of the golden vectors; and no damage makes
//! an entry that was not there.

use super::block::{BlockKind, BlockReader, BlockWriter, HEAD};
use super::header::{HEADER, HeaderError, Kind};
use super::note::Note;
use super::record::{RecordReader, RecordWriter};
use super::{Malformed, part};
use crate::engine::{
    Change, EngineState, Part, PastRun, Payload, Place, PublicationId, Record, SavedBody,
    SavedCount, SavedKey, SavedMessage, SavedRank, SavedWindow, TopicState, Total,
};
use crate::wire::{Digest, ProducerId};
use bytes::Bytes;

fn origin(producer: u8, number: u64) -> PublicationId {
    PublicationId { producer: ProducerId([producer; 16]), number }
}

fn place(position: u64) -> Place {
    Place { position, accepted: 1_700_000_000_000_000 + position, stamp: 0, origin: None }
}

fn total(count: u64) -> Total {
    Total { digest: Digest([count as u8; 32]), count, since: 0 }
}

fn record(topic: u64, sequence: u64, change: Change) -> Record {
    let name = format!("demo/{topic}").into();
    Record { topic, name, sequence, change }
}

/// One record of each kind, with and without what is optional.
pub(crate) fn records() -> Vec<Record> {
    let stamped = Place { stamp: 1_700_000_000_000_500, origin: Some(origin(7, 12)), ..place(2) };
    let (small, large) = (Payload::from(Bytes::from_static(b"hello")), vec![9_u8; 70_000]);
    let large = Payload::from(Bytes::from(large));
    let published = |place, payload| Change::Published { place, total: total(3), payload };
    vec![
        record(1, 1, published(place(1), small.clone())),
        record(1, 2, published(stamped, small)),
        record(2, 1, published(place(3), large)),
        record(2, 2, Change::Begun { place: place(4), size: 100_000 }),
        record(2, 2, Change::Chunk { offset: 0, bytes: Bytes::from_static(b"abc") }),
        record(2, 3, Change::Begun { place: place(5), size: 70_001 }),
        record(2, 3, Change::Aborted),
        record(
            2,
            2,
            Change::Ended { now: 5, origin: Some(origin(8, 1)), total: total(1), size: 100_000 },
        ),
        record(1, 0, Change::Forgotten),
    ]
}

/// One part of each kind.
pub(crate) fn parts() -> Vec<Part> {
    let past = vec![PastRun { run: 5, through: 17, next_topic: 9, lossy: true, state: None }];
    let secret = [3; 32];
    let state = EngineState { run: 6, past, secret, position: 40, next_topic: 3, recorded: 55 };
    let window = SavedWindow {
        producer: ProducerId([7; 16]),
        floor: 4,
        passed: 0,
        highest: 6,
        ahead: vec![1 << 6].into(),
    };
    let topic = TopicState {
        id: 2,
        name: "demo/2".into(),
        created_at: 3,
        next: 9,
        evicted_through: 11,
        recorded: 50,
        windows: vec![window],
        keys: vec![SavedKey { key: ProducerId([4; 16]), sequence: 3, total: total(2) }],
        top: vec![SavedRank { total: total(9), sequence: 8, size: 5 }],
        overtaken: vec![(8, 9, 0)],
        ends: vec![(5, 4), (6, 1 << 50)],
    };
    let message = |sequence, body| SavedMessage { sequence, place: place(sequence), body };
    let hello = Payload::from(Bytes::from_static(b"hello"));
    vec![
        Part::Engine(state),
        Part::Topic(Box::new(topic)),
        Part::Messages {
            topic: 2,
            messages: vec![
                message(5, SavedBody::Complete(total(1), hello)),
                message(6, SavedBody::Arriving(70_000, Bytes::from_static(b"a part").into())),
                message(7, SavedBody::Aborted),
                message(8, SavedBody::Evicted),
            ],
        },
        Part::Counts(vec![SavedCount { key: [1, 2], count: 3, since: 4 }]),
        Part::End { records_from: 51, dropped_at: 0 },
    ]
}

fn opened() -> Note {
    let past =
        Some(PastRun { run: 5, through: 17, next_topic: 9, lossy: true, state: Some(90_000) });
    Note::Opened { run: 6, past, boot: "b".into(), always: false }
}

const JOURNAL: Note = Note::Journal { id: 70_000 };
const CLOSED: Note = Note::ClosedIn { state: 80_000 };

fn written() -> Vec<u8> {
    let mut out = Vec::new();
    let block = BlockWriter::new(&mut out, BlockKind::Records, 100);
    let mut writer = RecordWriter::default();
    writer.begin(&mut out, 1_700_000_000_000_000);
    records().iter().for_each(|record| writer.push(&mut out, record));
    block.end(&mut out);
    let block = BlockWriter::new(&mut out, BlockKind::Note, 0);
    opened().encode(&mut out);
    block.end(&mut out);
    for one in parts() {
        let block = BlockWriter::new(&mut out, BlockKind::Part, 0);
        part::encode(&mut out, one);
        block.end(&mut out);
    }
    for note in [JOURNAL, CLOSED] {
        let block = BlockWriter::new(&mut out, BlockKind::Note, 0);
        note.encode(&mut out);
        block.end(&mut out);
    }
    out
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Record(u64, Record),
    Note(Note),
    Part(Part),
}

fn read(bytes: &[u8]) -> Vec<Found> {
    let mut reader = BlockReader::new(bytes, 0);
    let mut found = Vec::new();
    while let Some(block) = reader.next().unwrap() {
        let body = Bytes::copy_from_slice(block.body);
        let decoded: Result<(), Malformed> = match block.kind {
            1 => RecordReader::new(&body, block.first).and_then(|mut records| {
                while let Some((number, record)) = records.next()? {
                    found.push(Found::Record(number, record));
                }
                Ok(())
            }),
            2 => part::decode(&body).map(|part| found.push(Found::Part(part))),
            _ => Note::decode(&body).map(|note| found.push(Found::Note(note))),
        };
        decoded.unwrap();
    }
    found
}

#[test]
fn everything_comes_back_as_it_was() {
    let mut expected: Vec<_> =
        (100..).zip(records()).map(|(number, record)| Found::Record(number, record)).collect();
    expected.push(Found::Note(opened()));
    expected.extend(parts().into_iter().map(Found::Part));
    expected.extend([JOURNAL, CLOSED].map(Found::Note));
    assert_eq!(read(&written()), expected);
}

/// `WEIR_BLESS=1` writes the vector. A change to it is a change of the format, and needs another
/// version.
#[test]
fn the_bytes_are_those_of_the_golden_vector() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/journal.hex");
    // The large payload is shown by its length only.
    let hex = |bytes: &[u8]| {
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect::<String>()
    };
    let long = "09".repeat(70_000);
    let headers = [Kind::Log, Kind::Snapshot].map(Kind::header);
    let lines = [&headers[0][..], &headers[1], &written(), &Kind::Secret.header()]
        .map(|bytes| hex(bytes).replace(&long, "[09 x 70000]"));
    let text = lines.join("\n") + "\n";
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
}

#[test]
fn no_flipped_byte_makes_an_entry_that_was_not_there() {
    let (bytes, all) = (written(), read(&written()));
    // Not every byte of the large payload: they are alike.
    let places = (0..bytes.len()).filter(|at| bytes[*at] != 9 || at % 1000 == 0);
    for at in places {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        let found = read(&damaged);
        assert!(found.len() < all.len(), "byte {at} changes nothing");
        assert!(found.iter().all(|one| all.contains(one)), "byte {at} makes another entry");
        // Only the block with the damage is lost.
        assert!(found.len() >= parts().len(), "byte {at}");
    }
}

#[test]
fn every_shorter_file_has_the_blocks_that_are_whole() {
    let (bytes, all) = (written(), read(&written()));
    let ends = bytes.len() - 700..bytes.len();
    for length in (0..2 * HEAD).chain(ends) {
        let found = read(&bytes[..length]);
        assert!(found.len() < all.len() && found == all[..found.len()], "{length} bytes");
    }
}

#[test]
fn headers_tell_what_a_file_is() {
    let header = Kind::Log.header();
    assert_eq!(Kind::Log.check(&header), Ok(()));
    assert_eq!(Kind::Snapshot.check(&header), Err(HeaderError::Foreign));
    assert_eq!(Kind::Log.check(&header[..HEADER - 1]), Err(HeaderError::Damaged));
    for at in 8..HEADER {
        let mut damaged = header;
        damaged[at] ^= 1;
        assert_eq!(Kind::Log.check(&damaged), Err(HeaderError::Damaged));
    }
    let mut newer = header;
    newer[8] = 2;
    let checksum = crc32fast::hash(&newer[..12]);
    newer[12..].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(Kind::Log.check(&newer), Err(HeaderError::Newer(2)));
}
