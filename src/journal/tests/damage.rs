//! A whole journal with each byte changed, cut off at each length, and with files of others.

use super::memory::Memory;
use super::{OPENING, open, publish, shown};
use crate::engine::Engine;
use crate::journal::format::header::Kind;
use crate::journal::keeper::{Keeper, Opened, Opening, Sizes};
use crate::journal::recovery::End;
use crate::journal::storage::{Directory, Storage};
use bytes::Bytes;
use std::collections::BTreeMap;

const SMALL: Opening<'static> = Opening { sizes: Sizes { block: 100, segment: 400 }, ..OPENING };

type Files = BTreeMap<String, Vec<u8>>;
type Shown = Vec<(String, u64, u64, Bytes)>;

fn keep(keeper: &mut Keeper, engine: &mut Engine, topic: &str, n: u32) {
    let (first, records) = publish(engine, topic, n);
    keeper.keep(5, first, &records).unwrap();
}

// A journal with a snapshot and several segments after it, and what it has.
fn journal(closed: bool) -> (Files, Shown) {
    let storage = Memory::default();
    let (mut keeper, mut opened) = open(&storage, &SMALL);
    for n in 0..6 {
        keep(&mut keeper, &mut opened.engine, ["a", "b"][n as usize % 2], n % 4);
    }
    keeper.snapshot_all(&mut opened.engine).unwrap();
    for n in 0..6 {
        keep(&mut keeper, &mut opened.engine, ["a", "c"][n as usize % 2], n % 5);
    }
    if closed {
        keeper.close().unwrap();
    }
    (storage.contents(), shown(&mut opened.engine))
}

fn on(files: &Files) -> Memory {
    let storage = Memory::default();
    files.iter().for_each(|(name, bytes)| storage.put(name, bytes.clone()));
    storage
}

fn asides(storage: &Memory) -> Files {
    let files = storage.contents().into_iter();
    files.filter(|(name, _)| name.contains(".aside-")).collect()
}

// It starts, has invented nothing, and has named what it set aside. So has the next one.
fn start(storage: &Memory, before: &Files, had: &Shown) -> Opened {
    let (mut keeper, mut opened) = open(storage, &SMALL);
    for message in shown(&mut opened.engine) {
        assert!(had.contains(&message), "{message:?} was never published");
    }
    for (name, bytes) in asides(storage) {
        let original = name.split(".aside").next().unwrap();
        assert_eq!(bytes, before[original], "{name}");
        let line = opened.lines.iter().any(|line| line.contains(&name));
        assert!(line, "{name}: {:?}", opened.lines);
    }
    keep(&mut keeper, &mut opened.engine, "a", 77);
    drop(keeper);
    let (_, mut next) = open(storage, &Opening { run: 3_000_000, ..SMALL });
    assert_eq!((next.end, next.lines.len()), (End::Killed, 0));
    assert_eq!(shown(&mut next.engine), shown(&mut opened.engine));
    opened
}

#[test]
fn each_byte_of_a_journal_may_change() {
    for closed in [false, true] {
        let (files, had) = journal(closed);
        assert!(files.len() > 2, "{:?}", files.keys());
        for (name, bytes) in &files {
            for at in 0..bytes.len() {
                let mut damaged = files.clone();
                damaged.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
                let opened = start(&on(&damaged), &damaged, &had);
                // The last block may look like one that was being written.
                let expected = match name.as_str() {
                    "secret.weir" if closed => End::Closed,
                    "secret.weir" => End::Killed,
                    _ => End::Lossy,
                };
                let told = opened.end == expected && !opened.lines.is_empty();
                assert!(told || name != "secret.weir");
                assert!(told || opened.end == End::Killed, "{name} {at}: {:?}", opened.end);
            }
        }
    }
}

#[test]
fn each_file_of_a_journal_may_be_cut_off() {
    let (files, had) = journal(false);
    for (name, bytes) in &files {
        for length in 0..bytes.len() {
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap().truncate(length);
            start(&on(&damaged), &damaged, &had);
        }
    }
}

#[test]
fn a_log_that_is_cut_off_is_not_taken_for_the_good_end_before_it() {
    let (before, had) = journal(true);
    let storage = on(&before);
    let (mut keeper, mut opened) = open(&storage, &OPENING);
    assert_eq!(opened.end, End::Closed);
    let run = opened.engine.run();
    keep(&mut keeper, &mut opened.engine, "a", 77);
    drop(keeper);
    let files = storage.contents();
    let added: Vec<&String> = files.keys().filter(|name| !before.contains_key(*name)).collect();
    let [log] = added[..] else { panic!("{added:?}") };
    for length in 0..files[log].len() {
        let mut damaged = files.clone();
        damaged.get_mut(log).unwrap().truncate(length);
        let (_, mut opened) = open(&on(&damaged), &Opening { run: 3_000_000, ..OPENING });
        assert_eq!(shown(&mut opened.engine), had);
        // The record was seen by subscribers, and its sequence is given once more.
        assert_ne!(opened.engine.run(), run, "{length}");
    }
}

