//! Servers that the daemon asks: for keys, or who a peer is.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Default of [`Remote::with_timeout`], 2 s. A peer waits for it when it connects.
pub const REMOTE_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum of [`Remote::with_timeout`], 10 s: a peer waits no longer to be identified.
pub const MAX_REMOTE_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that the daemon asks over HTTP, and how it verifies that server.
///
/// ```
/// use weir::access::Remote;
///
/// let on_this_machine = Remote::new("http://127.0.0.1:9000/weir");
/// let elsewhere = Remote::new("https://id.example/weir").with_authorities("/etc/weir/id.pem");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Remote {
    url: String,
    authorities: Option<PathBuf>,
    timeout: Duration,
}

impl Remote {
    /// Sets the address: `https://…`, or `http://…` of this machine, `localhost` or a loopback
    /// address. It may have no user name and no fragment. Redirects are not followed. TLS is of
    /// version 1.3.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), authorities: None, timeout: REMOTE_TIMEOUT }
    }

    /// Sets a PEM file of authorities for the server's certificate. The default is the authorities
    /// that the system trusts. The file is read when the daemon starts.
    pub fn with_authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities = Some(file.into());
        self
    }

    /// Sets the maximum time of a question, from the connection to the end of the answer. The default
    /// is [`REMOTE_TIMEOUT`]; more than [`MAX_REMOTE_TIMEOUT`] is brought down to it.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(MAX_REMOTE_TIMEOUT);
        self
    }

    /// Returns the address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the file of authorities, if one was set.
    pub fn authorities(&self) -> Option<&Path> {
        self.authorities.as_deref()
    }

    /// Returns the maximum time of a question.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}
