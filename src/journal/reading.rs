//! Reading the files of a journal, one after the other, into an engine.

use super::asides::Asides;
use super::findings::{Faults, Holes};
use super::format::block::{BlockKind, BlockReader, HEAD};
use super::format::header::{HEADER, HeaderError, Kind};
use super::format::note::Note;
use super::format::record::RecordReader;
use super::format::{Malformed, part};
use super::names::Name;
use super::secret_file::Secret;
use super::storage::Storage;
use crate::engine::{Engine, HIGHEST, Part, PastRun};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{self, Read as _};

/// Whether the last daemon has ended in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    No,
    /// Nothing has happened since.
    Here,
    /// These files are a copy, or another daemon has begun since.
    Elsewhere,
}

/// A journal that is being read.
pub(super) struct Reading<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) engine: Engine,
    // Records below this are in the snapshot.
    from: u64,
    /// The next record that is expected.
    pub(super) expected: u64,
    // The last record that the snapshot had when it began.
    captured: u64,
    // The last record of which a note says that it was written before. A log may be missing before one
    // that has no records.
    claimed: u64,
    missing_run: bool,
    /// The snapshot's length, bytes.
    pub(super) snapshot_bytes: u64,
    holes: Holes,
    /// Segments after the one that is read.
    pub(super) later: VecDeque<Name>,
    // How often they were searched.
    searches: usize,
    pub(super) missing: bool,
    pub(super) closed: Closed,
    pub(super) any: bool,
    /// The machine's name of its boot, when the last daemon began to write; and whether it synced
    /// before each receipt.
    pub(super) boot: Option<(String, bool)>,
    /// The secret, if it is known: files of other journals have another one.
    pub(super) secret: Option<Secret>,
    /// The state of the file that has it.
    pub(super) state: Option<u64>,
    pub(super) asides: Asides<'a>,
}

/// Maximum number of segments that are searched for records that are missing.
const SEARCHES: usize = 256;

impl<'a> Reading<'a> {
    /// Begins with an engine that is new.
    pub(super) fn new(storage: &'a dyn Storage, mut engine: Engine) -> Self {
        engine.begin_restoring();
        Self {
            storage,
            engine,
            from: 0,
            expected: 1,
            captured: 0,
            claimed: 0,
            missing_run: false,
            snapshot_bytes: 0,
            holes: Holes::default(),
            later: VecDeque::new(),
            searches: 0,
            missing: false,
            closed: Closed::No,
            any: false,
            boot: None,
            secret: None,
            state: None,
            asides: Asides::new(storage),
        }
    }

    /// Reads a snapshot. Returns whether it was one.
    pub(super) fn snapshot(&mut self, name: Name) -> io::Result<bool> {
        let mut file = self.storage.open(&name.to_string())?;
        let header = read_header(&mut file)?;
        if let Err(error) = Kind::Snapshot.check(&header) {
            self.pass_over(name, &error.to_string())?;
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
                    let journal = Some(Engine::journal_of(&state.secret));
                    let ours = self.secret.is_none_or(|secret| !secret.is_foreign(journal));
                    let fits = !begun && ours && self.engine.restore_part(part);
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
            self.pass_over(name, "its first part is damaged")?;
            return Ok(false);
        }
        self.snapshot_bytes = bytes;
        self.missing |= self.asides.keep(&name.to_string(), &faults.reasons(blocks.damage()))?;
        Ok(true)
    }