#[test]
fn files_of_others_are_set_aside() {
    let (files, had) = journal(true);
    for name in files.keys() {
        let is_secret = name.starts_with("secret");
        let kind = match name {
            _ if is_secret => Kind::Secret,
            _ if name.starts_with("log") => Kind::Log,
            _ => Kind::Snapshot,
        };
        let mut newer = kind.header();
        newer[8] = 200;
        let checksum = crc32fast::hash(&newer[..12]);
        newer[12..].copy_from_slice(&checksum.to_le_bytes());
        let newer = [&newer[..], &files[name][16..]].concat();
        for other in [newer, b"#!/bin/sh\necho this is something else\n".to_vec()] {
            let mut damaged = files.clone();
            damaged.insert(name.clone(), other);
            let storage = on(&damaged);
            let opened = start(&storage, &damaged, &had);
            // The snapshot has the secret too.
            let end = if is_secret { End::Closed } else { End::Lossy };
            assert_eq!((opened.end, asides(&storage).len()), (end, 1), "{name}");
            let of_it = opened.lines.iter().filter(|line| line.contains(name)).count();
            assert_eq!(of_it, 1, "{:?}", opened.lines);
        }
    }
}

#[test]
fn no_file_can_be_read() {
    let (files, _) = journal(true);
    let damaged: Files = files.keys().map(|name| (name.clone(), vec![7; 100])).collect();
    let storage = on(&damaged);
    let opened = start(&storage, &damaged, &Vec::new());
    assert_eq!((opened.end, asides(&storage).len()), (End::Lossy, files.len()));
}

#[test]
fn a_segment_that_follows_a_later_one_is_read_first() {
    let (files, had) = journal(true);
    let logs: Vec<&String> = files.keys().filter(|name| name.starts_with("log")).collect();
    let mut swapped = files.clone();
    swapped.insert(logs[0].clone(), files[logs[1]].clone());
    swapped.insert(logs[1].clone(), files[logs[0]].clone());
    let (_, mut opened) = open(&on(&swapped), &SMALL);
    assert_eq!(shown(&mut opened.engine), had);
}

#[test]
fn directories_under_the_names_of_files_are_passed_over() {
    let (files, had) = journal(true);
    let storage = on(&files);
    storage.files().others = vec!["log-0000000040.weir".into(), "snapshot-0000000041.weir".into()];
    let (mut keeper, mut opened) = open(&storage, &SMALL);
    assert_eq!((opened.end, opened.lines.len()), (End::Closed, 2));
    assert_eq!(shown(&mut opened.engine), had);
    keeper.snapshot_all(&mut opened.engine).unwrap();
}

#[test]
fn a_start_that_is_killed_finds_the_same_damage_again() {
    let (files, had) = journal(true);
    for name in files.keys() {
        let mut damaged = files.clone();
        damaged.insert(name.clone(), vec![9; 50]);
        for power in [false, true] {
            for steps in 0.. {
                let storage = on(&damaged);
                storage.files().crash_in = Some(steps);
                let arc = std::sync::Arc::new(storage.clone());
                let engine = || {
                    Engine::new(crate::engine::Limits::default().with_cache(1 << 20), 9, [7; 32])
                };
                let opened = Keeper::open(arc.clone(), engine(), &SMALL);
                if opened.is_ok_and(|(_, opened)| opened.failed.is_none()) {
                    assert!(steps > 3);
                    break;
                }
                if power {
                    storage.lose_power();
                } else {
                    storage.restart();
                }
                let (_, mut opened) =
                    Keeper::open(arc, engine(), &Opening { run: 4_000_000, ..SMALL }).unwrap();
                assert!(!asides(&storage).is_empty(), "{name} after {steps} steps");
                // It may have been killed when a snapshot had taken the place of the file.
                let lossy = name == "secret.weir"
                    || opened.end == End::Lossy
                    || opened.engine.past_runs().iter().any(|past| past.lossy);
                assert!(lossy, "{name} after {steps} steps: {:?}", opened.end);
                for message in shown(&mut opened.engine) {
                    assert!(had.contains(&message));
                }
            }
        }
    }
}

#[test]
fn an_error_names_its_file() {
    let path = std::env::temp_dir().join(format!("weir-journal-{}", std::process::id()));
    let directory = Directory::open(path.clone()).unwrap();
    let name = "log-0000000001.weir";
    let mut errors = vec![directory.open(name).err().unwrap(), directory.remove(name).unwrap_err()];
    errors.push(directory.link(name, "x").unwrap_err());
    drop(directory.create(name).unwrap());
    errors.push(directory.create(name).err().unwrap());
    std::fs::create_dir(path.join("log-0000000002.weir")).unwrap();
    assert_eq!(directory.names().unwrap(), [name]);
    assert_eq!(directory.other_names().unwrap(), ["log-0000000002.weir"]);
    std::fs::remove_dir_all(&path).unwrap();
    for error in errors {
        assert!(
            error.to_string().contains("log-0000000001.weir") || error.to_string().contains('x')
        );
    }
}
