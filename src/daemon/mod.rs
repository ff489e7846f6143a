//! The daemon inside one's own program: a builder, and a handle to publish, subscribe, look up and
//! stop.

mod subscription;
#[cfg(test)]
mod tests;

use crate::access::origin::Origins;
use crate::broker::Broker;
use crate::broker::admission::{Admission, Places, stopped};
use crate::engine::{Engine, Limits, Payload, Publication, Ranking, Receipt};
use crate::http::listen::Listener;
use crate::http::{self, CertificateFacts};
use crate::message::{Message, SubscribeOptions};
use crate::net::{bind, endpoint, now};
use crate::tls::identity::Identities;
use crate::wire::{Delivery, Digest, Filter, NameError, Refusal, Which};
use bytes::Bytes;
use std::net::{Ipv6Addr, SocketAddr};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use subscription::LocalSubscription;

pub use crate::access::origin::{HostError, OriginError};
pub use crate::net::bind::BindError;
use crate::tls::CertificateHash;
pub use crate::tls::identity::IdentityError;

/// Most sessions at once, by default.
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
}

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// Its certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its ports.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The origins that it was given.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The names that it was given.
    #[error(transparent)]
    Name(#[from] HostError),
}

impl Builder {
    /// The address for raw QUIC and WebTransport (UDP) and for HTTPS and WebSocket (TCP, the same
    /// port number); port 0 lets the system choose. Default `[::]:4433`, which takes IPv4 too.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// An address for the same HTTP and WebSocket without TLS; browsers treat pages from
    /// `http://localhost` as secure. Anybody who can reach it can read along, so keep it on
    /// loopback, or behind a proxy that does TLS. Default none.
    pub fn http(mut self, address: impl Into<Option<SocketAddr>>) -> Self {
        self.http = address.into();
        self
    }

    /// Sites whose pages may ask over HTTP, beside those of the daemon's own host, as browsers
    /// write them: `https://example.org`, `http://localhost:3000`; `*` for every site. Default
    /// none.
    pub fn origins<T: Into<String>>(mut self, origins: impl IntoIterator<Item = T>) -> Self {
        self.origins = origins.into_iter().map(Into::into).collect();
        self
    }

    /// The names that the daemon is reached by over HTTP, WebSocket and WebTransport, such as
    /// `relay.example`, without port. Addresses and localhost need no entry, nor do the hosts of
    /// [`origins`](Self::origins). Under other names it answers 421. Default none.
    pub fn names<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Where the certificates are kept. Default: nowhere; every start makes new ones.
    pub fn state(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = Some(directory.into());
        self
    }

    /// Where else the certificates' hashes are left, for clients on this machine. Default nowhere.
    pub fn announce(mut self, directory: impl Into<PathBuf>) -> Self {
        self.announce = Some(directory.into());
        self
    }

    /// What the daemon may hold. Default: see [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Most sessions at once, over all transports, and most TCP connections; further ones are
    /// refused. Default 65,536.
    pub fn sessions(mut self, most: usize) -> Self {
        self.sessions = most;
        self
    }

    /// Starts the daemon; within a tokio runtime.
    pub async fn spawn(self) -> Result<Daemon, SpawnError> {
        let origins = Origins::parse(self.origins)?.named(self.names)?;
        // Files are written and synced: not where others have to be served.
        let (state, announce) = (self.state, self.announce);
        let opened = tokio::task::spawn_blocking(move || Identities::open(state, announce));
        let identities = opened.await.unwrap_or_else(|failed| resume_unwind(failed.into_panic()));
        let identities = Arc::new(identities?);
        let (udp, tcp) = bind::pair(self.listen)?;
        let plain = self.http.map(bind::http).transpose()?;
        let local = udp.local_addr().map_err(|error| BindError::Endpoint { error })?;
        let http = plain.as_ref().map(std::net::TcpListener::local_addr).transpose();
        let http = http.map_err(|error| BindError::Endpoint { error })?;
        let endpoint = endpoint::open(udp, identities.clone())?;
        let full = "no more TCP connections (limits.sessions): closing";
        let connections = Places::new(self.sessions, full);
        let mut listeners = vec![Listener::tls(tcp, identities.clone(), &connections)?];
        listeners.extend(plain.map(|plain| Listener::plain(plain, &connections)));
        let broker = Arc::new(Broker::new(Engine::new(self.limits, new_run(), rand::random())));
        let (stop, stopping) = watch::channel(false);
        let admission = Admission::new(broker.clone(), self.sessions, origins.clone(), stopping);
        let facts = identities.clone();
        let facts = move || {
            let [current, next] = facts.hashes();
            CertificateFacts { pinning: true, current, next: Some(next) }
        };
        let shared = http::AppState::new(
            admission.broker().clone(),
            origins,
            facts,
            local.port(),
            admission.stop(),
        );
        let serving = (listeners, shared);
        let failing = stop.clone();
        let running = run(endpoint, serving, admission, identities.clone(), failing);
        let running = tokio::spawn(running);
        Ok(Daemon { broker, local, http, identities, stop, running })
    }
}

