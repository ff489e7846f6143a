//! The threads of a journal: one writes records, one syncs them each second, one takes snapshots.
//! They are threads and not tasks, because a disk blocks them.

use super::keeper::{Keeper, Opened, Opening, SIZES};
use super::queue::{Cause, JournalQueue};
use super::recovery::End;
use super::settings::{EACH, JournalOptions, JournalSync, LEAST_LOG, OnFailure};
use super::shared::{Length, Shared};
use super::snapshot_file::SnapshotFile;
use super::storage::{Directory, Storage};
use crate::engine::{Capture, Engine, Part};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes of log below which no snapshot is taken, 16 MiB: they are read in a tenth of a second.
const SHORT: u64 = LEAST_LOG / 2;

/// Pause after an error of the disk, and the longest one.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The journal was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Its directory or a file of it cannot be read or written.
    #[error("the journal in {} cannot be opened: {error}", path.display())]
    Io {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Another daemon has it.
    #[error("the journal in {} is in use: another daemon has the same state directory", path.display())]
    InUse {
        /// Its directory.
        path: PathBuf,
    },
}

/// A journal that is open, and not written yet.
pub(crate) struct OpenJournal {
    keeper: Keeper,
    options: JournalOptions,
    // Held for as long as the journal is open; none for a test's storage.
    lock: Option<std::fs::File>,
    pub(crate) queue: Arc<JournalQueue>,
    pub(crate) path: PathBuf,
    pub(crate) end: End,
    pub(crate) lines: Vec<String>,
    // Why it cannot be written at the moment.
    failed: Option<io::Error>,
}

/// Opens a journal, and reads it into an engine, which has to be new. `run` is the name of the run
/// that begins if the last one has not ended in good order. It blocks.
pub(crate) fn open(
    path: &Path,
    options: JournalOptions,
    engine: Engine,
    run: u64,
) -> Result<(OpenJournal, Engine), JournalError> {
    let failed = |error| JournalError::Io { path: path.into(), error };
    let directory = Directory::open(path.into()).map_err(failed)?;
    let lock = lock(path)?;
    open_on(Arc::new(directory), Some(lock), path, options, engine, run)
}

/// As [`open`], in any storage.
pub(super) fn open_on(
    storage: Arc<dyn Storage>,
    lock: Option<std::fs::File>,
    path: &Path,
    options: JournalOptions,
    engine: Engine,
    run: u64,
) -> Result<(OpenJournal, Engine), JournalError> {
    let failed = |error| JournalError::Io { path: path.into(), error };
    // Empty where it is not known: then each start counts as one after a loss of power.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let always = options.sync == JournalSync::Always;
    let goes_on = options.on_failure == OnFailure::Continue;
    let opening = Opening { run, boot: boot.trim(), always, goes_on, sizes: SIZES };
    let opened = Keeper::open(storage, engine, &opening).map_err(failed)?;
    let (keeper, Opened { mut engine, end, lines, failed }) = opened;
    let queue = Arc::new(JournalQueue::new(keeper.recorded(), engine.position()));
    // Records that restoring has made come first.
    queue.push(&mut engine);
    let path = path.into();
    Ok((OpenJournal { keeper, options, lock, queue, path, end, lines, failed }, engine))
}

// The directory itself is locked: a file in it could be removed, and then locked once more. A daemon
// that was just killed may hold its lock for a moment.
fn lock(path: &Path) -> Result<std::fs::File, JournalError> {
    let failed = |error| JournalError::Io { path: path.into(), error };
    let file = std::fs::File::open(path).map_err(failed)?;
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < until => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(JournalError::InUse { path: path.into() });
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// A journal that is written. If it is dropped without [`close`](Self::close), its threads end, and
/// the next start finds it as after a kill.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<bool>>,
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.queue.end();
        self.end_threads();
    }
}

/// Takes the next part of a snapshot. None also if the engine has failed.
pub(crate) type TakePart = Box<dyn FnMut(&mut Capture) -> Option<Part> + Send>;

impl OpenJournal {
    /// Begins to write.
    pub(crate) fn start(self, take_part: TakePart) -> Journal {
        let Self { keeper, options, lock, queue, path, failed, .. } = self;
        let shared = Arc::new(Shared {
            keeper: Mutex::new(keeper),
            queue,
            options,
            path,
            ending: AtomicBool::new(false),
            unknown: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            syncing: Mutex::new(()),
            length: Mutex::new(Length::Short),
            failing: AtomicBool::new(false),
            snapshots: OnceLock::new(),
            _lock: lock,
        });
        if let Some(error) = failed {
            // Until a snapshot is there, which is tried at once, and again and again.
            shared.note_unknown();
            shared.fail(Cause::Syncing, &error, true);
        }
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.into());
            thread.spawn(run).ok()
        };
        let (one, two) = (shared.clone(), shared.clone());
        let writing = shared.clone();
        let writer = Some(thread::spawn(move || write(&writing)));
        let mut threads = Vec::new();
        if options.sync == JournalSync::EachSecond {
            threads.extend(spawn("journal-sync", Box::new(move || sync(&one))));
        }
        threads.extend(spawn("journal-snapshot", Box::new(move || snapshots(&two, take_part))));
        Journal { shared, threads, writer }
    }
}

impl Journal {
    /// Ends it in good order, once the engine is not called any more. It blocks.
    pub(crate) fn close(mut self) {
        self.shared.queue.end();
        let complete = self.writer.take().is_some_and(|writer| writer.join().unwrap_or(false));
        self.end_threads();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let shared = &self.shared;
        let closed = if complete && !shared.unknown.load(Ordering::Acquire) {
            shared.keeper().close()
        } else {
            Err(io::Error::other("some publications were not written"))
        };
        if let Err(error) = closed {
            tracing::error!(path = %shared.path.display(), %error, "the journal ended incomplete");
        }
    }

