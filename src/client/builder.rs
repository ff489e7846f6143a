//! Settings of a client.

use super::handle::Client;
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
        }
    }
}
