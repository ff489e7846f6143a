//! The settings of a journal.

use std::time::Duration;

/// When a receipt is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sync {
    /// When the publication is on the disk: it survives the loss of power. Publications that arrive
    /// together are synced together.
    Always,
    /// When it survives the end of the process. It survives the loss of power a second later. This
    /// is the default: a disk takes milliseconds for a sync.
    #[default]
    EachSecond,
    /// When it survives the end of the process. It survives the loss of power once the system has
    /// written it by itself, or the daemon has ended.
    AtExit,
}

/// The treatment of publications that the journal cannot keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// They are refused with the code `unavailable`, until it can. This is the default.
    #[default]
    Refuse,
    /// They are accepted, and lost if the daemon ends before the journal can keep them.
    Continue,
}

/// How a daemon keeps what was published.
///
/// It is a directory below the daemon's [state](crate::daemon::Builder::state).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalOptions {
    /// When receipts are given. Default [`Sync::EachSecond`].
    pub sync: Sync,
    /// Bytes on the disk, for the log and snapshots. At least four times the cache is used, which is
    /// the default: for two snapshots while one replaces the other, and as much log.
    pub bytes: u64,
    /// Default [`OnFailure::Refuse`].
    pub on_failure: OnFailure,
}

impl JournalOptions {
    /// Returns the options for a cache of so many bytes.
    pub(crate) fn for_cache(self, cache: usize) -> Self {
        Self { bytes: self.bytes.max(4 * cache as u64), ..self }
    }

    /// Returns the options with another [`sync`](Self::sync).
    #[must_use]
    pub fn with_sync(mut self, sync: Sync) -> Self {
        self.sync = sync;
        self
    }

    /// Returns the options with another limit of bytes on the disk.
    #[must_use]
    pub fn with_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Returns the options with another [`on_failure`](Self::on_failure).
    #[must_use]
    pub fn with_on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }
}

/// How often what was written is synced.
pub(super) const EACH: Duration = Duration::from_secs(1);
