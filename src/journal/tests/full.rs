//! A disk that is full or read-only when a daemon starts, or for as long as it runs.

use super::memory::{Faults, Memory};
use super::{OPENING, open, publish, shown};
use crate::engine::{Engine, Item};
use crate::journal::keeper::{Keeper, Opening};
use crate::journal::recovery::End;
use crate::journal::storage::Storage as _;
use crate::wire::{Filter, Lag, Position, Resume, Start};

const FULL: Faults = Faults { writes: 1000, syncs: 0, names: 0, reads: 0 };
const READ_ONLY: Faults = Faults { writes: 1000, syncs: 1000, names: 1000, reads: 0 };

// Publishes and keeps a number of messages.
fn keep(keeper: &mut Keeper, engine: &mut Engine, messages: u32) {
    for n in 0..messages {
        let (first, records) = publish(engine, "a", n);
        keeper.keep(5, first, &records).unwrap();
    }
}

// Returns how many messages a client receives that has had those before `next` of an earlier engine.
fn resumed(engine: &mut Engine, since: Position, epoch: u64, next: u64) -> usize {
    let start = Start::Resume { since, topics: vec![Resume { topic: "a", epoch, next }] };
    let id = engine.subscribe(Filter::new("a").unwrap(), &start, Lag::Oldest);
    let mut messages = 0;
    let mut see = |item: Item<'_>| messages += usize::from(matches!(item, Item::Message(_)));
    while engine.read(id, 1 << 20, &mut see).unwrap() {}
    engine.unsubscribe(id);
    messages
}

// A daemon ended in good order, and the disk is full for the next two. Nothing begins in these, so that the
// third one goes on in the same run. Each of them counted as a daemon that had begun.
#[test]
fn a_good_end_holds_until_a_daemon_can_write() {
    let storage = Memory::default();
    let (mut keeper, mut opened) = open(&storage, &OPENING);
    keep(&mut keeper, &mut opened.engine, 5);
    keeper.close().unwrap();
    for run in [3_000_000, 4_000_000, 5_000_000] {
        storage.files().faults = if run < 5_000_000 { FULL } else { Faults::default() };
        let (mut keeper, mut opened) = open(&storage, &Opening { run, ..OPENING });
        assert_eq!(opened.failed.is_some(), run < 5_000_000);
        assert_eq!((opened.end, opened.lines.len()), (End::Closed, 0), "{run}: {:?}", opened.lines);
        assert_eq!((opened.engine.run(), shown(&mut opened.engine).len()), (1_000_000, 5));
        if opened.failed.is_some() {
            keeper.close().unwrap_err();
        }
    }
}

// A run that could not be kept has a name that follows from the journal. Two copies of one journal, each on a
// full disk for a while, gave the same name to two runs, and one sequence to two payloads.
#[test]
fn copies_name_another_run_while_it_cannot_be_kept() {
    let storage = Memory::default();
    let (mut keeper, mut opened) = open(&storage, &OPENING);
    keep(&mut keeper, &mut opened.engine, 5);
    keeper.close().unwrap();
    let contents = storage.contents();
    let mut runs = Vec::new();
    for seed in [0, 71, 72] {
        let copy = if seed == 0 { storage.clone() } else { Memory::new(seed) };
        if seed != 0 {
            contents.iter().for_each(|(name, bytes)| copy.put(name, bytes.clone()));
        } else {
            // The original goes on, and is killed.
            drop(open(&copy, &OPENING));
        }
        // It is full twice, and then it is not.
        for faults in [FULL, FULL, Faults::default()] {
            copy.files().faults = faults;
            let (_, opened) = open(&copy, &Opening { run: 3_000_000 + seed, ..OPENING });
            runs.push(opened.engine.run());
            if opened.failed.is_none() {
                let known =
                    opened.engine.resumed_from(Position { run: runs[runs.len() - 2], position: 5 });
                assert_eq!(known, Some((5, 0)));
            }
        }
    }
    assert_eq!((runs[0], runs[3], runs[6]), (runs[1], runs[4], runs[7]));
    let different: std::collections::BTreeSet<_> = runs.iter().collect();
    assert_eq!(different.len(), 6, "{runs:?}");
}

