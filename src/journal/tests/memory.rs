//! Files in memory that fail as a disk does. They remember what was synced.
//!
//! The model is that of POSIX. Without a sync, each sector of a file and each change of a name may
//! be lost with the power, in any order. Bytes that were synced survive, also those
//! that share a sector with later ones. After a sync that failed, nobody knows: a later one reports
//! success, and the bytes may still be missing.

use crate::engine::tests::seeds::Random;
use crate::journal::storage::{Storage, StoredFile};
use crate::wire::Digest;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Debug, Clone, Default)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    // Bytes before this are on the disk, except those of syncs that failed.
    synced: usize,
    unknown: Vec<Range<usize>>,
    id: u64,
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Add(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Remove(name) => drop(names.remove(name)),
        }
    }
}

/// The faults of the disk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// Of a thousand calls, so many fail: appends after a part of it; and so on.
    pub(super) writes: usize,
    pub(super) syncs: usize,
    pub(super) names: usize,
    pub(super) reads: usize,
}

#[derive(Debug)]
pub(super) struct Files {
    pub(super) names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    changes: Vec<NameChange>,
    pub(super) files: Vec<File>,
    /// Names of directories.
    pub(super) others: Vec<String>,
    random: Random,
    pub(super) faults: Faults,
    /// The number of changes until the process ends in the middle of one.
    pub(super) crash_in: Option<usize>,
    pub(super) crashed: bool,
    /// Appends wait while a test holds this.
    pub(super) slow: Arc<Mutex<()>>,
    seed: u64,
    // How often a file was created under a name.
    created: BTreeMap<String, u64>,
    // How often a daemon has touched the file with the secret.
    touched: u64,
}

/// A storage in memory. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Memory(Arc<Mutex<Files>>);

impl Default for Memory {
    fn default() -> Self {
        Self::new(1)
    }
}

fn failed(what: &str) -> io::Error {
    io::Error::other(format!("{what} failed, as the test wants"))
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Files {
    // Storages with the same seed stand for the same directory: a test that puts the files of one into
    // another continues it. With another seed, these files are copies.
    fn next_id(&mut self, name: &str) -> u64 {
        let nth = self.created.entry(name.into()).or_default();
        *nth += 1;
        let name = format!("{nth} {name}");
        self.number_of(&name)
    }

    fn number_of(&self, name: &str) -> u64 {
        let digest = Digest::of(format!("{} {name}", self.seed).as_bytes()).0;
        // Each has the same length in a note.
        digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte)) | 1 << 63
    }

    // Before each change. The last one before the process ends is done in part.
    fn step(&mut self, fails: usize, what: &str) -> Result<(), (bool, io::Error)> {
        if self.crashed {
            return Err((false, failed(what)));
        }
        if let Some(left) = &mut self.crash_in {
            if *left == 0 {
                self.crashed = true;
                return Err((true, failed(what)));
            }
            *left -= 1;
        }
        if fails > 0 && self.random.below(1000) < fails {
            return Err((true, failed(what)));
        }
        Ok(())
    }

    fn change(&mut self, change: NameChange) -> io::Result<()> {
        if let Err((partly, error)) = self.step(self.faults.names, "a change of a name") {
            // It may have happened all the same.
            if partly && self.random.below(4) == 0 {
                change.apply(&mut self.names);
                self.changes.push(change);
            }
            return Err(error);
        }
        change.apply(&mut self.names);
        self.changes.push(change);
        Ok(())
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(not_found)
    }

    fn sync(&mut self, file: usize) -> io::Result<()> {
        let stepped = self.step(self.faults.syncs, "a sync");
        let (random, crashed) = (self.random.below(3), self.crashed);
        let file = &mut self.files[file];
        let unsynced = file.synced..file.bytes.len();
        match stepped {
            Ok(()) => {
                file.synced = file.bytes.len();
                Ok(())
            }
            Err((partly, error)) => {
                if partly && !crashed && random > 0 && !unsynced.is_empty() {
                    // The system takes these bytes for written.
                    file.synced = file.bytes.len();
                    file.unknown.push(unsynced);
                }
                Err(error)
            }
        }
    }
}

impl Memory {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Files {
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            changes: Vec::new(),
            files: Vec::new(),
            others: Vec::new(),
            random: Random(seed),
            faults: Faults::default(),
            crash_in: None,
            crashed: false,
            slow: Arc::default(),
            seed,
            created: BTreeMap::new(),
            touched: 0,
        })))
    }

    pub(super) fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap()
    }

    /// Puts a file there, also on the disk.
    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut files = self.files();
        let (file, synced) = (files.files.len(), bytes.len());
        let id = files.next_id(name);
        files.files.push(File { bytes, synced, unknown: Vec::new(), id });
        files.names.insert(name.into(), file);
        files.synced_names.insert(name.into(), file);
    }

    /// Returns the files and what they have.
    pub(super) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let files = self.files();
        let names = files.names.iter();
        names.map(|(name, file)| (name.clone(), files.files[*file].bytes.clone())).collect()
    }

    /// Returns whether bytes may be missing of which the system says that they were written.
    pub(super) fn is_unknown(&self) -> bool {
        self.files().files.iter().any(|file| !file.unknown.is_empty())
    }

    /// The process has ended, and the system has not: everything that was written is there.
    pub(super) fn restart(&self) {
        let mut files = self.files();
        (files.crashed, files.crash_in, files.faults) = (false, None, Faults::default());
    }

    /// The machine has stopped.
    pub(super) fn lose_power(&self) {
        self.restart();
        let mut guard = self.files();
        let files = &mut *guard;
        let (random, mut names) = (&mut files.random, files.synced_names.clone());
        let how = random.below(4);
        let through = random.below(files.changes.len() + 1);
        for (at, change) in files.changes.iter().enumerate() {
            let survives = match how {
                0 => false,
                1 => true,
                2 => at < through,
                _ => random.below(2) == 0,
            };
            if survives {
                change.apply(&mut names);
            }
        }
        for file in &mut files.files {
            lose(file, random);
        }
        (files.names, files.synced_names, files.changes) = (names.clone(), names, Vec::new());
    }
}

