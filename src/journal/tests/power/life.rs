//! One daemon, from its start to its end: what the threads of a journal do, a step at a time.

use super::facts::{Facts, Promise};
use super::world::Sync;
use crate::engine::tests::seeds::Random;
use crate::engine::{Capture, Engine, Part, Record, UploadId};
use crate::journal::keeper::Keeper;
use crate::journal::snapshot_file::SnapshotFile;
use crate::journal::storage::StoredFile;
use crate::wire::{Code, Refusal};

pub(super) struct Upload {
    pub(super) topic: usize,
    pub(super) id: UploadId,
    pub(super) payload: usize,
    pub(super) sent: usize,
    pub(super) begun: u64,
    pub(super) origin: Option<crate::engine::PublicationId>,
}

enum Stage {
    Parts(Box<Capture>),
    // Until the records that it has are kept.
    Waits(u64),
    Finish,
}

struct Snapshot {
    file: SnapshotFile,
    stage: Stage,
    failures: u64,
}

pub(super) struct Life {
    pub(super) keeper: Keeper,
    pub(super) engine: Engine,
    pub(super) uploads: Vec<Upload>,
    pub(super) aborted: bool,
    sync: Sync,
    goes_on: bool,
    // Records that are not taken yet; and those that are being written, with the number of the first.
    queue: Vec<Record>,
    batch: Option<(u64, Vec<Record>)>,
    pub(super) kept: u64,
    syncing: Option<(Vec<Box<dyn StoredFile>>, u64)>,
    snapshot: Option<Snapshot>,
    files_to_remove: Vec<String>,
    // Nobody knows what is on the disk.
    pub(super) unknown: bool,
    failures: u64,
    // Records that were given up, or whose sync failed.
    pub(super) missing: Vec<(u64, u64)>,
}

impl Life {
    pub(super) fn new(keeper: Keeper, engine: Engine, sync: Sync, goes_on: bool) -> Self {
        let kept = keeper.recorded();
        // Uploads were arriving when the last daemon ended.
        let aborted = engine.recorded() > kept;
        let mut life = Self {
            keeper,
            engine,
            uploads: Vec::new(),
            aborted,
            sync,
            goes_on,
            queue: Vec::new(),
            batch: None,
            kept,
            syncing: None,
            snapshot: None,
            files_to_remove: Vec::new(),
            unknown: false,
            failures: 0,
            missing: Vec::new(),
        };
        life.take();
        life
    }

    /// Moves the engine's records to the queue, as under its lock.
    pub(super) fn take(&mut self) {
        self.engine.take_records(&mut self.queue);
    }

    fn refuse(&mut self, refuses: bool) {
        let refuses = refuses && !self.goes_on;
        let refusal = refuses.then(|| Refusal::new(Code::UNAVAILABLE, "the disk"));
        self.engine.refuse_publications(refusal);
    }

    fn fail(&mut self) {
        self.unknown = true;
        self.failures += 1;
        self.refuse(true);
    }

    /// Writes what has gathered. Returns whether all is written.
    pub(super) fn write(&mut self, now: u64, facts: &mut Facts) -> bool {
        if self.batch.is_none() && !self.queue.is_empty() {
            self.batch = Some((self.kept + 1, std::mem::take(&mut self.queue)));
        }
        let Some((first, records)) = &self.batch else { return true };
        let (first, last) = (*first, first + records.len() as u64 - 1);
        let promise = if self.sync == Sync::Always { Promise::Power } else { Promise::Kill };
        let result = self.keeper.keep(now, first, records);
        trace!("keep {first} to {last}: {result:?}");
        match result {
            Ok(()) => {
                facts.promise(last, promise, &self.missing);
                if !self.unknown {
                    self.refuse(false);
                }
            }
            Err(_) if self.goes_on => {
                self.missing.push((first, last));
                self.fail();
            }
            Err(_) => {
                self.refuse(true);
                return false;
            }
        }
        (self.kept, self.batch) = (last, None);
        self.queue.is_empty()
    }

    fn sync_failed(&mut self) {
        trace!("a sync failed");
        self.keeper.sync_failed();
        self.missing.push((0, self.kept));
        self.fail();
    }