// All publications are in the log, and nothing is missing. Another run began without a line, and clients received
// everything twice.
#[test]
fn a_log_from_its_beginning_needs_no_snapshot() {
    for closed in [true, false] {
        let storage = Memory::default();
        let (mut keeper, mut opened) = open(&storage, &OPENING);
        keep(&mut keeper, &mut opened.engine, 5);
        if closed {
            keeper.close().unwrap();
        }
        drop(keeper);
        for name in storage.contents().into_keys().filter(|name| name.starts_with("snapshot")) {
            storage.remove(&name).unwrap();
        }
        let (_, mut opened) = open(&storage, &Opening { run: 3_000_000, ..OPENING });
        let end = if closed { End::Closed } else { End::Killed };
        assert_eq!((opened.end, opened.lines.len()), (end, 0), "{:?}", opened.lines);
        assert_eq!(shown(&mut opened.engine).len(), 5);
        assert_eq!(opened.engine.run(), if closed { 1_000_000 } else { 3_000_000 });
        let since = Position { run: 1_000_000, position: 5 };
        assert_eq!(opened.engine.resumed_from(since), Some((5, 0)));
    }
}

// Its run cannot be recorded, because the disk is full. A client that comes back to the daemon after
// it had received everything that was cached once more.
#[test]
fn clients_of_a_daemon_whose_run_could_not_be_kept_find_their_places_in_the_next() {
    for faults in [FULL, READ_ONLY] {
        let storage = Memory::default();
        let (mut keeper, mut opened) = open(&storage, &OPENING);
        keep(&mut keeper, &mut opened.engine, 5);
        // It is shown, and not kept.
        publish(&mut opened.engine, "a", 5);
        drop(keeper);
        let mut runs = Vec::new();
        // The disk is full for two daemons.
        for run in [3_000_000, 4_000_000] {
            storage.files().faults = faults;
            let (_, mut opened) = open(&storage, &Opening { run, ..OPENING });
            assert!(opened.failed.is_some());
            assert_eq!((opened.end, shown(&mut opened.engine).len()), (End::Killed, 5));
            runs.push(opened.engine.run());
        }
        assert_eq!(runs[0], runs[1]);
        assert!(![2_000_000, 3_000_000].contains(&runs[0]));
        let since = Position { run: runs[0], position: 5 };
        storage.restart();
        let (mut keeper, mut opened) = open(&storage, &Opening { run: 5_000_000, ..OPENING });
        assert_eq!(opened.engine.run(), 5_000_000);
        assert_eq!(opened.engine.resumed_from(since), Some((5, 0)));
        let (_, epoch) = opened.engine.topic_in_run(runs[0], 1).unwrap();
        assert_ne!(epoch, opened.engine.head("a").unwrap().epoch);
        assert_eq!(resumed(&mut opened.engine, since, epoch, 6), 0);
        assert_eq!(resumed(&mut opened.engine, since, epoch, 4), 2);
        // Also after further runs.
        keep(&mut keeper, &mut opened.engine, 1);
        drop(keeper);
        let (_, mut opened) = open(&storage, &Opening { run: 6_000_000, ..OPENING });
        assert_eq!(resumed(&mut opened.engine, since, epoch, 6), 1);
    }
}

// Its publications have another run each time, because they are shown and lost.
#[test]
fn a_daemon_that_goes_on_without_its_disk_has_a_run_of_its_own() {
    let storage = Memory::default();
    let (mut keeper, mut opened) = open(&storage, &OPENING);
    keep(&mut keeper, &mut opened.engine, 5);
    drop(keeper);
    for run in [3_000_000, 4_000_000] {
        storage.files().faults = FULL;
        let (_, opened) = open(&storage, &Opening { run, goes_on: true, ..OPENING });
        assert_eq!(opened.engine.run(), run);
    }
}