    /// Returns whether the journal waits for a snapshot, because it does not know what is on the disk.
    #[cfg(test)]
    pub(super) fn is_unknown(&self) -> bool {
        self.shared.unknown.load(Ordering::Acquire)
    }

    fn end_threads(&self) {
        self.shared.ending.store(true, Ordering::Release);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
    }
}

// Writes records until no more follow. Returns whether all of them were kept.
fn write(shared: &Shared) -> bool {
    let Shared { queue, .. } = shared;
    let mut records = Vec::new();
    let mut complete = true;
    while let Some(first) = queue.take(&mut records) {
        let last = first + records.len() as u64 - 1;
        let mut failures = 0_u32;
        loop {
            let gives_up = shared.options.on_failure == OnFailure::Continue;
            let kept = if gives_up && shared.is_too_long() {
                Err(io::Error::other("the log is longer than journal.bytes"))
            } else {
                shared.keeper().keep(now(), first, &records)
            };
            match kept {
                Ok(()) => break,
                Err(error) => {
                    // Once, and not for each batch that is given up.
                    if failures == 0 {
                        let is_news = !shared.unknown.load(Ordering::Acquire);
                        shared.fail(Cause::Writing, &error, is_news);
                    }
                    failures += 1;
                    if gives_up || queue.pause((PAUSE * failures).min(LONGEST_PAUSE)) {
                        // The next snapshot has these changes, if there is one.
                        shared.note_unknown();
                        complete = gives_up;
                        break;
                    }
                }
            }
        }
        // Records that were given up are with the next snapshot.
        let gave_up = shared.options.on_failure == OnFailure::Continue;
        if failures > 0 && complete && !gave_up {
            shared.recovered(Cause::Writing);
        }
        if !complete {
            return false;
        }
        queue.observe(now(), &records);
        queue.done(last, &records);
        records.clear();
        shared.check_length();
    }
    complete
}

// The time of day, µs since 1970, to which times in a block are relative.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

// Syncs each second what was written.
fn sync(shared: &Shared) {
    while !shared.is_ending() {
        thread::park_timeout(EACH);
        // It has said what it means for publications.
        let _ = shared.sync();
    }
}

// Takes snapshots: when the log has become long, and when the daemon ends.
fn snapshots(shared: &Shared, mut take_part: TakePart) {
    let _ = shared.snapshots.set(thread::current());
    // After an error, when the next attempt is due.
    let mut after = None;
    loop {
        // A daemon that is idle is not to wake often. The writer wakes this thread when the log is long.
        thread::park_timeout(EACH);
        let ending = shared.is_ending();
        if !ending && after.is_some_and(|after| Instant::now() < after) {
            continue;
        }
        let (log, most) = shared.log_bytes();
        let unknown = shared.unknown.load(Ordering::Acquire);
        let failures = shared.failures.load(Ordering::Acquire);
        let due = unknown || log >= if ending { SHORT } else { most / 2 };
        if due {
            let taken = take(shared, &mut take_part);
            let failed_before = shared.failing.swap(taken.is_err(), Ordering::AcqRel);
            after = taken.is_err().then(|| Instant::now() + LONGEST_PAUSE);
            match taken {
                // Unless it has failed again since.
                Ok(true) if unknown && failures == shared.failures.load(Ordering::Acquire) => {
                    shared.unknown.store(false, Ordering::Release);
                    if failures == shared.failures.load(Ordering::Acquire) {
                        shared.recovered(Cause::Syncing);
                    } else {
                        shared.unknown.store(true, Ordering::Release);
                    }
                }
                Ok(_) => {}
                // Once, and not for each attempt.
                Err(_) if failed_before => {}
                Err(error) => {
                    let path = shared.path.display();
                    tracing::error!(%path, %error, "a snapshot of the cache failed");
                }
            }
            shared.check_length();
        }
        if ending {
            return;
        }
    }
}

// Takes one snapshot. Returns whether it is complete.
fn take(shared: &Shared, take_part: &mut TakePart) -> io::Result<bool> {
    let (mut file, storage) = {
        let mut keeper = shared.keeper();
        (keeper.begin_snapshot()?, keeper.storage().clone())
    };
    let written = fill(&mut file, take_part);
    if !matches!(written, Ok(true)) {
        file.abandon(&*storage);
        return written;
    }
    // The snapshot has changes whose records may not be kept yet. Without those the next daemon would
    // give their numbers to other records.
    let pushed = shared.queue.pushed();
    while shared.queue.kept() < pushed {
        if shared.is_ending() {
            file.abandon(&*storage);
            return Ok(false);
        }
        thread::park_timeout(PAUSE / 10);
    }
    if let Err(error) = shared.sync() {
        file.abandon(&*storage);
        return Err(error);
    }
    let (bytes, records_from) = (file.bytes(), file.finish(&*storage)?);
    // Removing files takes a while, and is done without the lock.
    let names = shared.keeper().shorten(bytes, records_from);
    names.iter().try_for_each(|name| storage.remove(name))?;
    storage.sync_names()?;
    Ok(true)
}

fn fill(file: &mut SnapshotFile, take_part: &mut TakePart) -> io::Result<bool> {
    let mut capture = Capture::new();
    let mut complete = false;
    while let Some(part) = take_part(&mut capture) {
        complete = matches!(part, Part::End { .. });
        file.push(part)?;
    }
    Ok(complete)
}