    /// A step of the thread that syncs each second.
    pub(super) fn sync(&mut self, facts: &mut Facts) {
        if self.sync != Sync::EachSecond {
            return;
        }
        let Some((files, through)) = self.syncing.take() else {
            match self.keeper.begin_sync() {
                Ok(files) => self.syncing = Some((files, self.kept)),
                Err(_) => self.sync_failed(),
            }
            return;
        };
        trace!("syncing {} files, through {through}", files.len());
        match files.into_iter().try_for_each(|mut file| file.sync()) {
            Ok(()) if !self.unknown => facts.promise(through, Promise::Power, &self.missing),
            Ok(()) => {}
            Err(_) => self.sync_failed(),
        }
    }

    // Waits for the other thread's sync.
    fn finish_sync(&mut self, facts: &mut Facts) {
        if self.syncing.is_some() {
            self.sync(facts);
        }
    }

    /// A step of the thread that takes snapshots.
    pub(super) fn snapshot(&mut self, facts: &mut Facts, random: &mut Random) {
        let storage = self.keeper.storage().clone();
        if let Some(name) = self.files_to_remove.pop() {
            let _ = storage.remove(&name);
            return;
        }
        let Some(Snapshot { mut file, stage, failures }) = self.snapshot.take() else {
            if let Ok(file) = self.keeper.begin_snapshot() {
                let stage = Stage::Parts(Box::default());
                self.snapshot = Some(Snapshot { file, stage, failures: self.failures });
            }
            return;
        };
        let stage = match stage {
            Stage::Parts(mut capture) => {
                let mut ended = false;
                for _ in 0..=random.below(8) {
                    let Some(part) = self.engine.capture(&mut capture) else { break };
                    self.take();
                    ended = matches!(part, Part::End { .. });
                    if file.push(part).is_err() {
                        return file.abandon(&*storage);
                    }
                }
                if ended { Stage::Waits(self.engine.recorded()) } else { Stage::Parts(capture) }
            }
            Stage::Waits(pushed) if self.kept < pushed => Stage::Waits(pushed),
            Stage::Waits(_) => {
                self.finish_sync(facts);
                let files = self.keeper.begin_sync();
                let synced =
                    files.and_then(|files| files.into_iter().try_for_each(|mut f| f.sync()));
                if synced.is_err() {
                    self.sync_failed();
                    return file.abandon(&*storage);
                }
                Stage::Finish
            }
            Stage::Finish => {
                let (bytes, kept) = (file.bytes(), self.kept);
                let finished = file.finish(&*storage);
                trace!("snapshot: {finished:?}");
                if let Ok(from) = finished {
                    self.files_to_remove = self.keeper.shorten(bytes, from);
                    if self.unknown && self.failures == failures {
                        self.recovered(facts, kept);
                    }
                }
                return;
            }
        };
        self.snapshot = Some(Snapshot { file, stage, failures });
    }

    // A snapshot has everything that was accepted before the journal failed.
    fn recovered(&mut self, facts: &mut Facts, _kept: u64) {
        self.unknown = false;
        self.refuse(false);
        // Uploads that arrive have pieces that are not in the snapshot, and may not be in the log.
        let arriving = self.uploads.iter().map(|upload| upload.begun).min();
        let lost = self.missing.iter().map(|(_, to)| *to).max().unwrap_or(0);
        let promise = if self.sync == Sync::AtExit { Promise::Kill } else { Promise::Power };
        self.missing.clear();
        if let Some(begun) = arriving {
            self.missing.push((begun, lost.max(begun)));
        }
        facts.promise(lost, promise, &self.missing.clone());
    }

    /// Ends in good order. Returns whether that was possible.
    pub(super) fn close(&mut self, now: u64, facts: &mut Facts) -> bool {
        self.take();
        self.finish_sync(facts);
        for _ in 0..3 {
            if self.write(now, facts) && !self.unknown && self.keeper.close().is_ok() {
                facts.promise(u64::MAX, Promise::Power, &self.missing);
                return true;
            }
        }
        false
    }
}