// A sync fails once, and the next one does not.
#[test]
fn the_run_of_a_daemon_that_goes_on_is_kept_if_its_disk_works_again() {
    for seed in 1..100 {
        let storage = Memory::new(seed);
        let (mut keeper, mut opened) = open(&storage, &OPENING);
        keep(&mut keeper, &mut opened.engine, 5);
        keeper.close().unwrap();
        drop(keeper);
        storage.files().faults = Faults { syncs: 300, ..Faults::default() };
        let opening = Opening { run: 3_000_000, goes_on: true, ..OPENING };
        let (mut keeper, mut opened) = open(&storage, &opening);
        let run = opened.engine.run();
        storage.files().faults = Faults::default();
        keep(&mut keeper, &mut opened.engine, 1);
        drop(keeper);
        let (_, opened) = open(&storage, &Opening { run: 4_000_000, ..OPENING });
        assert!(opened.engine.past_runs().iter().any(|past| past.run == run), "seed {seed}");
    }
}

#[test]
fn a_damaged_file_is_set_aside_once_the_disk_takes_a_name() {
    let storage = Memory::default();
    let (mut keeper, mut opened) = open(&storage, &OPENING);
    keep(&mut keeper, &mut opened.engine, 5);
    drop(keeper);
    let mut logs = storage.contents().into_iter().filter(|(name, _)| name.starts_with("log"));
    let (name, mut bytes) = logs.next_back().unwrap();
    let middle = bytes.len() - 100;
    bytes[middle] ^= 1;
    storage.put(&name, bytes.clone());
    storage.files().faults = READ_ONLY;
    let (mut keeper, mut opened) = open(&storage, &Opening { run: 3_000_000, ..OPENING });
    assert!(opened.failed.is_some());
    assert_eq!((opened.end, shown(&mut opened.engine).len()), (End::Lossy, 4));
    assert!(keeper.begin_snapshot().is_err());
    storage.restart();
    keeper.snapshot_all(&mut opened.engine).unwrap();
    let contents = storage.contents();
    assert!(!contents.contains_key(&name));
    assert_eq!(contents.get(&format!("{name}.aside-1")), Some(&bytes));
}

// Parts of what was not written took all that became free, so that the disk stayed full.
#[test]
fn what_cannot_be_written_takes_no_room() {
    let storage = Memory::default();
    let (mut keeper, mut opened) = open(&storage, &OPENING);
    keep(&mut keeper, &mut opened.engine, 5);
    let before = storage.contents();
    let (first, records) = publish(&mut opened.engine, "a", 5);
    storage.files().faults = FULL;
    for _ in 0..50 {
        keeper.keep(5, first, &records).unwrap_err();
        assert_eq!(storage.contents(), before);
    }
    storage.files().faults = Faults::default();
    keeper.keep(5, first, &records).unwrap();
    drop(keeper);
    let (_, mut opened) = open(&storage, &Opening { run: 3_000_000, ..OPENING });
    assert_eq!((opened.lines.len(), shown(&mut opened.engine).len()), (0, 6));
}

#[test]
fn attempts_to_take_a_snapshot_leave_no_files() {
    for seed in 1..50 {
        let storage = Memory::new(seed);
        let (mut keeper, mut opened) = open(&storage, &OPENING);
        keep(&mut keeper, &mut opened.engine, 5);
        let files = storage.names().unwrap().len();
        for _ in 0..20 {
            storage.files().faults = Faults { writes: 300, ..Faults::default() };
            if keeper.snapshot_all(&mut opened.engine).is_ok() {
                break;
            }
            // One segment more, for what comes after the snapshot.
            let names = storage.names().unwrap();
            assert!(names.len() <= files + 1, "{names:?}");
        }
    }
}
