//! Files of another daemon's journal, copied into this one.
//!
//! A fresh attacker found that their records were merged: two payloads had one epoch and sequence.

use super::memory::{Faults, Memory};
use super::{OPENING, publish, shown};
use crate::engine::{Engine, Limits};
use crate::journal::keeper::{Keeper, Opened, Opening, Sizes};
use crate::journal::recovery::End;
use crate::journal::storage::Storage;
use bytes::Bytes;
use std::sync::Arc;

const SMALL: Opening<'static> = Opening { sizes: Sizes { block: 100, segment: 400 }, ..OPENING };

pub(super) type Shown = Vec<(String, u64, u64, Bytes)>;

pub(super) fn open(storage: &Memory, secret: u8, run: u64) -> (Keeper, Opened) {
    let engine = Engine::new(Limits::default().with_cache(4 << 20), run - 1, [secret; 32]);
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    Keeper::open(storage, engine, &Opening { run, ..SMALL }).unwrap()
}

// The journal of a daemon, which has published payloads from `first` on.
pub(super) fn journal(secret: u8, run: u64, first: u32, closed: bool) -> (Memory, Shown) {
    let storage = Memory::new(secret.into());
    let (mut keeper, mut opened) = open(&storage, secret, run);
    for n in first..first + 20 {
        let (number, records) = publish(&mut opened.engine, "a", n);
        keeper.keep(5, number, &records).unwrap();
    }
    if closed {
        keeper.close().unwrap();
    }
    (storage, shown(&mut opened.engine))
}

fn logs(storage: &Memory) -> Vec<(u64, Vec<u8>)> {
    let files = storage.contents().into_iter();
    let logs = files.filter_map(|(name, bytes)| {
        let number = name.strip_prefix("log-")?.strip_suffix(".weir")?.parse();
        number.ok().zip(Some(bytes))
    });
    logs.collect()
}

// Starts a daemon. Returns its messages, and the files that it has set aside.
pub(super) fn start(storage: &Memory, secret: u8) -> (Opened, Shown, Vec<String>) {
    let (_, mut opened) = open(storage, secret, 9_000_000);
    let shown = shown(&mut opened.engine);
    let asides = storage.contents().into_keys().filter(|name| name.contains(".aside-")).collect();
    (opened, shown, asides)
}

#[test]
fn logs_of_another_daemon_are_set_aside() {
    for (closed, theirs_closed) in [(false, false), (true, true), (false, true), (true, false)] {
        let (other, _) = journal(2, 5_000_000, 1000, theirs_closed);
        let theirs = logs(&other);
        assert!(theirs.len() > 2);
        // After the logs that are there, under a number that is free, and instead of some that are missing.
        for (shift, missing) in [(100, 0), (0, 0), (100, 2)] {
            let (storage, had) = journal(1, 2_000_000, 0, closed);
            let ours = logs(&storage);
            let mut copied = 0;
            for (number, bytes) in &theirs {
                let name = format!("log-{:010}.weir", number + shift);
                if shift > 0 || !ours.iter().any(|(own, _)| own == number) {
                    storage.put(&name, bytes.clone());
                    copied += 1;
                }
            }
            for (number, _) in ours.iter().rev().take(missing) {
                storage.remove(&format!("log-{number:010}.weir")).unwrap();
            }
            let (opened, all, asides) = start(&storage, 1);
            assert!(all.iter().all(|message| had.contains(message)), "{all:?}");
            assert!(missing > 0 || all == had);
            assert_eq!(asides.len(), copied, "{:?}", opened.lines);
            for aside in asides {
                let told =
                    |line: &&String| line.contains(&aside) && line.contains("another journal");
                assert!(opened.lines.iter().any(|line| told(&line)), "{aside}: {:?}", opened.lines);
            }
            // Nothing of ours is missing. Another daemon's note of its end does not count.
            let end = if closed { End::Closed } else { End::Killed };
            assert!(opened.end == end || missing > 0, "{:?}", opened.lines);
            // The next start has nothing to say.
            let (opened, again, _) = start(&storage, 1);
            assert_eq!((again, opened.lines.len()), (all, 0));
        }
    }
}

fn put_all(storage: &Memory, other: &Memory, shift: u64, what: &str) -> usize {
    let files = other.contents().into_iter().filter(|(name, _)| name.starts_with(what));
    let mut put = 0;
    for (name, bytes) in files {
        let name = match name.strip_suffix(".weir").unwrap().split_once('-') {
            Some((kind, number)) => {
                format!("{kind}-{:010}.weir", number.parse::<u64>().unwrap() + shift)
            }
            None => name,
        };
        storage.put(&name, bytes);
        put += 1;
    }
    put
}

fn newest(storage: &Memory, what: &str) -> String {
    let names = storage.contents().into_keys().filter(|name| name.starts_with(what));
    names.max().unwrap()
}

