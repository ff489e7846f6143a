//! The settings of a log in NATS JetStream.

use std::path::PathBuf;
use std::time::Duration;

/// The place of a stream's messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamStorage {
    /// In files. This is the default.
    #[default]
    File,
    /// In memory: they are lost when a majority of the servers stops.
    Memory,
}

/// A log in a stream of NATS JetStream, so that several daemons are one.
///
/// The first daemon makes the stream, with these settings. One that is there is used as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JetStreamOptions {
    /// Addresses of servers, such as `nats://a:4222`. One that is reached tells of the others.
    pub servers: Vec<String>,
    /// A file of credentials (`.creds`). Default none.
    pub credentials: Option<PathBuf>,
    /// A file of certificates of the authority that has signed those of the servers. Default: the
    /// system's authorities, for addresses that begin with `tls://`.
    pub authority: Option<PathBuf>,
    /// Name of the stream, and the first token of its subjects. Default `weir`.
    pub stream: String,
    /// Number of servers that keep each message: 1, 3 or 5. Default 3 if a cluster of at least three
    /// servers answers, else 1.
    pub replicas: Option<usize>,
    /// Default [`StreamStorage::File`].
    pub storage: StreamStorage,
    /// Bytes that the stream keeps. The oldest messages go. Default 1 GiB.
    pub bytes: u64,
    /// How long the stream keeps a message. Default without end.
    pub age: Option<Duration>,
}

impl JetStreamOptions {
    /// Returns the default settings for servers.
    pub fn new<T: Into<String>>(servers: impl IntoIterator<Item = T>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            credentials: None,
            authority: None,
            stream: "weir".into(),
            replicas: None,
            storage: StreamStorage::File,
            bytes: 1 << 30,
            age: None,
        }
    }

    /// Returns the settings with another [`stream`](Self::stream).
    #[must_use]
    pub fn with_stream(mut self, name: impl Into<String>) -> Self {
        self.stream = name.into();
        self
    }

    /// Returns the settings with another number of [`replicas`](Self::replicas).
    #[must_use]
    pub fn with_replicas(mut self, replicas: usize) -> Self {
        self.replicas = Some(replicas);
        self
    }
}
