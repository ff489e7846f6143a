//! `[journal]`: what outlives the process.

use super::{Span, WrongValue, exact};
#[cfg(feature = "jetstream")]
use crate::daemon::{JetStreamOptions, StreamStorage};
use crate::daemon::{JournalOptions, JournalSync, OnFailure};
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;
use std::path::PathBuf;

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
    /// Addresses of NATS servers, for the kind `jetstream`.
    pub nats: Option<String>,
    /// File of NATS credentials. Default none.
    pub credentials: Option<PathBuf>,
    /// File of certificates of the authority of the NATS servers. Default those of the system.
    pub authority: Option<PathBuf>,
    /// Name of the stream. Default `weir`.
    pub stream: Option<String>,
    /// Number of NATS servers that keep each message. Default 3, or 1 if there are fewer.
    pub replicas: Option<NonZeroU32>,
    /// The place of the stream's messages. Default `file`.
    pub storage: StorageConfig,
    /// For how long the stream keeps a message. Default without end.
    #[schemars(with = "Option<String>")]
    pub age: Option<Span>,
}

/// The place of a stream's messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StorageConfig {
    /// In files.
    #[default]
    File,
    /// In memory: they are lost when most servers stop.
    Memory,
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
    /// In a stream of NATS JetStream: all daemons that follow it are one.
    JetStream,
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
    pub(super) fn check(&self, cache: ByteSize) -> Result<(), WrongValue> {
        let wrong = |keys, reason: String| Err(WrongValue { keys, reason });
        if self.kind == JournalKind::JetStream {
            if !cfg!(feature = "jetstream") {
                let reason = "this weir was built without the feature jetstream: build it with --features \
                              jetstream";
                return wrong(&["journal.kind"], reason.into());
            }
            if self.servers().next().is_none() {
                let reason = "the kind jetstream needs addresses of NATS servers: journal.nats = \
                              \"nats://host:4222\"";
                return wrong(&["journal.nats", "journal.kind"], reason.into());
            }
            return Ok(());
        }
        if self.nats.is_some() {
            let reason = "it is only for a journal in \"jetstream\"";
            return wrong(&["journal.nats"], reason.into());
        }
        let least = JournalOptions::least_bytes(cache.0);
        if let Some(bytes) = self.bytes.filter(|bytes| bytes.0 < least) {
            // Not rounded, because the two may be close.
            let (bytes, least) = (exact(bytes.0), exact(least));
            let reason = format!("{bytes} is below four times cache.bytes and 32MiB, {least}");
            return wrong(&["journal.bytes", "cache.bytes"], reason);
        }
        Ok(())
    }

    fn servers(&self) -> impl Iterator<Item = &str> {
        let servers = self.nats.as_deref().unwrap_or_default().split(',');
        servers.map(str::trim).filter(|server| !server.is_empty())
    }

    /// Returns the options of the log in NATS JetStream, if the daemon is one of several.
    #[cfg(feature = "jetstream")]
    #[must_use]
    pub fn jetstream(&self) -> Option<JetStreamOptions> {
        if self.kind != JournalKind::JetStream {
            return None;
        }
        let mut options = JetStreamOptions::new(self.servers());
        options.credentials.clone_from(&self.credentials);
        options.authority.clone_from(&self.authority);
        options.replicas = self.replicas.map(|replicas| replicas.get() as usize);
        options.age = self.age.map(|age| age.0);
        options.storage = match self.storage {
            StorageConfig::File => StreamStorage::File,
            StorageConfig::Memory => StreamStorage::Memory,
        };
        if let Some(stream) = &self.stream {
            options.stream.clone_from(stream);
        }
        if let Some(bytes) = self.bytes {
            options.bytes = bytes.0;
        }
        Some(options)
    }

    /// Returns the options of the daemon's journal, if it has one.
    #[must_use]
    pub fn options(&self) -> Option<JournalOptions> {
        if self.kind != JournalKind::File {
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
