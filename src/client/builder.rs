//! Settings of a client.

use super::handle::Client;
use super::in_flight::{MAX_BYTES, MAX_PUBLICATIONS};
use super::reconnect::Reconnect;
use crate::net::transport::Transport;
use crate::tls::Trust;
use std::path::PathBuf;

/// Settings of a client, made by [`Client::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    pub(super) server: String,
    pub(super) choice: TransportChoice,
    pub(super) trust: Trust,
    pub(super) state: Option<PathBuf>,
    pub(super) token: Option<String>,
    pub(super) reconnect: Reconnect,
    pub(super) wait: bool,
    pub(super) backlog: (usize, usize),
}

/// How to connect.
#[derive(Debug, Clone, Copy)]
pub(super) enum TransportChoice {
    Only(Transport),
    Auto,
}

impl Builder {
    /// Sets the only transport to try. The default is raw QUIC.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.choice = TransportChoice::Only(transport);
        self
    }

    /// Connects over raw QUIC if possible, else over WebSocket. Replaces
    /// [`transport`](Self::transport).
    ///
    /// The client tries WebSocket as soon as QUIC has failed, or in parallel if QUIC has not
    /// succeeded within one second. It takes the first transport on which the daemon sends its
    /// welcome. QUIC has a head start because it is better where both work. If the daemon refuses
    /// the session, or its certificate is not trusted, the client does not try another transport.
    ///
    /// [`Client::transport`] returns the transport in use. A fallback is logged with its reason.
    pub fn auto(mut self) -> Self {
        self.choice = TransportChoice::Auto;
        self
    }

    /// Sets how to verify the daemon's certificate. The default is [`Trust::Auto`].
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Sets the directory where a daemon on this machine keeps its certificate, for
    /// [`Trust::Auto`]. The default is the daemon's default directory, or that of its service.
    pub fn state(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = Some(directory.into());
        self
    }

    /// Sets the token for a daemon that requires one. The default is none.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets when the client opens another session after one has ended. The default is
    /// [`Reconnect::default`].
    pub fn reconnect(mut self, policy: Reconnect) -> Self {
        self.reconnect = policy;
        self
    }

    /// Sets whether [`connect`](Self::connect) waits for a daemon that does not run yet. It then
    /// tries again in the cases and with the pauses of [`reconnect`](Self::reconnect). The default is
    /// false: the first failure is an error.
    pub fn wait(mut self, wait: bool) -> Self {
        self.wait = wait;
        self
    }

    /// Sets the maximum number of publications without an answer, and the maximum size of their
    /// payloads together in bytes. The defaults are 1,024, which is also the maximum, and 64 MiB. A
    /// single publication may be larger.
    ///
    /// The client keeps these publications, to send them again in its next session. At the limit,
    /// publishing waits while a session is open, and fails with
    /// [`Backlog`](super::PublishError::Backlog) while there is none.
    pub fn backlog(mut self, publications: usize, bytes: usize) -> Self {
        self.backlog = (publications, bytes);
        self
    }
}

impl Client {
    /// Returns settings for connecting to `server`: `HOST`, `HOST:PORT` or `[IPV6]:PORT`. The
    /// default port is 4433.
    pub fn builder(server: impl Into<String>) -> Builder {
        Builder {
            server: server.into(),
            choice: TransportChoice::Only(Transport::Quic),
            trust: Trust::default(),
            state: None,
            token: None,
            reconnect: Reconnect::default(),
            wait: false,
            backlog: (MAX_PUBLICATIONS, MAX_BYTES),
        }
    }
}
