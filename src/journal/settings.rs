//! The settings of a journal.

use std::time::Duration;

/// When a receipt is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalSync {
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
#[non_exhaustive]
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
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use weir::daemon::{JournalOptions, JournalSync};
/// use weir::wire::Which;
///
/// let state = tempfile::tempdir()?;
/// let builder = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).state(state.path());
/// let builder = builder.journal(JournalOptions::default().with_sync(JournalSync::Always));
/// let daemon = builder.clone().spawn().await?;
/// daemon.publish("demo/a", "hello")?;
/// daemon.kept().await;
/// daemon.shutdown().await;
///
/// let next = builder.spawn().await?;
/// assert_eq!(next.get("demo/a", Which::Latest)?.payload, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalOptions {
    /// When receipts are given. Default [`JournalSync::EachSecond`].
    pub sync: JournalSync,
    /// Bytes on the disk, for the log and snapshots. At least four times the cache and 32 MiB are
    /// used, which is the default: for two snapshots while one replaces the other, and as much log.
    ///
    /// Publishers wait while there are more, until a snapshot has replaced the log. Publications are
    /// refused if snapshots fail, or from 32 MiB more.
    pub bytes: u64,
    /// Default [`OnFailure::Refuse`].
    pub on_failure: OnFailure,
}

impl JournalOptions {
    /// Returns the options for a cache of so many bytes.
    pub(crate) fn for_cache(self, cache: usize) -> Self {
        Self { bytes: self.bytes.max(Self::least_bytes(cache as u64)), ..self }
    }

    /// Returns the least [`bytes`](Self::bytes) for a cache of so many bytes.
    pub(crate) fn least_bytes(cache: u64) -> u64 {
        cache.saturating_mul(4).saturating_add(LEAST_LOG)
    }

    /// Returns the options with another [`sync`](Self::sync).
    #[must_use]
    pub fn with_sync(mut self, sync: JournalSync) -> Self {
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

/// Bytes of log that each journal may have, 32 MiB: two segments.
pub(super) const LEAST_LOG: u64 = 32 << 20;

/// How often what was written is synced.
pub(super) const EACH: Duration = Duration::from_secs(1);
