//! Fuzz target: the files of a journal.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "targets for a fuzzer, not a part of the daemon"
)]

use super::memory::Memory;
use super::{OPENING, publish};
use crate::engine::tests::seeds::Random;
use crate::engine::{Engine, Item, Limits};
use crate::fuzz::Script;
use crate::journal::format::block::{BlockKind, BlockReader, BlockWriter};
use crate::journal::format::header::{HEADER, Kind};
use crate::journal::keeper::{Keeper, Opened, Opening, Sizes};
use crate::journal::recovery::End;
use crate::journal::storage::Storage;
use crate::wire::{Digest, Filter, Lag, Start};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

type Files = BTreeMap<String, Vec<u8>>;

const SMALL: Opening<'static> = Opening { sizes: Sizes { block: 100, segment: 400 }, ..OPENING };

fn engine() -> Engine {
    let mut limits = Limits::default().with_cache(1 << 20);
    limits.topics = 20;
    Engine::new(limits, 1_000_000, [7; 32])
}

// All messages, as a subscriber gets them. A forged file may have another digest than the payload's.
fn shown(engine: &mut Engine, forged: bool) -> Vec<(String, u64, u64, Bytes)> {
    let id = engine.subscribe(Filter::new("**").unwrap(), &Start::All, Lag::Oldest);
    let mut all = Vec::new();
    let mut see = |item: Item<'_>| {
        if let Item::Message(m) = item {
            assert!(forged || Digest::of(&m.payload()) == m.digest());
            all.push((m.topic().to_string(), m.sequence(), m.count(), m.payload()));
        }
    };
    while engine.read(id, 1 << 20, &mut see).unwrap() {}
    engine.unsubscribe(id);
    all
}

fn open(storage: &Memory, opening: &Opening<'_>) -> (Keeper, Opened) {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    Keeper::open(storage, engine(), opening).unwrap()
}

// A journal with a snapshot and segments after it, which the input changes.
fn journal() -> &'static (Files, Vec<(String, u64, u64, Bytes)>) {
    static JOURNAL: OnceLock<(Files, Vec<(String, u64, u64, Bytes)>)> = OnceLock::new();
    JOURNAL.get_or_init(|| {
        let storage = Memory::default();
        let (mut keeper, mut opened) = open(&storage, &SMALL);
        for n in 0..12 {
            let topic = ["a", "b", "a/c"][n as usize % 3];
            let (first, records) = publish(&mut opened.engine, topic, n % 5);
            keeper.keep(5, first, &records).unwrap();
            if n == 5 {
                keeper.snapshot_all(&mut opened.engine).unwrap();
            }
        }
        (storage.contents(), shown(&mut opened.engine, false))
    })
}

// A block of a file, and whether its checksums are to be right.
struct Block {
    kind: u8,
    first: u64,
    body: Vec<u8>,
}

fn blocks(file: &[u8]) -> Vec<Block> {
    let mut reader = BlockReader::new(&file[HEADER..], HEADER as u64);
    let mut all = Vec::new();
    while let Some(block) = reader.next().unwrap() {
        all.push(Block { kind: block.kind, first: block.first, body: block.body.to_vec() });
    }
    all
}

fn seal(kind: Kind, blocks: &[Block]) -> Vec<u8> {
    let mut file = kind.header().to_vec();
    for Block { kind, first, body } in blocks {
        let start = file.len();
        let block = BlockWriter::new(&mut file, BlockKind::Note, *first);
        file[start + 8] = *kind;
        file.extend_from_slice(body);
        block.end(&mut file);
    }
    file
}

fn kind(name: &str) -> Kind {
    match name {
        _ if name.starts_with("log") => Kind::Log,
        _ if name.starts_with("secret") => Kind::Secret,
        _ => Kind::Snapshot,
    }
}