// Names a run: not by the clock, which may be set back, and so name two. Of 52 bits, so that it and
// the epochs, which count up from it, are whole numbers for JavaScript too. Clients tell a topic's
// epochs apart, and runs: that two of them are one by chance happens once in 4.5 × 10^15 restarts.
fn new_run() -> u64 {
    (rand::random::<u64>() >> 12).max(1)
}

// Returns when every session has ended.
async fn run(
    endpoint: endpoint::Endpoint,
    (listeners, shared): (Vec<Listener>, http::AppState),
    admission: Admission,
    identities: Arc<Identities>,
    stop_all: watch::Sender<bool>,
) {
    let mut serving = JoinSet::new();
    let broker = admission.broker().clone();
    // Until this function returns.
    let mut turns = JoinSet::new();
    turns.spawn(async move { broker.take_turns().await });
    let app = http::router(Arc::new(shared), http::websocket::routes(admission.clone()));
    for listener in listeners {
        serving.spawn(listener.run(app.clone(), admission.stop()));
    }
    let mut stop = admission.stop();
    let tcp = async {
        tokio::select! {
            () = stopped(&mut stop) => {}
            // One may hear of the stop first, and then ends well.
            Some(ended) = serving.join_next() => {
                if !matches!(ended, Ok(Ok(()))) {
                    tracing::error!(?ended, "a listener failed: no HTTP and WebSocket any more");
                    serving.abort_all();
                }
            }
        }
        while serving.join_next().await.is_some() {}
        admission.ended().await;
    };
    let udp = endpoint::run(endpoint, admission.clone());
    let served = async { tokio::join!(tcp, udp) };
    let failed = async {
        admission.broker().failed().await;
        tracing::error!("the engine panicked, which is a defect of the daemon: it stops");
        stop_all.send_replace(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = served => {}
        () = identities.renewing() => {}
        () = failed => {}
    }
}

/// A running daemon. Dropping the handle stops all of it at once, HTTP included, without waiting
/// for goodbyes; see [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Daemon {
    broker: Arc<Broker>,
    local: SocketAddr,
    http: Option<SocketAddr>,
    identities: Arc<Identities>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Core")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Daemon {
    /// A daemon with the default settings, not started yet.
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
        }
    }

    /// The address it listens on, UDP and TCP.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The address of HTTP without TLS, if there is one.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    /// SHA-256 of the certificate in use: what clients pin.
    pub fn certificate_hash(&self) -> CertificateHash {
        self.identities.hashes()[0]
    }

    /// SHA-256 of the certificate in use and of the one after it, which takes over when the first
    /// has three days left. Clients that pin both get through the change.
    pub fn certificate_hashes(&self) -> [CertificateHash; 2] {
        self.identities.hashes()
    }

    /// The limits as they are applied.
    pub fn limits(&self) -> Limits {
        self.broker.with(|engine| engine.limits())
    }

    /// Publishes from within the process. Every call counts.
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

    /// One message of a topic: the newest, or by sequence, or by its payload's digest. To ask for
    /// a payload is to use it: it stays in the cache for longer.
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
            .with(|engine| engine.get(topic, which).map(|message| subscription::taken(&message)));
        let (message, payload) = found?;
        Ok(Message { payload: payload.join(), ..message })
    }

    /// The `k` most counted payloads of a topic, highest first; the daemon keeps 100.
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

    /// Subscribes from within the process. Nothing is lost or reordered here, so that all modes of
    /// [`Delivery`] come in order, as they do over WebSocket. A
    /// [`deadline`](SubscribeOptions::deadline) holds with [`Delivery::Realtime`], as it does for
    /// a client.
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

    /// Waits until the daemon stops by itself, because its engine has panicked: a defect. All
    /// sessions are told goodbye then; what calls the engine from here on, such as
    /// [`publish`](Self::publish), panics. Start another daemon, or end the process.
    pub async fn failed(&self) {
        self.broker.failed().await;
    }

    /// Stops. The daemon tells its sessions goodbye and to reconnect, and gives them one second to
    /// receive it; it gives answers to HTTP requests that have begun two seconds. Both run at the
    /// same time, so that it returns after two and a half seconds at most, whatever the paths are
    /// like. The ports are free then.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        let _ = (&mut self.running).await;
    }
}
