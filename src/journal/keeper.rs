//! A journal that is open: it is written to, and shortened. It knows no threads and no
//! clock.

use super::format::block::{BlockKind, BlockWriter};
use super::format::note::Note;
use super::format::record::RecordWriter;
use super::log::Log;
use super::recovery::{End, Recovered, recover};
use super::secret_file::{self, Secret};
use super::snapshot_file::SnapshotFile;
use super::storage::{Storage, StoredFile};
use crate::engine::{Capture, Engine, PastRun, Record};
use std::io;
use std::sync::Arc;

/// The sizes of a journal's parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Bytes of records after which a block is complete.
    pub(crate) block: usize,
    /// Bytes from which a segment is complete, and the next one begins. The log is shortened by whole
    /// segments.
    pub(crate) segment: u64,
}

/// 256 KiB and 16 MiB.
pub(crate) const SIZES: Sizes = Sizes { block: 256 << 10, segment: 16 << 20 };

/// Number of segments above which a daemon that starts takes a snapshot.
const SEGMENTS: usize = 64;

/// How a journal is opened.
#[derive(Debug, Clone)]
pub(crate) struct Opening<'a> {
    /// The name of the run that begins if the last one has not ended in good order.
    pub(crate) run: u64,
    /// Names the time since the machine was started; empty if that is not known.
    pub(crate) boot: &'a str,
    /// Whether each call of [`Keeper::keep`] syncs.
    pub(crate) always: bool,
    /// Whether publications are accepted while the journal cannot be written.
    pub(crate) goes_on: bool,
    pub(crate) sizes: Sizes,
}

/// A journal that is open.
pub(crate) struct Keeper {
    storage: Arc<dyn Storage>,
    log: Log,
    always: bool,
    block: usize,
    records: RecordWriter,
    blocks: Vec<u8>,
    // The number of the next snapshot.
    next_snapshot: u64,
    snapshot_bytes: u64,
    // As in `Recovered`.
    unlinked: Vec<[String; 2]>,
    secret: Secret,
}

/// The result of opening a journal.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) end: End,
    /// Lines for the operator.
    pub(crate) lines: Vec<String>,
    /// Why it cannot be written at the moment. A snapshot has to be written before publications are
    /// accepted and kept.
    pub(crate) failed: Option<io::Error>,
}

// Returns whether the disk takes a file, and the change of the file with the secret that is to follow.
fn probe(storage: &dyn Storage, number: u64) -> io::Result<()> {
    let mut file = SnapshotFile::create(storage, number)?;
    let synced = file.sync();
    file.abandon(storage);
    synced?;
    match storage.touch(secret_file::NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        touched => touched,
    }
}

