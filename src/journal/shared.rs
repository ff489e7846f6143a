//! The state that the threads of a journal share: its writer, its failures, and the length of its log.

use super::keeper::Keeper;
use super::queue::{Cause, JournalQueue, unavailable};
use super::settings::{JournalOptions, LEAST_LOG, OnFailure};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

/// Bytes by which a log may be too long before publications are refused, 32 MiB.
const TOO_LONG: u64 = 32 << 20;

/// The state that the threads of a journal share.
pub(super) struct Shared {
    pub(super) keeper: Mutex<Keeper>,
    pub(super) queue: Arc<JournalQueue>,
    pub(super) options: JournalOptions,
    pub(super) path: PathBuf,
    /// The daemon ends.
    pub(super) ending: AtomicBool,
    /// The disk's contents are not known, until a snapshot is there that has begun later; and how often
    /// that has happened.
    pub(super) unknown: AtomicBool,
    pub(super) failures: AtomicU64,
    /// Held while what was written is synced: a snapshot needs all of it.
    pub(super) syncing: Mutex<()>,
    /// How much longer the log is than the journal may have, until a snapshot is there.
    pub(super) length: Mutex<Length>,
    /// The last snapshot failed.
    pub(super) failing: AtomicBool,
    /// Takes snapshots.
    pub(super) snapshots: OnceLock<Thread>,
    pub(super) _lock: Option<std::fs::File>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Short,
    /// Publishers wait.
    Long,
    /// Publications are refused.
    TooLong,
}

impl Shared {
    pub(super) fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Refuses publications because of an error, and logs it if it is news.
    pub(super) fn fail(&self, cause: Cause, error: &io::Error, is_news: bool) {
        let path = self.path.display();
        let what = match self.options.on_failure {
            OnFailure::Refuse => {
                let refusal = unavailable("the daemon's journal cannot be written");
                self.queue.refuse(cause, Some(refusal));
                "publications are refused until it can"
            }
            OnFailure::Continue => {
                self.queue.set_unkept(true);
                "publications are accepted, and are lost if the daemon ends before it can"
            }
        };
        if is_news {
            tracing::error!(%path, %error, "the journal cannot be written: {what}");
        }
    }

    /// The bytes of the log, and those that it may have beside two snapshots.
    pub(super) fn log_bytes(&self) -> (u64, u64) {
        let (log, snapshot) = self.keeper().bytes();
        self.queue.set_disk(log, snapshot);
        (log, self.options.bytes.saturating_sub(2 * snapshot).max(LEAST_LOG))
    }

    /// Lets publishers wait while the log is longer than it may be, until a snapshot has replaced it;
    /// and refuses publications if snapshots fail or are too slow. The records that there are must
    /// still be written: a snapshot waits for them.
    pub(super) fn check_length(&self) {
        let (log, most) = self.log_bytes();
        if log >= most / 2
            && let Some(snapshots) = self.snapshots.get()
        {
            snapshots.unpark();
        }
        let now = match log {
            _ if log <= most => Length::Short,
            _ if log > most + TOO_LONG || self.failing.load(Ordering::Acquire) => Length::TooLong,
            _ => Length::Long,
        };
        let before = {
            let mut length = self.length.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *length, now)
        };
        if now == before {
            return;
        }
        self.queue.set_long(now == Length::Long);
        if self.options.on_failure == OnFailure::Continue {
            // The writer gives records up.
        } else if now == Length::TooLong {
            let path = self.path.display();
            tracing::error!(%path, "the journal is full (journal.bytes): publications are refused");
            self.queue.refuse(Cause::Full, Some(unavailable("the daemon's journal is full")));
        } else if before == Length::TooLong {
            self.recovered(Cause::Full);
        }
    }

    /// Nobody knows what is on the disk.
    pub(super) fn note_unknown(&self) {
        self.failures.fetch_add(1, Ordering::AcqRel);
        self.unknown.store(true, Ordering::Release);
    }

    /// Syncs what was written. After a failure a second sync would not tell what is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self.keeper().begin_sync();
        let synced = files.and_then(|files| files.into_iter().try_for_each(|mut file| file.sync()));
        if let Err(error) = &synced {
            self.keeper().sync_failed();
            let known = !self.unknown.load(Ordering::Acquire);
            self.note_unknown();
            self.fail(Cause::Syncing, error, known);
        }
        synced
    }

    pub(super) fn is_too_long(&self) -> bool {
        *self.length.lock().unwrap_or_else(PoisonError::into_inner) == Length::TooLong
    }

    /// A cause has ended. If others have not, publications are still refused.
    pub(super) fn recovered(&self, cause: Cause) {
        let accepts = self.queue.refuse(cause, None);
        if self.options.on_failure == OnFailure::Continue {
            self.queue.set_unkept(false);
        }
        if accepts || self.options.on_failure == OnFailure::Continue {
            tracing::info!(path = %self.path.display(), "the journal is written again");
        }
    }
}
