//! Reading a journal: the newest snapshot, and the log after it.
//!
//! All that can be read is read. A file with damage keeps a second name, so that nothing is lost when
//! the journal removes it later, and a line says what is missing.

use super::findings::{Faults, Holes};
use super::format::block::{BlockKind, BlockReader, HEAD};
use super::format::header::{HEADER, HeaderError, Kind};
use super::format::note::Note;
use super::format::record::RecordReader;
use super::format::{Malformed, part};
use super::log::Segment;
use super::names::Name;
use super::storage::Storage;
use crate::engine::{Engine, HIGHEST, Part, PastRun};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{self, Read as _};

/// How the log before this start has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// There was none.
    New,
    /// In good order: everything that was accepted is there.
    Closed,
    /// The process has ended, and the machine has not: everything that was acknowledged is there.
    Killed,
    /// The machine has stopped, or something is damaged: acknowledged publications may be missing.
    Lossy,
}

/// The result of reading a journal.
pub(crate) struct Recovered {
    pub(crate) engine: Engine,
    /// The number of the last record that was read. Restoring may have made more.
    pub(crate) recorded: u64,
    pub(crate) segments: Vec<Segment>,
    /// The number of the snapshot that was read.
    pub(crate) snapshot: Option<u64>,
    /// Its length, bytes.
    pub(crate) snapshot_bytes: u64,
    /// The number that the next file has at least.
    pub(crate) next: u64,
    pub(crate) end: End,
    /// Lines for the operator: what could not be read, and where it is.
    pub(crate) lines: Vec<String>,
}

struct Reading<'a> {
    storage: &'a dyn Storage,
    engine: Engine,
    // Records below this are in the snapshot.
    from: u64,
    // The next record that is expected.
    expected: u64,
    // The last record that the snapshot had when it began.
    captured: u64,
    // The snapshot's length, bytes.
    snapshot_bytes: u64,
    holes: Holes,
    // Segments after the one that is read, and how often they were searched.
    later: VecDeque<Name>,
    searches: usize,
    missing: bool,
    closed: bool,
    any: bool,
    // The machine's name of its boot, when the last daemon began to write; and whether it synced
    // before each receipt.
    boot: Option<(String, bool)>,
    lines: Vec<String>,
}

/// Reads a journal into an engine, which has to be new. `boot` names the time since the machine was
/// started.
pub(crate) fn recover(
    storage: &dyn Storage,
    mut engine: Engine,
    boot: &str,
) -> io::Result<Recovered> {
    engine.begin_restoring();
    let mut reading = Reading {
        storage,
        engine,
        from: 0,
        expected: 1,
        captured: 0,
        snapshot_bytes: 0,
        holes: Holes::default(),
        later: VecDeque::new(),
        searches: 0,
        missing: false,
        closed: false,
        any: false,
        boot: None,
        lines: Vec::new(),
    };
    let parse = |names: Vec<String>| -> Vec<Name> {
        names.iter().filter_map(|name| Name::parse(name)).collect()
    };
    let (mut names, others) = (parse(storage.names()?), parse(storage.other_names()?));
    names.sort_unstable();
    let all = names.iter().chain(&others);
    let next = all.map(|name| name.number() + 1).max().unwrap_or(1);
    for name in others {
        reading.lines.push(format!("{name} is not a file, and is passed over"));
    }
    for name in names.iter().filter(|name| matches!(name, Name::Partial(_))) {
        storage.remove(&name.to_string())?;
    }
    let mut snapshot = None;
    for name in names.iter().rev() {
        if let Name::Snapshot(number) = name {
            if snapshot.is_none() && reading.snapshot(*name)? {
                snapshot = Some(*number);
            } else if snapshot.is_some() {
                // An older one, which a newer one has replaced.
                storage.remove(&name.to_string())?;
            }
        }
    }
    let mut segments = Vec::new();
    reading.later = names.into_iter().filter(|name| matches!(name, Name::Log(_))).collect();
    while let Some(name) = reading.later.pop_front() {
        let (number, (bytes, last)) = (name.number(), reading.segment(name)?);
        segments.push(Segment { number, bytes, last });
    }
    reading.end();
    let snapshot_bytes = reading.snapshot_bytes;
    let Reading { mut engine, missing, closed, any, boot: before, lines, .. } = reading;
    let same_boot =
        before.is_some_and(|(before, always)| always || (!boot.is_empty() && before == boot));
    let end = match (any || missing || snapshot.is_some(), missing) {
        (false, _) => End::New,
        (true, false) if closed => End::Closed,
        (true, false) if same_boot => End::Killed,
        (true, _) => End::Lossy,
    };
    // The files may be in the system's memory only, and the new run builds on them.
    for name in parse(storage.names()?) {
        storage.sync(&name.to_string())?;
    }
    let recorded = engine.recorded();
    engine.make_records();
    engine.end_restoring();
    Ok(Recovered { engine, recorded, segments, snapshot, snapshot_bytes, next, end, lines })
}

