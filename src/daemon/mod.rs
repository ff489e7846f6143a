//! The daemon as a part of a program: a builder, and a handle to publish, subscribe, look up and
//! stop.

mod journal;
mod run;
mod subscription;
#[cfg(test)]
mod tests;

use crate::access::origin::Origins;
use crate::broker::Broker;
use crate::broker::admission::{Admission, Places};
use crate::engine::{Engine, Limits, Payload, Publication, Ranking, Receipt};
use crate::http::listen::Listener;
use crate::http::{self, CertificateFacts};
use crate::message::{Message, SubscribeOptions};
use crate::net::session::list::{Host, Sessions};
use crate::net::{bind, endpoint, now};
use crate::tls::identity::Identities;
use crate::tls::reset_key::ResetKey;
use crate::wire::{Delivery, Digest, Filter, NameError, Refusal, Which};
use bytes::Bytes;
use run::{blocking, new_run, run};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use subscription::LocalSubscription;

pub use crate::access::origin::{HostError, OriginError};
pub use crate::journal::settings::{JournalOptions, OnFailure, Sync};
pub use crate::journal::threads::JournalError;
pub use crate::net::bind::BindError;
pub use crate::net::session::list::{SessionInfo, SubscriptionInfo};
use crate::tls::CertificateHash;
pub use crate::tls::identity::IdentityError;

/// Default maximum number of sessions.
pub(crate) const SESSIONS: usize = 65_536;

/// Settings of a daemon, made by [`Daemon::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    listen: SocketAddr,
    http: Option<SocketAddr>,
    origins: Vec<String>,
    names: Vec<String>,
    state: Option<PathBuf>,
    announce: Option<PathBuf>,
    limits: Limits,
    sessions: usize,
    journal: Option<JournalOptions>,
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
    /// It has a journal, and no directory for it: see [`Builder::state`].
    #[error("a journal needs a directory: Builder::state")]
    NoState,
    /// Its ports cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An allowed origin is malformed.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// A name of the daemon is malformed.
    #[error(transparent)]
    Name(#[from] HostError),
}

impl Builder {
    /// Sets the address for raw QUIC and WebTransport over UDP, and for HTTPS and WebSocket over TCP.
    /// Both use the same port number. With port 0, the system chooses one. The default is
    /// `[::]:4433`, which accepts IPv4 too.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
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

    /// Sets the limits of memory and topics. For the defaults see [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the maximum number of sessions over all transports, and of TCP connections. Further ones
    /// are refused. The default is 65,536.
    pub fn sessions(mut self, limit: usize) -> Self {
        self.sessions = limit;
        self
    }

    /// Keeps what is published in a journal in the [state](Self::state) directory, so that a restart
    /// or a crash loses nothing that was acknowledged. The default is none.
    pub fn journal(mut self, options: impl Into<Option<JournalOptions>>) -> Self {
        self.journal = options.into();
        self
    }

