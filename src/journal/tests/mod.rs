//! A journal and an engine on a storage in memory: killed, without power, damaged.

#[cfg(test)]
mod copies;
#[cfg(test)]
mod damage;
#[cfg(all(test, feature = "daemon"))]
mod failing;
#[cfg(test)]
mod foreign;
#[cfg(all(test, feature = "daemon"))]
mod full;
pub(crate) mod fuzz;
#[cfg(test)]
mod hostile;
mod memory;
#[cfg(test)]
mod power;

use super::keeper::{Keeper, Opened, Opening, SIZES};
use super::recovery::End;
use super::storage::Storage;
use crate::engine::{Engine, Item, Limits, Payload, Publication, Record};
use crate::wire::{Digest, Filter, Lag, Start, Which};
use bytes::Bytes;
use memory::Memory;
use std::sync::Arc;

const OPENING: Opening<'static> =
    Opening { run: 2_000_000, boot: "one", always: false, goes_on: false, sizes: SIZES };

// All messages, as a subscriber gets them: topic, sequence, count and payload.
fn shown(engine: &mut Engine) -> Vec<(String, u64, u64, Bytes)> {
    let id = engine.subscribe(Filter::new("**").unwrap(), &Start::All, Lag::Oldest);
    let mut all = Vec::new();
    while engine
        .read(id, 1 << 20, &mut |item| {
            if let Item::Message(m) = item {
                assert_eq!(Digest::of(&m.payload()), m.digest());
                all.push((m.topic().to_string(), m.sequence(), m.count(), m.payload()));
            }
        })
        .unwrap()
    {}
    engine.unsubscribe(id);
    all
}

fn open(storage: &Memory, opening: &Opening<'_>) -> (Keeper, Opened) {
    let engine = Engine::new(Limits::default().with_cache(4 << 20), 1_000_000, [7; 32]);
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    Keeper::open(storage, engine, opening).unwrap()
}

// Publishes payload number `n`, and returns the records of that.
fn publish(engine: &mut Engine, topic: &str, n: u32) -> (u64, Vec<Record>) {
    let payload = Bytes::copy_from_slice(&n.to_le_bytes());
    let digest = Digest::of(&payload);
    let payload = Payload::from(payload);
    let publication = Publication { topic, payload: &payload, digest, stamp: 0, origin: None };
    let first = engine.recorded() + 1;
    engine.publish(5, &publication).unwrap();
    let mut records = Vec::new();
    engine.take_records(&mut records);
    (first, records)
}

#[test]
fn a_daemon_that_is_killed_goes_on_with_what_was_kept() {
    let storage = Memory::default();
    let (mut keeper, mut opened) = open(&storage, &OPENING);
    assert_eq!(opened.end, End::New);
    for n in 0..10 {
        let (first, records) = publish(&mut opened.engine, "a", n);
        keeper.keep(5, first, &records).unwrap();
    }
    // This one is shown, and not kept.
    publish(&mut opened.engine, "a", 10);
    let epoch = opened.engine.get("a", Which::Latest).unwrap().epoch();
    drop(keeper);
    let (mut keeper, mut opened) = open(&storage, &OPENING);
    assert_eq!((opened.end, opened.lines.len()), (End::Killed, 0));
    assert_eq!(opened.engine.get("a", Which::Latest).unwrap().sequence(), 10);
    assert_ne!(opened.engine.get("a", Which::Latest).unwrap().epoch(), epoch);
    keeper.close().unwrap();
    let (_, opened) = open(&storage, &Opening { run: 3_000_000, ..OPENING });
    assert_eq!((opened.end, opened.engine.run()), (End::Closed, 2_000_000));
}

// A service manager starts such a daemon again for as long as it takes.
#[test]
fn a_daemon_that_is_killed_again_and_again_has_a_bounded_number_of_files() {
    let storage = Memory::default();
    for n in 0..200 {
        let (mut keeper, mut opened) = open(&storage, &Opening { run: 1000 + 7 * n, ..OPENING });
        assert!(opened.lines.is_empty());
        let (first, records) = publish(&mut opened.engine, "a", n as u32);
        keeper.keep(5, first, &records).unwrap();
        assert_eq!(shown(&mut opened.engine).len() as u64, n + 1);
        let files = storage.names().unwrap().len();
        assert!(files <= 67, "{files}");
    }
}

// The log may be as long as `journal.bytes` leaves beside two snapshots, also after a restart.
#[test]
fn the_length_of_a_snapshot_is_known_in_the_next_run() {
    let storage = Memory::default();
    let (mut keeper, mut opened) = open(&storage, &OPENING);
    for n in 0..100 {
        let (first, records) = publish(&mut opened.engine, "a", n);
        keeper.keep(5, first, &records).unwrap();
    }
    keeper.snapshot_all(&mut opened.engine).unwrap();
    let (_, bytes) = keeper.bytes();
    assert!(bytes > 1000);
    drop(keeper);
    assert_eq!(open(&storage, &OPENING).0.bytes().1, bytes);
}