    /// Reads a segment of the log. Returns its length, and the number of its last record.
    pub(super) fn segment(&mut self, name: Name) -> io::Result<(u64, u64)> {
        let mut file = self.storage.open(&name.to_string())?;
        let header = read_header(&mut file)?;
        // A daemon began to write it after the one before had closed. Even if nothing of it can be
        // read, it may have had records that subscribers have seen.
        self.closed = Closed::No;
        if header.len() < HEADER && Kind::Log.header().starts_with(&header) {
            // It was created when the daemon was killed, or the disk full, or it was cut off.
            return Ok((header.len() as u64, self.expected - 1));
        }
        let mut faults = Faults::default();
        if let Err(error) = Kind::Log.check(&header) {
            // The rest may be intact, if it is ours.
            let ours = header.len() == HEADER && header[..8] == Kind::Log.header()[..8];
            if !ours || matches!(error, HeaderError::Newer(_)) {
                self.pass_over(name, &error.to_string())?;
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
            self.closed = Closed::No;
            let read = match kind {
                1 => self.records(&body, first, &mut faults),
                3 => {
                    // 0 in logs of early versions.
                    self.claimed = self.claimed.max(first.min(HIGHEST).saturating_sub(1));
                    Note::decode(&body).and_then(|note| self.note(note))
                }
                _ => Err(Malformed),
            };
            faults.malformed += u64::from(read.is_err());
        }
        // The end of a segment may be torn, when a daemon was killed or a disk was full. Its
        // records were not acknowledged, or are in the next segment.
        bytes += blocks.torn() + blocks.damage().map_or(0, |(bytes, _)| bytes);
        self.missing |= self.asides.keep(&name.to_string(), &faults.reasons(blocks.damage()))?;
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
                // Before anything was read, it is not known how a run began.
                let is_first = self.from == 0 && self.expected == 1;
                match past {
                    Some(past) => self.engine.renew_as(run, past),
                    // The journal begins here, and its first snapshot is gone.
                    None if is_first && self.claimed == 0 => self.engine.adopt_run(run),
                    None => {}
                }
                // The log that said how this run began is gone.
                if !is_first && !self.engine.knows_run(run) && !self.missing_run {
                    self.missing_run = true;
                    self.asides
                        .lines
                        .push("a part of the log is missing in which a run began".into());
                }
            }
            Note::Closed => self.closed = Closed::Here,
            Note::ClosedIn { state } if Some(state) == self.state => self.closed = Closed::Here,
            Note::ClosedIn { .. } => self.closed = Closed::Elsewhere,
            // Those of others were set aside.
            Note::Journal { .. } => {}
        }
        Ok(())
    }

    /// Everything was read.
    pub(super) fn end(&mut self) {
        self.missing |= self.missing_run;
        if self.holes.records > 0 {
            let Holes { ranges, records } = &self.holes;
            let places = match ranges.len() {
                1 => "1 place".into(),
                places => format!("{places} places"),
            };
            self.asides
                .lines
                .push(format!("{records} records of the log are missing, in {places}"));
            self.missing = true;
        }
        // The snapshot was complete only when these records were kept.
        let last = self.engine.recorded().max(self.claimed);
        let missing = last.saturating_sub(self.captured.max(self.expected - 1));
        if missing > 0 {
            self.asides.lines.push(format!("the last {missing} records of the log are missing"));
            self.missing = true;
        }
    }

    // Nothing of a file of this journal can be read.
    fn pass_over(&mut self, name: Name, why: &str) -> io::Result<()> {
        self.missing = true;
        self.asides.pass_over(&name.to_string(), why)
    }
}

impl Engine {
    fn knows_run(&self, run: u64) -> bool {
        self.run() == run || self.past_runs().iter().any(|known| known.run == run)
    }

    // Begins the run that a daemon has begun when it had read everything before this place.
    fn renew_as(&mut self, run: u64, past: PastRun) {
        if !self.knows_run(run) && self.run() == past.run {
            let ending = self.ending(past.lossy || self.position() < past.through);
            self.renew_after(run, PastRun { state: past.state, ..ending });
        }
    }
}

fn read_header(file: &mut impl io::Read) -> io::Result<Vec<u8>> {
    let mut header = Vec::with_capacity(HEADER);
    file.take(HEADER as u64).read_to_end(&mut header)?;
    Ok(header)
}