    /// Starts the daemon. Has to be called within a tokio runtime.
    pub async fn spawn(self) -> Result<Daemon, SpawnError> {
        let origins = Origins::parse(self.origins)?.named(self.names)?;
        // Writes and syncs files, which would block the tasks of this thread.
        let (state, announce) = (self.state.clone(), self.announce);
        let open = move || {
            let identities = Identities::open(state.clone(), announce)?;
            Ok::<_, IdentityError>((identities, ResetKey::open(state.as_deref())?))
        };
        let (identities, reset_key) = blocking(open).await?;
        let identities = Arc::new(identities);
        let (udp, tcp) = bind::pair(self.listen)?;
        let plain = self.http.map(bind::http).transpose()?;
        let local = udp.local_addr().map_err(|error| BindError::Endpoint { error })?;
        let http = plain.as_ref().map(std::net::TcpListener::local_addr).transpose();
        let http = http.map_err(|error| BindError::Endpoint { error })?;
        let endpoint = endpoint::open(udp, identities.clone(), &reset_key)?;
        let full = "no more TCP connections (limits.sessions): closing";
        let connections = Places::new(self.sessions, full);
        let mut listeners = vec![Listener::tls(tcp, identities.clone(), &connections)?];
        listeners.extend(plain.map(|plain| Listener::plain(plain, &connections)));
        let mut engine = Engine::new(self.limits, new_run(), rand::random());
        let mut journal = None;
        if let Some(options) = self.journal {
            let state = self.state.ok_or(SpawnError::NoState)?;
            let open = move || journal::open(&state, options, engine, new_run());
            let opened = blocking(open).await?;
            journal = Some(opened.0);
            engine = opened.1;
        }
        let queue = journal.as_ref().map(|journal| journal.queue.clone());
        let broker = Arc::new(Broker::new(engine, queue));
        let journal = journal.map(|journal| journal::start(journal, &broker));
        let admission = Admission::new(broker.clone(), self.sessions, origins);
        let certificate = identities.clone();
        let certificate = move || {
            let [current, next] = certificate.hashes();
            CertificateFacts { pinning: true, current, next: Some(next) }
        };
        let state = http::AppState::new(&admission, certificate, local.port());
        let serving = (listeners, state);
        let host = Host::new(admission.clone());
        let sessions = host.sessions.clone();
        let running = tokio::spawn(run(endpoint, serving, host, identities.clone(), journal));
        Ok(Daemon { broker, admission, sessions, local, http, identities, running })
    }
}

/// A running daemon. Dropping the handle stops the daemon at once, HTTP included, without goodbyes;
/// see [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Daemon {
    broker: Arc<Broker>,
    admission: Admission,
    sessions: Arc<Sessions>,
    local: SocketAddr,
    http: Option<SocketAddr>,
    identities: Arc<Identities>,
    running: JoinHandle<()>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions")
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Broker")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.running.abort();
        // HTTP connections and sessions over WebSocket have tasks of their own.
        self.admission.stop();
    }
}

impl Daemon {
    /// Returns the default settings.
    pub fn builder() -> Builder {
        Builder {
            listen: (Ipv6Addr::UNSPECIFIED, crate::wire::PORT).into(),
            http: None,
            origins: Vec::new(),
            names: Vec::new(),
            state: None,
            announce: None,
            limits: Limits::default(),
            sessions: SESSIONS,
            journal: None,
        }
    }

    /// Returns the address of the daemon, for UDP and TCP.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns the address of HTTP without TLS, if there is one.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Returns the SHA-256 hash of the certificate in use, which clients can pin.
    pub fn certificate_hash(&self) -> CertificateHash {
        self.identities.hashes()[0]
    }

    /// Returns the SHA-256 hashes of the certificate in use and of the next one. The daemon switches
    /// to the next one three days before the first expires, so clients should pin both.
    pub fn certificate_hashes(&self) -> [CertificateHash; 2] {
        self.identities.hashes()
    }

    /// Returns the limits that apply.
    pub fn limits(&self) -> Limits {
        self.broker.with(|engine| engine.limits())
    }

    /// Waits until everything that was published so far is kept, as the
    /// [journal](Builder::journal)'s setting says. Without a journal it returns at once.
    pub async fn kept(&self) {
        self.broker.kept().await;
    }

