//! Settings of a daemon.

mod sockets;
mod start;
mod state;

use super::settings::SettingsError;
#[cfg(feature = "otel")]
use super::traces::Otlp;
use super::{BindError, Daemon, IdentityError, JournalError, JournalOptions, TlsSettings};
#[cfg(feature = "jetstream")]
use super::{JetStreamOptions, LogError};
use crate::access::AccessRules;
use crate::access::limits::PeerLimits;
use crate::engine::{Limits, TopicRule};
use crate::net::bind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;

/// Settings of a daemon, made by [`Daemon::builder`].
///
/// Each method sets one thing, and the last call of it counts. [`spawn`](Self::spawn) checks all of them
/// before it binds a port, and returns a [`SpawnError`] that names what cannot be used.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use weir::daemon::{SettingsError, SpawnError};
/// use weir::engine::Limits;
///
/// let builder = weir::Daemon::builder()
///     .listen("127.0.0.1:0".parse()?)
///     .limits(Limits::default().with_cache(64 << 20))
///     .sessions(1000);
/// let wrong = builder.clone().origins(["https://app.example/path"]).spawn().await;
/// assert!(matches!(wrong, Err(SpawnError::Settings(SettingsError::Origin(_)))));
/// let daemon = builder.spawn().await?;
/// assert_ne!(daemon.local_addr().port(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    listen: Option<SocketAddr>,
    http: Option<SocketAddr>,
    ops: Ops,
    routes: Option<axum::Router>,
    given: bind::Given,
    origins: Vec<String>,
    names: Vec<String>,
    state: Option<PathBuf>,
    announce: Option<PathBuf>,
    tls: TlsSettings,
    limits: Limits,
    peers: PeerLimits,
    access: AccessRules,
    topic_rules: Vec<TopicRule>,
    journal: Option<JournalOptions>,
    #[cfg(feature = "jetstream")]
    log: Option<JetStreamOptions>,
    qlog: Option<IpAddr>,
    #[cfg(feature = "otel")]
    otlp: Option<Otlp>,
}

/// The listener for metrics and health.
#[derive(Debug, Clone, Copy)]
enum Ops {
    Off,
    On(SocketAddr),
    /// Off if the address cannot be bound.
    IfFree(SocketAddr),
}