/// Maximum number of segments that are searched for records that are missing.
const SEARCHES: usize = 256;

impl Reading<'_> {
    // Reads a snapshot. Returns whether it was one.
    fn snapshot(&mut self, name: Name) -> io::Result<bool> {
        let mut file = self.storage.open(&name.to_string())?;
        let header = read_header(&mut file)?;
        if let Err(error) = Kind::Snapshot.check(&header) {
            self.pass_over(name, &[error.to_string()])?;
            return Ok(false);
        }
        let mut blocks = BlockReader::new(file, HEADER as u64);
        let mut faults = Faults { incomplete: true, ..Faults::default() };
        let (mut begun, mut bytes) = (false, HEADER as u64);
        while let Some(block) = blocks.next()? {
            bytes += (block.body.len() + HEAD) as u64;
            let body = Bytes::copy_from_slice(block.body);
            let Ok(part) = part::decode(&body) else {
                faults.malformed += 1;
                continue;
            };
            let fits = match &part {
                Part::Engine(state) => {
                    let recorded = state.recorded;
                    let fits = !begun && self.engine.restore_part(part);
                    if fits {
                        // Unless the last part says otherwise.
                        (self.from, self.captured) = (recorded + 1, recorded);
                        begun = true;
                    }
                    fits
                }
                // Without its first part it is of no use.
                _ if !begun => break,
                Part::End { records_from, .. } => {
                    let from = *records_from;
                    let fits = from > 0 && from <= self.captured + 1;
                    if fits {
                        self.from = from;
                        faults.incomplete = false;
                    }
                    fits & self.engine.restore_part(part)
                }
                _ => self.engine.restore_part(part),
            };
            faults.unfit += u64::from(!fits);
        }
        self.expected = self.from.max(1);
        if !begun {
            self.pass_over(name, &["its first part is damaged".into()])?;
            return Ok(false);
        }
        self.snapshot_bytes = bytes;
        self.keep_aside(name, &faults.reasons(blocks.damage()))?;
        Ok(true)
    }

    // Reads a segment of the log. Returns its length, and the number of its last record.
    fn segment(&mut self, name: Name) -> io::Result<(u64, u64)> {
        let mut file = self.storage.open(&name.to_string())?;
        let header = read_header(&mut file)?;
        // A daemon began to write it after the one before had closed. Even if nothing of it can be
        // read, it may have had records that subscribers have seen.
        self.closed = false;
        if header.len() < HEADER && Kind::Log.header().starts_with(&header) {
            // It was created when the daemon was killed, or the disk full, or it was cut off.
            return Ok((header.len() as u64, self.expected - 1));
        }
        let mut faults = Faults::default();
        if let Err(error) = Kind::Log.check(&header) {
            // The rest may be intact, if it is ours.
            let ours = header.len() == HEADER && header[..8] == Kind::Log.header()[..8];
            if !ours || matches!(error, HeaderError::Newer(_)) {
                self.pass_over(name, &[error.to_string()])?;
                return Ok((0, self.expected - 1));
            }
            faults.header = Some(error);
        }
        let mut blocks = BlockReader::new(file, HEADER as u64);
        let mut bytes = HEADER as u64;
        while let Some(block) = blocks.next()? {
            bytes += (block.body.len() + HEAD) as u64;
            let body = Bytes::copy_from_slice(block.body);
            let (kind, first) = (block.kind, block.first);
            self.any = true;
            self.closed = false;
            let read = match kind {
                1 => self.records(&body, first, &mut faults),
                3 => Note::decode(&body).and_then(|note| self.note(note)),
                _ => Err(Malformed),
            };
            faults.malformed += u64::from(read.is_err());
        }
        // The end of a segment may be torn, when a daemon was killed or a disk was full. Its
        // records were not acknowledged, or are in the next segment.
        bytes += blocks.torn() + blocks.damage().map_or(0, |(bytes, _)| bytes);
        self.keep_aside(name, &faults.reasons(blocks.damage()))?;
        Ok((bytes, self.expected - 1))
    }

    fn records(&mut self, body: &Bytes, first: u64, faults: &mut Faults) -> Result<(), Malformed> {
        let mut records = RecordReader::new(body, first)?;
        while let Some((number, record)) = records.next()? {
            if !(1..HIGHEST).contains(&number) {
                return Err(Malformed);
            }
            if number > self.expected {
                self.search(number);
            }
            if number > self.expected {
                self.holes.push(self.expected..number);
            }
            // Blocks that were written again after an error are known.
            if number >= self.expected.max(self.from) {
                faults.unfit += u64::from(!self.engine.restore(number, &record));
            } else if self.holes.contains(number) {
                faults.late += 1;
            }
            self.expected = self.expected.max(number + 1);
        }
        Ok(())
    }

    // Searches later segments for the records before one. Records whose sync failed were written
    // again there, and a part of the first attempt may have survived.
    fn search(&mut self, until: u64) {
        for jumps in [false, true] {
            for at in 0..self.later.len() {
                if self.expected >= until || self.searches == SEARCHES {
                    return;
                }
                self.searches += 1;
                // An unreadable file is found when its turn comes.
                let _ = self.search_in(self.later[at], until, jumps);
            }
        }
    }

    fn search_in(&mut self, name: Name, until: u64, jumps: bool) -> io::Result<()> {
        let mut file = self.storage.open(&name.to_string())?;
        if Kind::Log.check(&read_header(&mut file)?).is_err() {
            return Ok(());
        }
        let mut blocks = BlockReader::new(file, HEADER as u64);
        while let Some(block) = blocks.next()? {
            if block.kind != BlockKind::Records as u8 || block.first >= until {
                continue;
            }
            let (first, body) = (block.first, Bytes::copy_from_slice(block.body));
            let Ok(mut records) = RecordReader::new(&body, first) else { continue };
            while let Ok(Some((number, record))) = records.next() {
                let fits = number == self.expected || (jumps && number > self.expected);
                if !fits || number >= until {
                    continue;
                }
                if number > self.expected {
                    self.holes.push(self.expected..number);
                }
                if number >= self.from {
                    self.engine.restore(number, &record);
                }
                self.expected = number + 1;
            }
        }
        Ok(())
    }

    fn note(&mut self, note: Note) -> Result<(), Malformed> {
        match note {
            Note::Opened { run: 0, .. } => return Err(Malformed),
            Note::Opened { run, past, boot, always } => {
                self.boot = Some((boot, always));
                if let Some(past) = past {
                    self.engine.renew_as(run, past);
                }
            }
            Note::Closed => self.closed = true,
        }
        Ok(())
    }

    // Everything was read.
    fn end(&mut self) {
        if self.holes.records > 0 {
            let Holes { ranges, records } = &self.holes;
            let places = match ranges.len() {
                1 => "1 place".into(),
                places => format!("{places} places"),
            };
            self.lines.push(format!("{records} records of the log are missing, in {places}"));
            self.missing = true;
        }
        // The snapshot was complete only when these records were kept.
        let missing = self.engine.recorded().saturating_sub(self.captured.max(self.expected - 1));
        if missing > 0 {
            self.lines.push(format!("the last {missing} records of the log are missing"));
            self.missing = true;
        }
    }

    // Nothing of a file can be read. It has a second name, which stays when the next snapshot takes
    // its place. Until then it keeps the first one too, so that another start finds the same.
    fn pass_over(&mut self, name: Name, why: &[String]) -> io::Result<()> {
        let aside = self.link(name)?;
        let why = why.join("; ");
        self.lines.push(format!("{name} cannot be read: {why}. It is kept as {aside}"));
        Ok(())
    }

    // Gives a file a second name, if some of it is of no use.
    fn keep_aside(&mut self, name: Name, why: &[String]) -> io::Result<()> {
        if !why.is_empty() {
            let (aside, why) = (self.link(name)?, why.join("; "));
            let line = format!("a part of {name} cannot be read: {why}. It is kept as {aside} too");
            self.lines.push(line);
        }
        Ok(())
    }

    fn link(&mut self, name: Name) -> io::Result<String> {
        self.missing = true;
        let aside = self.free_name(name)?;
        self.storage.link(&name.to_string(), &aside)?;
        Ok(aside)
    }

    fn free_name(&self, name: Name) -> io::Result<String> {
        let mut names = self.storage.names()?;
        names.extend(self.storage.other_names()?);
        let aside = (1_u64..).map(|n| format!("{name}.aside-{n}"));
        aside
            .take(names.len() + 1)
            .find(|aside| !names.contains(aside))
            .ok_or_else(|| io::Error::other("no name is free"))
    }
}

impl Engine {
    // Begins the run that a daemon has begun when it had read everything before this place.
    fn renew_as(&mut self, run: u64, past: PastRun) {
        let known = self.run() == run || self.past_runs().iter().any(|known| known.run == run);
        if !known && self.run() == past.run {
            self.renew(run, past.lossy || self.position() < past.through);
        }
    }
}

fn read_header(file: &mut impl io::Read) -> io::Result<Vec<u8>> {
    let mut header = Vec::with_capacity(HEADER);
    file.take(HEADER as u64).read_to_end(&mut header)?;
    Ok(header)
}
