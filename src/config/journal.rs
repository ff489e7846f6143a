//! `[journal]`: what outlives the process.

use crate::daemon::{JournalOptions, JournalSync, OnFailure};
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;

/// `[journal]`: what outlives the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct JournalConfig {
    /// Its place. Default `file`.
    pub kind: JournalKind,
    /// When a receipt is given. Default `1s`.
    pub sync: SyncConfig,
    /// Bytes on the disk. Default four times the cache and 32 MiB, which is the least.
    #[schemars(with = "Option<super::schema_types::Size>")]
    pub bytes: Option<ByteSize>,
    /// The treatment of publications that it cannot keep. Default `refuse`.
    pub on_failure: OnFailureConfig,
}

/// The place of a journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JournalKind {
    /// In files in the state directory.
    #[default]
    File,
    /// Nowhere: a restart begins empty.
    None,
}

/// As [`Sync`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SyncConfig {
    /// Once the publication is on the disk.
    #[serde(rename = "always")]
    Always,
    /// Once the publication survives the end of the process; the disk is synced each second.
    #[default]
    #[serde(rename = "1s")]
    EachSecond,
    /// As before, and the disk is synced when the daemon ends.
    #[serde(rename = "exit")]
    AtExit,
}

/// As [`OnFailure`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailureConfig {
    /// They are refused.
    #[default]
    Refuse,
    /// They are accepted.
    Continue,
}

impl JournalConfig {
    /// Returns the options of the daemon's journal, if it has one.
    #[must_use]
    pub fn options(&self) -> Option<JournalOptions> {
        if self.kind == JournalKind::None {
            return None;
        }
        let sync = match self.sync {
            SyncConfig::Always => JournalSync::Always,
            SyncConfig::EachSecond => JournalSync::EachSecond,
            SyncConfig::AtExit => JournalSync::AtExit,
        };
        let on_failure = match self.on_failure {
            OnFailureConfig::Refuse => OnFailure::Refuse,
            OnFailureConfig::Continue => OnFailure::Continue,
        };
        let options = JournalOptions::default().with_sync(sync).with_on_failure(on_failure);
        Some(options.with_bytes(self.bytes.map_or(0, |bytes| bytes.0)))
    }
}
