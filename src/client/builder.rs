//! Settings of a client.

use super::handle::Client;
use super::in_flight::{MAX_BYTES, MAX_PUBLICATIONS};
use super::reconnect::Reconnect;
use super::token::TokenSource;
use crate::net::transport::Transport;
use crate::tls::Trust;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

/// Settings of a client, made by [`Client::builder`].
///
/// Each method sets one thing, and the last call of it counts. [`connect`](Self::connect) returns a
/// [`ConnectError`](super::ConnectError) if a file or a name cannot be used.
///
/// ```
/// # #[cfg(feature = "daemon")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
/// # let server = daemon.local_addr().to_string();
/// # let trust = weir::Trust::Pinned(daemon.certificate_hashes());
/// use std::time::Duration;
/// use weir::Transport;
/// use weir::client::{ConnectError, Reconnect};
///
/// let client = weir::Client::builder(server)
///     .trust(trust)
///     .transport(Transport::WebSocket)
///     .reconnect(Reconnect::default().give_up_after(Duration::from_secs(60)))
///     .connect()
///     .await?;
/// assert_eq!(client.transport(), Transport::WebSocket);
/// let wrong = weir::Client::builder("127.0.0.1:port").connect().await;
/// assert!(matches!(wrong, Err(ConnectError::Address { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    pub(super) server: String,
    pub(super) choice: TransportChoice,
    pub(super) trust: Trust,
    pub(super) state: Option<PathBuf>,
    pub(super) certificate: Option<[PathBuf; 2]>,
    pub(super) token: TokenSource,
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

    /// Sets the certificate that this client shows to a daemon that accepts client certificates, and
    /// its key: PEM files. The key is not encrypted, and its owner's alone. The client reads them for
    /// each attempt to connect, and shows the certificate over raw QUIC only. The default is none.
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate = Some([certificate.into(), key.into()]);
        self
    }

    /// Sets the token for a daemon that requires one. The default is none. When its time has passed,
    /// the client closes: see [`token_from`](Self::token_from).
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = TokenSource::Fixed(token.into().into());
        self
    }

    /// Sets a function that fetches a token. The client calls it before each attempt to open a
    /// session, and again when three quarters of the token's time have passed. So the session goes
    /// on with the new token, and subscriptions are not interrupted. If the function fails while a
    /// session is open, the client calls it again, with pauses of 1 s to 30 s.
    ///
    /// ```
    /// # async fn example() -> Result<(), weir::client::ConnectError> {
    /// let client = weir::Client::builder("relay.example")
    ///     .token_from(async || Ok(std::fs::read_to_string("/run/app/token")?.trim().to_owned()))
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn token_from<F, T>(mut self, fetch: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<String, Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        self.token = TokenSource::Fetched(Arc::new(move || Box::pin(fetch())));
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
            certificate: None,
            token: TokenSource::None,
            reconnect: Reconnect::default(),
            wait: false,
            backlog: (MAX_PUBLICATIONS, MAX_BYTES),
        }
    }
}