// The secret says whose journal it is, whatever the numbers of the snapshots are. Without it, the
// newest snapshot does.
#[test]
fn a_newer_snapshot_of_another_daemon_does_not_take_the_state_over() {
    for (lost, what) in [(false, "snapshot"), (false, ""), (true, "snapshot"), (true, "")] {
        let (other, theirs) = journal(2, 5_000_000, 1000, true);
        let (storage, had) = journal(1, 2_000_000, 0, true);
        let secret = storage.contents()["secret.weir"].clone();
        let copied = put_all(&storage, &other, 100, what) - usize::from(what.is_empty());
        storage.put("secret.weir", secret);
        if lost {
            storage.remove("secret.weir").unwrap();
        }
        let ours = storage.contents();
        let (opened, all, asides) = start(&storage, 3);
        if !lost {
            assert_eq!((all, asides.len()), (had, copied), "{:?}", opened.lines);
            assert_eq!((opened.end, opened.lines.len()), (End::Closed, copied));
            let (again, shown, _) = start(&storage, 3);
            assert_eq!((shown, again.lines), (all_of(&ours, 1), vec![]));
            continue;
        }
        assert!(all == theirs || what == "snapshot" && all.iter().all(|m| theirs.contains(m)));
        // The files that were set aside are a whole journal under their first names.
        let saved = Memory::new(1);
        for aside in asides {
            saved.put(aside.split(".aside").next().unwrap(), storage.contents()[&aside].clone());
        }
        assert_eq!(start(&saved, 1).1, had);
    }
}

// The messages of the files of one journal among others.
fn all_of(files: &std::collections::BTreeMap<String, Vec<u8>>, secret: u8) -> Shown {
    let storage = Memory::new(secret.into());
    files.iter().for_each(|(name, bytes)| storage.put(name, bytes.clone()));
    start(&storage, secret).1
}

// A daemon fell back to the other one's snapshot, and merged the other one's log.
#[test]
fn a_journal_that_has_lost_its_snapshot_does_not_take_that_of_another() {
    for (shift, what) in [(0, "snapshot"), (100, "snapshot"), (100, "log"), (100, "")] {
        for damaged in [true, false] {
            let (other, theirs) = journal(2, 5_000_000, 1000, true);
            let (storage, had) = journal(1, 2_000_000, 0, true);
            let secret = storage.contents()["secret.weir"].clone();
            let snapshot = newest(&storage, "snapshot");
            storage.remove(&snapshot).unwrap();
            let copied = put_all(&storage, &other, shift, what) - usize::from(what.is_empty());
            storage.put("secret.weir", secret);
            if damaged {
                storage.put("snapshot-0000000090.weir", vec![7; 300]);
            }
            let (opened, all, asides) = start(&storage, 3);
            assert!(!all.iter().any(|message| theirs.contains(message)), "{shift} {what}");
            assert_eq!(all, had, "{shift} {what}: {:?}", opened.lines);
            assert_eq!(asides.len(), copied + usize::from(damaged), "{:?}", opened.lines);
            let (again, all, _) = start(&storage, 3);
            assert_eq!((all, again.lines), (had, vec![]));
        }
    }
}

// Neither the secret nor a snapshot is left: the oldest log says whose journal it is.
#[test]
fn without_a_secret_and_a_snapshot_the_oldest_log_decides() {
    let (other, _) = journal(2, 5_000_000, 1000, true);
    let (storage, had) = journal(1, 2_000_000, 0, true);
    storage.remove(&newest(&storage, "snapshot")).unwrap();
    storage.remove("secret.weir").unwrap();
    let copied = put_all(&storage, &other, 100, "log");
    let (opened, all, asides) = start(&storage, 3);
    assert_eq!((all, asides.len()), (had, copied), "{:?}", opened.lines);
}

// The secret is kept, and with it the keys of counts and idempotency.
#[test]
fn the_secret_outlives_the_snapshots() {
    for lost in [false, true] {
        let (storage, _) = journal(1, 2_000_000, 0, true);
        let files = storage.contents().into_keys();
        for name in files.filter(|name| lost || name.starts_with("snapshot")) {
            if name != "secret.weir" {
                storage.remove(&name).unwrap();
            }
        }
        let (opened, ..) = start(&storage, 3);
        assert_eq!(opened.engine.journal(), Engine::journal_of(&[1; 32]));
    }
}

#[test]
fn a_secret_that_is_lost_or_damaged_is_written_again() {
    for damage in [None, Some(vec![7; 60]), Some(Vec::new())] {
        let (storage, had) = journal(1, 2_000_000, 0, true);
        let secret = storage.contents()["secret.weir"].clone();
        match &damage {
            None => storage.remove("secret.weir").unwrap(),
            Some(bytes) => storage.put("secret.weir", bytes.clone()),
        }
        let (opened, all, asides) = start(&storage, 3);
        // Without its file, nobody knows whether a daemon has begun since.
        let end = if damage.is_some() { End::Closed } else { End::Copied };
        assert_eq!((opened.end, all), (end, had));
        assert_eq!(opened.lines.len(), 1, "{:?}", opened.lines);
        assert_eq!(asides.len(), usize::from(damage.is_some()), "{:?}", opened.lines);
        assert_eq!(storage.contents()["secret.weir"], secret);
    }
}