impl Keeper {
    /// Reads a journal into an engine, which has to be new, and goes on with it. If it can be read
    /// and not written, such as on a full disk, that is not an error: see [`Opened::failed`].
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        engine: Engine,
        opening: &Opening<'_>,
    ) -> io::Result<(Self, Opened)> {
        let recovered = recover(&*storage, engine, opening.boot)?;
        let Recovered { mut engine, recorded, segments, snapshot, next, end, .. } = recovered;
        let mut lines = recovered.lines;
        let mut past = None;
        if let End::Copied | End::Killed | End::Lossy = end {
            let lossy = end == End::Lossy;
            let mut run = opening.run;
            // As it was before this daemon has written anything.
            let ending = PastRun { state: recovered.state, ..engine.ending(lossy) };
            if !opening.goes_on && probe(&*storage, next).is_err() && ending.state.is_some() {
                // It is known to the next daemon too, if this one ends before the disk is back. Without a
                // secret, nothing would tell it from that of a copy.
                run = ending.unkept();
            }
            past = Some(engine.renew_after(run, ending));
        }
        engine.go_on();
        let mut keeper = Self {
            log: Log::new(segments, next, recorded, opening.sizes.segment),
            storage,
            always: opening.always,
            block: opening.sizes.block,
            records: RecordWriter::default(),
            blocks: Vec::new(),
            next_snapshot: next,
            snapshot_bytes: recovered.snapshot_bytes,
            unlinked: recovered.unlinked,
            secret: recovered.secret,
        };
        if end != End::New {
            // Otherwise the note of an earlier good end would hold when what follows it is lost.
            keeper.log.touch(secret_file::NAME);
        }
        let begun = keeper.begin_run(&engine, past, opening).err();
        let mut failed = recovered.failed.or(begun);
        if failed.is_some() && opening.goes_on && end == End::Closed {
            // Publications of now are shown, and the next daemon does not know of them. So they must
            // not have sequences that the next daemon assigns again.
            let past = Some(engine.renew(opening.run, false));
            engine.go_on();
            let begun = keeper.begin_run(&engine, past, opening).err();
            // An earlier failure still needs a snapshot.
            failed = failed.or(begun);
        }
        // Without a snapshot the log would grow with each start; and what was damaged is written anew. Each
        // start makes a segment, which a daemon that is killed again and again never fills.
        let many = keeper.log.segments() > SEGMENTS;
        if failed.is_none() && (snapshot.is_none() || !lines.is_empty() || many) {
            failed = keeper.snapshot_all(&mut engine).err();
        }
        if end == End::Lossy && lines.is_empty() {
            lines.push("the machine has stopped: its last publications may be missing".into());
        }
        Ok((keeper, Opened { engine, end, lines, failed }))
    }

    // Begins a segment with notes of the run and of the journal. After an error, the next segment
    // begins with them.
    fn begin_run(
        &mut self,
        engine: &Engine,
        past: Option<PastRun>,
        opening: &Opening<'_>,
    ) -> io::Result<()> {
        let (run, boot, always) = (engine.run(), opening.boot.to_owned(), opening.always);
        let opened = Note::Opened { run, past, boot, always };
        self.log.open(&*self.storage, vec![opened, Note::Journal { id: engine.journal() }])
    }

    /// Writes a whole snapshot of an engine that nobody else uses.
    pub(crate) fn snapshot_all(&mut self, engine: &mut Engine) -> io::Result<()> {
        let (mut capture, mut file) = (Capture::new(), self.begin_snapshot()?);
        while let Some(part) = engine.capture(&mut capture) {
            if let Err(error) = file.push(part) {
                // It would take the place that the next attempt needs.
                file.abandon(&*self.storage);
                return Err(error);
            }
        }
        let (bytes, records_from) = (file.bytes(), file.finish(&*self.storage)?);
        for name in self.shorten(bytes, records_from) {
            self.storage.remove(&name)?;
        }
        // A damaged file that comes back after a loss of power would be damage again.
        self.storage.sync_names()
    }

    /// Keeps records, of which the first has the number `first`. When it returns, they survive the
    /// end of the process; and the loss of power, if the journal syncs always.
    ///
    /// After an error, call it again with the same records.
    pub(crate) fn keep(&mut self, now: u64, first: u64, records: &[Record]) -> io::Result<()> {
        let (mut number, mut rest) = (first, records.iter().peekable());
        self.blocks.clear();
        while rest.peek().is_some() {
            let start = self.blocks.len();
            let block = BlockWriter::new(&mut self.blocks, BlockKind::Records, number);
            self.records.begin(&mut self.blocks, now);
            while self.blocks.len() - start < self.block
                && let Some(record) = rest.next()
            {
                self.records.push(&mut self.blocks, record);
                number += 1;
            }
            block.end(&mut self.blocks);
        }
        let last = first + records.len() as u64 - 1;
        self.log.append(&*self.storage, &self.blocks, last)?;
        if self.blocks.capacity() > 4 * self.block {
            self.blocks = Vec::new();
        }
        if self.always {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes everything survive the loss of power.
    ///
    /// After an error nobody knows what is on the disk. So the records since the last sync have to
    /// be kept again, or a snapshot has to be written.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let synced = self.log.sync();
        if synced.is_err() {
            self.log.give_up();
        }
        synced
    }

    /// Another thread could not sync what was written. Later records go to another file: nobody
    /// knows what of this one is on the disk.
    pub(crate) fn sync_failed(&mut self) {
        self.log.give_up();
    }

    /// Returns handles to sync from another thread what was written so far.
    pub(crate) fn begin_sync(&mut self) -> io::Result<Vec<Box<dyn StoredFile>>> {
        if self.log.is_dirty() { self.log.begin_sync() } else { Ok(Vec::new()) }
    }

    /// Returns the bytes of the log since the last snapshot began, and of that snapshot.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.log.bytes(), self.snapshot_bytes)
    }

    /// Begins a snapshot. The records so far are in segments of their own, which it replaces.
    pub(crate) fn begin_snapshot(&mut self) -> io::Result<SnapshotFile> {
        while let Some([name, aside]) = self.unlinked.last() {
            match self.storage.link(name, aside) {
                // A file that is gone needs no second name.
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                    ) =>
                {
                    return Err(error);
                }
                _ => self.unlinked.pop(),
            };
        }
        self.log.begin_segment(&*self.storage)?;
        let number = self.next_snapshot.max(self.log.next());
        self.next_snapshot = number + 1;
        SnapshotFile::create(&*self.storage, number)
    }

    /// Gives up the part of the log that a complete snapshot has. Returns the files to remove.
    pub(crate) fn shorten(&mut self, snapshot_bytes: u64, records_from: u64) -> Vec<String> {
        self.snapshot_bytes = snapshot_bytes;
        self.log.take_before(records_from)
    }

    /// Returns the number of the last record.
    pub(crate) fn recorded(&self) -> u64 {
        self.log.last()
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Ends the journal in good order: everything that was accepted was kept.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.log.sync()?;
        self.storage.sync_names()?;
        let state = match self.storage.state(secret_file::NAME) {
            // The disk was full when the daemon started.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                secret_file::write(&*self.storage, &self.secret)?;
                self.storage.state(secret_file::NAME)?
            }
            state => state?,
        };
        self.log.close(&*self.storage, state)
    }
}