    /// Publishes from within the process. Each call is counted. With a journal, the receipt does not
    /// wait for it: see [`kept`](Self::kept).
    ///
    /// ```
    /// # async fn example(daemon: weir::Daemon) -> Result<(), weir::wire::Refusal> {
    /// let receipt = daemon.publish("demo/a", "hello")?;
    /// println!("message {}, seen {} times", receipt.sequence, receipt.count);
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>) -> Result<Receipt, Refusal> {
        let payload = payload.into();
        let digest = Digest::of(&payload);
        let payload = Payload::from(payload);
        let stamp = now();
        let publication = Publication { topic, payload: &payload, digest, stamp, origin: None };
        self.broker.with(|engine| engine.publish(stamp, &publication))
    }

    /// Returns one message of a topic: the newest, or by sequence, or by its payload's digest. The
    /// cache keeps a requested payload for longer.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use weir::wire::{Code, Which};
    ///
    /// let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
    /// daemon.publish("demo/a", "hello")?;
    /// assert_eq!(daemon.get("demo/a", Which::Latest)?.payload, "hello");
    /// assert_eq!(daemon.get("demo/b", Which::Latest).unwrap_err().code, Code::NOT_FOUND);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn get(&self, topic: &str, which: Which) -> Result<Message, Refusal> {
        let found = self
            .broker
            .with(|engine| engine.get(topic, which).map(|message| subscription::owned(&message)));
        let (message, payload) = found?;
        Ok(Message { payload: payload.join(), ..message })
    }

    /// Returns the `k` most counted payloads of a topic, highest first. The daemon keeps 100.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
    /// for vote in ["tea", "coffee", "tea"] {
    ///     daemon.publish("votes", vote)?;
    /// }
    /// let first = &daemon.top("votes", 1)?[0];
    /// assert_eq!((first.payload.as_deref(), first.count), (Some(&b"tea"[..]), 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn top(&self, topic: &str, k: usize) -> Result<Vec<Ranking>, Refusal> {
        self.broker.with(|engine| engine.top(topic, k))
    }

    /// Subscribes from within the process. All modes of [`Delivery`] are ordered, as over WebSocket,
    /// because nothing is lost or reordered. With [`Delivery::Realtime`], a
    /// [`deadline`](SubscribeOptions::deadline) applies as for a client.
    pub fn subscribe(
        &self,
        filter: &str,
        options: &SubscribeOptions,
    ) -> Result<LocalSubscription, NameError> {
        let filter = Filter::new(filter)?;
        let deadline = match options.delivery {
            Delivery::Realtime => u64::from(options.deadline_ms()) * 1000,
            Delivery::Ordered | Delivery::Unordered => 0,
        };
        let (start, lag) = (options.start.to_wire(), options.lag);
        let id = self.broker.with(|engine| engine.subscribe(filter, &start, lag));
        Ok(LocalSubscription::new(self.broker.clone(), id, deadline))
    }

    /// Returns the sessions of remote peers, with the backlog of each of their subscriptions. It takes
    /// the engine's lock for a few subscriptions at a time. Streams of events and subscriptions
    /// within the process are not among them.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
    /// for session in daemon.sessions() {
    ///     println!("{} {} {}", session.id, session.transport, session.address);
    ///     for subscription in session.subscriptions {
    ///         println!("{} {}", subscription.stats.filter, subscription.stats.messages);
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.sessions.list()
    }

    /// Waits until the daemon stops by itself, which happens only if its engine panics. That is a
    /// defect.
    ///
    /// All sessions then receive a goodbye. Later calls of the engine, such as
    /// [`publish`](Self::publish), panic. Start another daemon, or end the process.
    pub async fn failed(&self) {
        self.broker.failed().await;
    }

    /// Completes what is in flight, for at most `within`, so that the daemon can be
    /// [shut down](Self::shutdown) without loss. Returns at once if nothing is.
    ///
    /// The daemon admits no new sessions and refuses new requests over HTTP with status 503. It asks
    /// each session to connect elsewhere, each after another delay, so that clients do not come back
    /// all at once: see `Drain` in `docs/protocol.md`. A session that stays ends when its delay has
    /// passed and nothing of it is in flight. Event streams go on until the daemon stops. Publishing
    /// and subscribing from within the process go on, too. A drain cannot be undone.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
    /// daemon.drain(std::time::Duration::from_secs(10)).await;
    /// daemon.shutdown().await;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn drain(&self, within: Duration) {
        self.admission.drain(within);
        let _ = timeout(within, self.admission.drained()).await;
    }

    /// Stops the daemon without a [drain](Self::drain). Returns within two and a half seconds; the
    /// ports are free then.
    ///
    /// The daemon sends its sessions a goodbye that asks them to reconnect, and gives them one second
    /// to receive it. At the same time it gives unfinished answers over HTTP two seconds.
    pub async fn shutdown(mut self) {
        self.admission.stop();
        let _ = (&mut self.running).await;
    }
}