// A service manager starts such a daemon again and again. Each start gave the file another name.
#[test]
fn a_start_that_is_killed_sets_the_same_file_aside_under_the_same_name() {
    for copies in [false, true] {
        let (storage, had) = journal(1, 2_000_000, 0, false);
        let bytes = vec![7; 70_000];
        let name = "snapshot-0000000090.weir";
        storage.put(name, bytes.clone());
        // Others were set aside before, of which some have the same length.
        for (n, other) in [(1, vec![8; 70_000]), (2, vec![7; 60_000])] {
            storage.put(&format!("{name}.aside-{n}"), other);
        }
        if copies {
            storage.put(&format!("{name}.aside-3"), bytes.clone());
        }
        for run in 3_000_000..3_000_010 {
            // No snapshot takes its place.
            storage.files().faults = Faults { syncs: 1000, ..Faults::default() };
            let (_, opened) = open(&storage, 1, run);
            assert!(opened.failed.is_some());
            storage.restart();
            let asides = storage.contents().into_keys().filter(|name| name.contains(".aside-"));
            assert_eq!(asides.count(), 3, "{:?}", opened.lines);
            assert!(opened.lines[0].contains("is kept as snapshot-0000000090.weir.aside-3"));
        }
        assert_eq!(start(&storage, 1).1, had);
        assert_eq!(storage.contents()[&format!("{name}.aside-3")], bytes);
    }
}

// It was removed although it could not be given another name.
#[test]
fn a_foreign_file_without_a_second_name_stays_until_it_has_one() {
    let (other, _) = journal(2, 5_000_000, 1000, true);
    for gone in [false, true] {
        for shift in [0, 100] {
            let (storage, had) = journal(1, 2_000_000, 0, true);
            keep_only_larger(&storage);
            put_all(&storage, &other, shift, "snapshot");
            let files = storage.contents();
            storage.files().faults = Faults { names: 1000, ..Faults::default() };
            let (mut keeper, mut opened) = open(&storage, 3, 3_000_000);
            assert!(opened.failed.is_some());
            assert!(opened.lines.iter().all(|line| line.contains("will be kept as")));
            assert_eq!(shown(&mut opened.engine), had);
            let name = files.iter().find(|(name, bytes)| {
                name.starts_with("snapshot") && other.contents().values().any(|b| b == *bytes)
            });
            let (name, bytes) = name.unwrap();
            assert_eq!(storage.contents().get(name), Some(bytes));
            storage.restart();
            if gone {
                storage.remove(name).unwrap();
            }
            keeper.snapshot_all(&mut opened.engine).unwrap();
            let aside = storage.contents().get(&format!("{name}.aside-1")).cloned();
            // A change of a name that fails may have happened.
            assert!(aside.as_ref() == Some(bytes) || gone && aside.is_none());
        }
    }
}

// The own snapshot has a number that is free in the other journal.
fn keep_only_larger(storage: &Memory) {
    let name = newest(storage, "snapshot");
    storage.rename(&name, "snapshot-0000000050.weir").unwrap();
    storage.sync_names().unwrap();
}

// Without its secret and its snapshot, everything that can be read is read. A start that is killed at any moment changes nothing of that.
#[test]
fn a_journal_without_its_snapshot_is_not_taken_for_another() {
    let (storage, had) = journal(1, 2_000_000, 0, false);
    let snapshot = storage.contents().into_keys().find(|name| name.starts_with("snap")).unwrap();
    storage.put(&snapshot, vec![7; 300]);
    storage.remove("secret.weir").unwrap();
    for power in [false, true] {
        for steps in 0.. {
            let copy = Memory::new(4);
            storage.contents().into_iter().for_each(|(name, bytes)| copy.put(&name, bytes));
            copy.files().crash_in = Some(steps);
            let engine = Engine::new(Limits::default().with_cache(4 << 20), 7, [8; 32]);
            let arc: Arc<dyn Storage> = Arc::new(copy.clone());
            let begun = Keeper::open(arc, engine, &Opening { run: 3_000_000, ..SMALL });
            let whole = begun.is_ok_and(|(_, opened)| opened.failed.is_none());
            if power {
                copy.lose_power();
            } else {
                copy.restart();
            }
            let (opened, all, _) = start(&copy, 9);
            assert_eq!(all, had, "{steps}");
            assert_ne!(opened.end, End::Closed, "{steps}");
            if whole {
                assert!(steps > 3);
                break;
            }
        }
    }
}