// A file after the loss of power.
fn lose(file: &mut File, random: &mut Random) {
    let sector = [64, 512, 4096][random.below(3)];
    for range in std::mem::take(&mut file.unknown) {
        lose_sectors(&mut file.bytes[range], sector, random);
    }
    let unsynced = file.bytes.len() - file.synced;
    let keeps = match random.below(6) {
        0 => 0,
        1 => unsynced,
        2 => random.below(unsynced + 1),
        3 => random.below(unsynced / sector + 1) * sector,
        _ => {
            lose_sectors(&mut file.bytes[file.synced..], sector, random);
            if random.below(2) == 0 { unsynced } else { random.below(unsynced + 1) }
        }
    };
    file.bytes.truncate(file.synced + keeps);
    file.synced = file.bytes.len();
}

// Each sector is there, or not: zeros, or something else.
fn lose_sectors(bytes: &mut [u8], sector: usize, random: &mut Random) {
    let survives = 1 + random.below(9);
    let other = if random.below(4) == 0 { random.below(256) as u8 } else { 0 };
    for sector in bytes.chunks_mut(sector) {
        if random.below(10) >= survives {
            sector.fill(other);
        }
    }
}

struct Handle {
    memory: Memory,
    file: usize,
}

impl Storage for Memory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut files = self.files();
        let faults = files.faults.reads;
        if files.crashed || (faults > 0 && files.random.below(1000) < faults) {
            return Err(failed("a list"));
        }
        Ok(files.names.keys().cloned().collect())
    }

    fn other_names(&self) -> io::Result<Vec<String>> {
        Ok(self.files().others.clone())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let mut files = self.files();
        let faults = files.faults.reads;
        if files.crashed || (faults > 0 && files.random.below(1000) < faults) {
            return Err(failed("an open"));
        }
        let file = files.find(name)?;
        let bytes = files.files[file].bytes.clone();
        if faults > 0 && files.random.below(1000) < faults {
            let at = files.random.below(bytes.len() + 1) as u64;
            return Ok(Box::new(Cursor::new(bytes).take(at).chain(Broken)));
        }
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StoredFile>> {
        let mut files = self.files();
        if files.names.contains_key(name) || files.others.iter().any(|other| other == name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let file = files.files.len();
        let id = files.next_id(name);
        files.files.push(File { id, ..File::default() });
        files.change(NameChange::Add(name.into(), file))?;
        Ok(Box::new(Handle { memory: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.find(from)?;
        files.change(NameChange::Rename(from.into(), to.into(), file))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.find(from)?;
        files.change(NameChange::Add(to.into(), file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut files = self.files();
        files.find(name)?;
        files.change(NameChange::Remove(name.into()))
    }

    fn id(&self, name: &str) -> io::Result<u64> {
        let files = self.files();
        Ok(files.files[files.find(name)?].id)
    }

    // Only files that are not written any more are asked for it.
    fn state(&self, name: &str) -> io::Result<u64> {
        let files = self.files();
        files.find(name)?;
        Ok(files.number_of(&format!("{name} {}", files.touched)))
    }

    fn touch(&self, name: &str) -> io::Result<()> {
        let mut files = self.files();
        files.find(name)?;
        let faults = files.faults.syncs;
        let stepped = files.step(faults, "a touch");
        // After a failure it may have happened all the same.
        if !matches!(stepped, Err((false, _))) && (stepped.is_ok() || files.random.below(2) == 0) {
            files.touched += 1;
        }
        stepped.map_err(|(_, error)| error)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.find(name)?;
        files.sync(file)
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut files = self.files();
        let faults = files.faults.syncs;
        files.step(faults, "a sync of names").map_err(|(_, error)| error)?;
        files.synced_names = files.names.clone();
        files.changes.clear();
        Ok(())
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(failed("a read"))
    }
}

impl StoredFile for Handle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let slow = self.memory.files().slow.clone();
        drop(slow.lock());
        let mut files = self.memory.files();
        let faults = files.faults.writes;
        let stepped = files.step(faults, "an append");
        let part = match &stepped {
            Ok(()) => bytes.len(),
            Err((true, _)) => files.random.below(bytes.len() + 1),
            Err((false, _)) => 0,
        };
        files.files[self.file].bytes.extend_from_slice(&bytes[..part]);
        stepped.map_err(|(_, error)| error)
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        let mut files = self.memory.files();
        // A disk that is full does it.
        let faults = files.faults.names;
        files.step(faults, "a cut").map_err(|(_, error)| error)?;
        let file = &mut files.files[self.file];
        file.bytes.truncate(bytes as usize);
        file.synced = file.synced.min(file.bytes.len());
        file.unknown.iter_mut().for_each(|range| range.end = range.end.min(file.bytes.len()));
        file.unknown.retain(|range| !range.is_empty());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.memory.files().sync(self.file)
    }

    fn another(&self) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(Self { memory: self.memory.clone(), file: self.file }))
    }
}