/// Files that the input damages, makes up, cuts off, mixes up, or seals as if they were right. A daemon
/// starts with them, says what it set aside, and goes on, and the next one has the same messages.
/// Without forged checksums these are messages that were published, and the next one finds nothing
/// wrong.
pub(crate) fn recovery(data: &[u8]) {
    let mut script = Script::new(data);
    let script = &mut script;
    let (files, had) = journal();
    let mut files = files.clone();
    let mut forged = false;
    if script.chance(4) {
        files.clear();
        forged = true;
    }
    for _ in 0..50 {
        if script.is_empty() {
            break;
        }
        forged |= change(&mut files, script);
    }
    let storage = Memory::default();
    files.iter().for_each(|(name, bytes)| storage.put(name, bytes.clone()));
    let (mut keeper, mut opened) = open(&storage, &SMALL);
    opened.engine.audit();
    let has = shown(&mut opened.engine, forged);
    assert!(forged || has.iter().all(|message| had.contains(message)), "it was never published");
    for (name, bytes) in storage.contents().iter().filter(|(name, _)| name.contains(".aside-")) {
        let original = name.split(".aside").next().unwrap();
        assert_eq!(files.get(original).or(files.get(name)), Some(bytes), "{name}");
        let told = opened.lines.iter().any(|line| line.contains(&**name));
        assert!(told || files.contains_key(name), "{name}: {:?}", opened.lines);
    }
    let (first, records) = publish(&mut opened.engine, "a", 77);
    keeper.keep(5, first, &records).unwrap();
    drop(keeper);
    let (_, mut next) = open(&storage, &Opening { run: 3_000_000, ..SMALL });
    // A snapshot of which the log was cut off is one that no daemon writes. If somebody has made one,
    // each start says that records are missing.
    assert!(forged || (next.end == End::Killed && next.lines.is_empty()), "{:?}", next.lines);
    assert_eq!(shown(&mut next.engine, forged), shown(&mut opened.engine, forged));
    next.engine.audit();
}

// Changes one file. Returns whether its checksums were made right afterwards.
fn change(files: &mut Files, script: &mut Script<'_>) -> bool {
    let step = script.below(9);
    let number = script.below(6);
    let new = ["log", "snapshot"][script.below(2)];
    let new = format!("{new}-{number:010}.weir");
    let names: Vec<String> = files.keys().cloned().collect();
    let name = match names.len() {
        0 => new.clone(),
        count => names[script.below(count)].clone(),
    };
    let at = |length: usize, script: &mut Script<'_>| {
        let at = usize::from(script.byte()) << 8 | usize::from(script.byte());
        at % length.max(1)
    };
    match step {
        0 => {
            files.insert(new, script.bytes().to_vec());
        }
        1 => {
            if let Some(file) = files.get_mut(&name) {
                let at = at(file.len(), script);
                file.get_mut(at).into_iter().for_each(|byte| *byte ^= script.byte());
            }
        }
        2 => {
            if let Some(file) = files.get_mut(&name) {
                file.truncate(at(file.len(), script));
            }
        }
        3 => {
            if let Some(file) = files.remove(&name) {
                if script.chance(2) {
                    files.insert(new, file);
                }
            }
        }
        4 => {
            if let Some(file) = files.get(&name).cloned() {
                files.insert(new, file);
            }
        }
        5 => {
            if let Some(file) = files.get_mut(&name) {
                let at = at(file.len(), script);
                let bytes = script.bytes().to_vec();
                file.splice(at..at, bytes);
            }
        }
        // From here on the checksums are right, as of a file that somebody has made.
        6 => {
            let block = Block {
                kind: script.below(5) as u8,
                first: script.number(),
                body: script.bytes().to_vec(),
            };
            let mut all =
                files.get(&name).filter(|f| f.len() >= HEADER).map_or(vec![], |f| blocks(f));
            let at = at(all.len() + 1, script);
            all.insert(at, block);
            files.insert(name.clone(), seal(kind(&name), &all));
            return true;
        }
        7 => {
            let Some(file) = files.get(&name).filter(|file| file.len() >= HEADER) else {
                return false;
            };
            let mut all = blocks(file);
            let (block, place) = (script.below(all.len().clamp(1, 256)), script.byte());
            let Some(block) = all.get_mut(block) else { return false };
            match block.body.len() {
                0 => {}
                length => {
                    let place = usize::from(place) % length;
                    let (cut, bytes) = (script.below(4).min(length - place), script.bytes());
                    block.body.splice(place..place + cut, bytes.iter().copied());
                }
            }
            if script.chance(4) {
                block.first = script.number();
            }
            files.insert(name.clone(), seal(kind(&name), &all));
            return true;
        }
        _ => {
            // The blocks of a file in another order, some of them twice or not at all.
            let Some(file) = files.get(&name).filter(|file| file.len() >= HEADER) else {
                return false;
            };
            let all = blocks(file);
            let mut random = Random(u64::from(script.byte()));
            let mut mixed = Vec::new();
            for _ in 0..all.len() {
                let Block { kind, first, body } = &all[random.below(all.len())];
                mixed.push(Block { kind: *kind, first: *first, body: body.clone() });
            }
            files.insert(name.clone(), seal(kind(&name), &mixed));
            return true;
        }
    }
    false
}