impl Ops {
    fn bind(self) -> Result<Option<TcpListener>, BindError> {
        let (address, if_free) = match self {
            Self::Off => return Ok(None),
            Self::On(address) => (address, false),
            Self::IfFree(address) => (address, true),
        };
        match bind::ops(address) {
            Err(error) if if_free => {
                tracing::warn!("no metrics and health: {error}");
                Ok(None)
            }
            bound => bound.map(Some),
        }
    }
}

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// Its certificate cannot be read or made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its log in JetStream cannot be used.
    #[cfg(feature = "jetstream")]
    #[error(transparent)]
    Log(#[from] LogError),
    /// It has a journal, and no directory for it: see [`Builder::state`].
    #[error("a journal needs a directory: Builder::state")]
    NoState,
    /// Its ports cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The clock of the machine is before 1970, which is a time that HTTP cannot write.
    #[error("the clock of this machine is before 1970: set it, and start again")]
    Clock,
    /// A setting that can also be changed while the daemon runs cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            listen: None,
            http: None,
            ops: Ops::Off,
            routes: None,
            given: bind::Given::default(),
            origins: Vec::new(),
            names: Vec::new(),
            state: None,
            announce: None,
            tls: TlsSettings::default(),
            limits: Limits::default(),
            peers: PeerLimits::default(),
            access: AccessRules::default(),
            topic_rules: Vec::new(),
            journal: None,
            #[cfg(feature = "jetstream")]
            log: None,
            qlog: None,
            #[cfg(feature = "otel")]
            otlp: None,
        }
    }

    /// Sets the address for raw QUIC and WebTransport over UDP, and for HTTPS and WebSocket over TCP.
    /// Both use the same port number. With port 0, the system chooses one. The default is
    /// `[::]:4433`, which accepts IPv4 too.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Sets an address for the same HTTP and WebSocket without TLS. The default is none.
    ///
    /// Browsers treat pages from `http://localhost` as secure. The traffic is not encrypted, so use
    /// a loopback address, or a proxy that does TLS.
    pub fn http(mut self, address: impl Into<Option<SocketAddr>>) -> Self {
        self.http = address.into();
        self
    }

    /// Serves routes of your own on the daemon's ports, beside its HTTP. They take the place of its page.
    /// The daemon's paths have precedence: `/v1/…`, `/weir`, `/weir.js`, `/weir.d.ts`, `/openapi.json`
    /// and `/certificate.sha256`.
    ///
    /// Requests have the daemon's limits of sizes, times, places and memory. Those that a page of another
    /// [origin](Self::origins) sends are refused. An answer may be a stream of any length. While the
    /// daemon drains, requests in flight are completed.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use axum::{Router, routing::get};
    ///
    /// let routes = Router::new().route("/", get(|| async { "hello" }));
    /// let local = "127.0.0.1:0".parse()?;
    /// let builder = weir::Daemon::builder().listen(local).http(Some(local)).routes(routes);
    /// let daemon = builder.spawn().await?;
    /// println!("http://{}", daemon.http_addr().unwrap());
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn routes(mut self, routes: axum::Router) -> Self {
        self.routes = Some(routes);
        self
    }

    /// Sets an address for metrics and health over HTTP: `/metrics`, `/healthz` and `/readyz`. The
    /// default is none. [`Daemon::metrics`] gives the metrics to a registry of your own.
    ///
    /// Everybody who reaches the address may read them, so use a loopback address, or one of a network
    /// for operators. They contain numbers, and no names of topics or peers.
    pub fn ops(mut self, address: impl Into<Option<SocketAddr>>) -> Self {
        self.ops = address.into().map_or(Ops::Off, Ops::On);
        self
    }

    /// Sets an address for metrics and health that nobody has chosen. If it cannot be bound, because
    /// another daemon on this machine has it, the daemon logs a warning and starts without.
    pub fn ops_if_free(mut self, address: SocketAddr) -> Self {
        self.ops = Ops::IfFree(address);
        self
    }

    /// Sets the origins of other hosts whose pages may use HTTP, as browsers write them:
    /// `https://example.org`, `http://localhost:3000`, or `*` for all. The default is none. Pages of
    /// the daemon's own host are always allowed.
    pub fn origins<T: Into<String>>(mut self, origins: impl IntoIterator<Item = T>) -> Self {
        self.origins = origins.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the daemon's names for HTTP, WebSocket and WebTransport, such as `relay.example`, without
    /// port. Requests under other names are rejected with status 421. The default is none. Addresses,
    /// localhost and the hosts of [`origins`](Self::origins) need no entry.
    pub fn names<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the directory that keeps the certificates and the key of stateless resets. By default
    /// they are not kept, and every start makes new ones. With the key, clients of a daemon that was
    /// killed learn from the next one that their QUIC connections are gone.
    pub fn state(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = Some(directory.into());
        self
    }

    /// Sets a second directory for the certificates' hashes, for clients on this machine. The default
    /// is none.
    pub fn announce(mut self, directory: impl Into<PathBuf>) -> Self {
        self.announce = Some(directory.into());
        self
    }

    /// Sets the daemon's certificate, and whose client certificates it accepts. By default the daemon
    /// makes self-signed certificates.
    pub fn tls(mut self, settings: TlsSettings) -> Self {
        self.tls = settings;
        self
    }

    /// Sets the limits of memory and topics. For the defaults see [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the limits of peers: how many sessions, and how much each may send and be sent. For the
    /// defaults see [`PeerLimits`].
    pub fn peers(mut self, limits: PeerLimits) -> Self {
        self.peers = limits;
        self
    }

    /// Sets the maximum number of sessions over all transports, and of TCP connections. Further ones
    /// are refused. The default is 65,536. The other limits of [`peers`](Self::peers) stay.
    pub fn sessions(mut self, limit: usize) -> Self {
        self.peers.sessions = limit;
        self
    }

    /// Sets who may do what. The default is that everybody who reaches the daemon may do everything.
    /// Calls of [`Daemon`]'s own methods are not concerned.
    pub fn access(mut self, rules: AccessRules) -> Self {
        self.access = rules;
        self
    }

    /// Sets rules for topics: how much of them is kept and for how long, and what may be published to
    /// them. They can also make topics public, beside the rules of [`access`](Self::access). A topic follows
    /// the first rule whose filter matches it. The default is none; at most
    /// [`MAX_TOPIC_RULES`](crate::engine::MAX_TOPIC_RULES).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use weir::engine::{Keep, TopicRule};
    ///
    /// let latest = TopicRule::new("cursors/**".parse()?).with_keep(Keep::LATEST);
    /// let listen = "127.0.0.1:0".parse()?;
    /// let daemon = weir::Daemon::builder().listen(listen).topic_rules([latest]).spawn().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn topic_rules(mut self, rules: impl IntoIterator<Item = TopicRule>) -> Self {
        self.topic_rules = rules.into_iter().collect();
        self
    }

    /// Keeps what is published in a journal in the [state](Self::state) directory, so that a restart
    /// or a crash loses nothing that was acknowledged. The default is none.
    pub fn journal(mut self, options: impl Into<Option<JournalOptions>>) -> Self {
        self.journal = options.into();
        #[cfg(feature = "jetstream")]
        if self.journal.is_some() {
            self.log = None;
        }
        self
    }

    /// Keeps the log in a stream of NATS JetStream, in place of a journal. All daemons that follow one
    /// stream are one: a publication at any of them has the same sequence and count at all.
    ///
    /// [`spawn`](Self::spawn) waits until a server answers, and until everything is applied that the
    /// stream has. `Daemon::publish` is refused, because it cannot wait for the log.
    #[cfg(feature = "jetstream")]
    pub fn jetstream(mut self, options: impl Into<Option<JetStreamOptions>>) -> Self {
        self.log = options.into();
        if self.log.is_some() {
            self.journal = None;
        }
        self
    }

    /// Records the first connection of an address over QUIC, raw or WebTransport, as a
    /// [qlog](https://quicwg.org/qlog/) in the directory `qlog` of the [state](Self::state): packets,
    /// losses, round trips and windows, without payloads. The default is none. A file has at most 64 MiB,
    /// and the directory 16 files. [`Changes::qlog`](super::Changes::qlog) requests another one.
    pub fn qlog(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.qlog = address.into();
        self
    }

    /// Exports traces to a collector of OpenTelemetry, over OTLP/HTTP: a span of each session when it has
    /// ended, and one of each request over HTTP when its answer begins. The default is none. Messages have
    /// no spans. The tracer of the process, and its propagators, are not touched.
    ///
    /// A collector that is slow or away delays nothing. Its spans are dropped, and
    /// `weir_trace_spans_total` counts them. Needs the feature `otel`.
    #[cfg(feature = "otel")]
    pub fn otlp(mut self, collector: impl Into<Option<Otlp>>) -> Self {
        self.otlp = collector.into();
        self
    }

    /// Starts the daemon. Has to be called within a tokio runtime.
    pub async fn spawn(self) -> Result<Daemon, SpawnError> {
        // Boxed, because the caller's future should not have space for the start.
        Box::pin(self.start()).await
    }
}
