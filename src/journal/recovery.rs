//! Reading a journal: the newest snapshot, and the log after it.
//!
//! All that can be read is read. A file with damage keeps a second name, so that nothing is lost when
//! the journal removes it later, and a line says what is missing.

use super::format::block::BlockReader;
use super::format::header::{HEADER, Kind};
use super::format::note::Note;
use super::format::record::RecordReader;
use super::format::{Malformed, part};
use super::log::Segment;
use super::names::Name;
use super::storage::Storage;
use crate::engine::{Engine, Part, PastRun};
use bytes::Bytes;
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
    let (from, expected, lines) = (0, 1, Vec::new());
    let (missing, closed, any, boot_before) = (false, false, false, None);
    let mut reading =
        Reading { storage, engine, from, expected, missing, closed, any, boot: boot_before, lines };
    let mut names: Vec<Name> =
        storage.names()?.iter().filter_map(|name| Name::parse(name)).collect();
    names.sort_unstable();
    let next = names.iter().map(|name| name.number() + 1).max().unwrap_or(1);
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
    for name in names {
        if let Name::Log(number) = name {
            let (bytes, last) = reading.segment(name)?;
            segments.push(Segment { number, bytes, last });
        }
    }
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
    for name in storage.names()? {
        if Name::parse(&name).is_some() {
            storage.sync(&name)?;
        }
    }
    let recorded = engine.recorded();
    engine.make_records();
    engine.end_restoring();
    Ok(Recovered { engine, recorded, segments, snapshot, next, end, lines })
}

impl Reading<'_> {
    // Reads a snapshot. Returns whether it was one.
    fn snapshot(&mut self, name: Name) -> io::Result<bool> {
        let mut file = self.storage.open(&name.to_string())?;
        let header = read_header(&mut file)?;
        if let Err(error) = Kind::Snapshot.check(&header) {
            self.set_aside(name, &error.to_string())?;
            self.missing = true;
            return Ok(false);
        }
        let mut blocks = BlockReader::new(file, HEADER as u64);
        let (mut begun, mut ended, mut unfit) = (false, false, 0);
        while let Some(block) = blocks.next()? {
            let body = Bytes::copy_from_slice(block.body);
            let Ok(part) = part::decode(&body) else {
                unfit += 1;
                continue;
            };
            match &part {
                Part::Engine(state) => {
                    // Unless the last part says otherwise.
                    self.from = state.recorded.saturating_add(1);
                    begun = true;
                }
                // Without its first part it is of no use.
                _ if !begun => break,
                Part::End { records_from, .. } => {
                    self.from = *records_from;
                    ended = true;
                }
                _ => {}
            }
            unfit += u64::from(!self.engine.restore_part(part));
        }
        self.expected = self.from;
        let damage = blocks.damage();
        if !begun {
            self.set_aside(name, "its first part is damaged")?;
        } else if let Some((bytes, at)) = damage {
            self.keep_aside(name, &format!("{bytes} bytes from byte {at} on are damaged"))?;
        } else if !ended || unfit > 0 {
            self.keep_aside(name, "some of its parts are missing, or do not fit")?;
        }
        self.missing |= !begun || !ended || unfit > 0 || damage.is_some();
        Ok(begun)
    }

    // Reads a segment of the log. Returns its length, and the number of its last record.
    fn segment(&mut self, name: Name) -> io::Result<(u64, u64)> {
        let mut file = self.storage.open(&name.to_string())?;
        let header = read_header(&mut file)?;
        if header.len() < HEADER && Kind::Log.header().starts_with(&header) {
            // It was created when the daemon was killed, or the disk full. It has nothing.
            return Ok((header.len() as u64, self.expected.saturating_sub(1)));
        }
        if let Err(error) = Kind::Log.check(&header) {
            // The rest may be intact, if it is ours.
            let foreign = header.get(..8).is_none_or(|magic| magic != &Kind::Log.header()[..8]);
            self.missing = true;
            if foreign
                || header.len() < HEADER
                || matches!(error, super::format::header::HeaderError::Newer(_))
            {
                self.set_aside(name, &error.to_string())?;
                return Ok((0, self.expected.saturating_sub(1)));
            }
            self.keep_aside(name, &error.to_string())?;
        }
        let mut blocks = BlockReader::new(file, HEADER as u64);
        let (mut bytes, mut unfit) = (HEADER as u64, 0);
        while let Some(block) = blocks.next()? {
            bytes += (block.body.len() + super::format::block::HEAD) as u64;
            let body = Bytes::copy_from_slice(block.body);
            let (kind, first) = (block.kind, block.first);
            self.any = true;
            self.closed = false;
            let read = match kind {
                1 => self.records(&body, first),
                3 => Note::decode(&body).map(|note| self.note(note)),
                _ => Err(Malformed),
            };
            unfit += u64::from(read.is_err());
        }
        // The end of a segment may be torn, when a daemon was killed or a disk was full. Its
        // records were not acknowledged, or are in the next segment.
        bytes += blocks.torn();
        if let Some((damaged, at)) = blocks.damage() {
            bytes += damaged;
            self.missing = true;
            self.keep_aside(name, &format!("{damaged} bytes from byte {at} on are damaged"))?;
        }
        if unfit > 0 {
            self.missing = true;
            self.keep_aside(name, &format!("{unfit} blocks of it have another meaning here"))?;
        }
        Ok((bytes, self.expected.saturating_sub(1)))
    }

    fn records(&mut self, body: &Bytes, first: u64) -> Result<(), Malformed> {
        let mut records = RecordReader::new(body, first)?;
        if first > self.expected {
            self.missing = true;
        }
        while let Some((number, record)) = records.next()? {
            // Blocks that were written again after an error are known.
            if number >= self.expected.max(self.from) {
                self.engine.restore(number, &record);
            }
            self.expected = self.expected.max(number.saturating_add(1));
        }
        Ok(())
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Opened { run, past, boot, always } => {
                self.boot = Some((boot, always));
                if let Some(past) = past {
                    self.engine.renew_as(run, past);
                }
            }
            Note::Closed => self.closed = true,
        }
    }

    // Gives a file another name, so that nothing reads it again.
    fn set_aside(&mut self, name: Name, why: &str) -> io::Result<()> {
        let aside = self.free_name(name)?;
        self.storage.rename(&name.to_string(), &aside)?;
        self.lines.push(format!("{name} cannot be read: {why}. It is kept as {aside}"));
        Ok(())
    }

    // Gives a file a second name, which stays when the first one goes.
    fn keep_aside(&mut self, name: Name, why: &str) -> io::Result<()> {
        let aside = self.free_name(name)?;
        self.storage.link(&name.to_string(), &aside)?;
        let line = format!("a part of {name} cannot be read: {why}. It is kept as {aside} too");
        self.lines.push(line);
        Ok(())
    }

    fn free_name(&self, name: Name) -> io::Result<String> {
        let names = self.storage.names()?;
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
