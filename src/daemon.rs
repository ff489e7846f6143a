//! The daemon inside one's own program: a builder, and a handle to publish, subscribe and stop.

use crate::engine::{Engine, Item, Large, Limits, Publication, Receipt, SubscriptionId, Wanted};
use crate::http::listen::{Connections, Listener};
use crate::http::{self, CertificateFacts, Origins};
use crate::message::{Event, Gap, Known, Message, SubscribeOptions};
use crate::net::core::{Core, Taken};
use crate::net::doors::Doors;
use crate::net::identity::Identities;
use crate::net::session::stopped;
use crate::net::{endpoint, now, ports};
use crate::wire::{Delivery, Digest, Filter, NameError, Refusal};
use bytes::Bytes;
use futures_core::Stream;
use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use crate::http::{HostError, OriginError};
pub use crate::net::identity::IdentityError;
pub use crate::net::ports::BindError;
use crate::net::tls::CertificateHash;

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
    #[expect(clippy::unused_async, reason = "what starts later will have to be waited for")]
    pub async fn spawn(self) -> Result<Daemon, SpawnError> {
        let origins = Origins::parse(self.origins)?.named(self.names)?;
        let identities = Arc::new(Identities::open(self.state, self.announce)?);
        let (udp, tcp) = ports::pair(self.listen)?;
        let plain = self.http.map(ports::http).transpose()?;
        let local = udp.local_addr().map_err(|error| BindError::Endpoint { error })?;
        let http = plain.as_ref().map(std::net::TcpListener::local_addr).transpose();
        let http = http.map_err(|error| BindError::Endpoint { error })?;
        let endpoint = endpoint::open(udp, identities.clone())?;
        let connections = Connections::new(self.sessions);
        let mut listeners = vec![Listener::tls(tcp, identities.clone(), &connections)?];
        listeners.extend(plain.map(|plain| Listener::plain(plain, &connections)));
        let core = Arc::new(Core::new(Engine::new(self.limits, now(), rand::random())));
        let (stop, stopping) = watch::channel(false);
        let doors = Doors::new(core.clone(), self.sessions, origins.clone(), stopping);
        let facts = identities.clone();
        let facts = move || {
            let [current, next] = facts.hashes();
            CertificateFacts { pinning: true, current, next: Some(next) }
        };
        let shared =
            http::Shared::new(doors.core().clone(), origins, facts, local.port(), doors.stop());
        let running = tokio::spawn(run(endpoint, listeners, shared, doors, identities.clone()));
        Ok(Daemon { core, local, http, identities, stop, running })
    }
}

// Returns when every session has ended.
async fn run(
    endpoint: endpoint::Endpoint,
    listeners: Vec<Listener>,
    shared: http::Shared,
    doors: Doors,
    identities: Arc<Identities>,
) {
    let mut serving = JoinSet::new();
    let app = http::router(Arc::new(shared), http::websocket::routes(doors.clone()));
    for listener in listeners {
        serving.spawn(listener.run(app.clone(), doors.stop()));
    }
    let mut stop = doors.stop();
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
        doors.ended().await;
    };
    let udp = endpoint::run(endpoint, doors.clone());
    let served = async { tokio::join!(tcp, udp) };
    tokio::select! {
        _ = served => {}
        () = identities.renewing() => {}
    }
}

/// A running daemon. Dropping the handle stops it without goodbyes; see
/// [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Daemon {
    core: Arc<Core>,
    local: SocketAddr,
    http: Option<SocketAddr>,
    identities: Arc<Identities>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl std::fmt::Debug for Core {
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
        self.core.with(|engine| engine.limits())
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
        let stamp = now();
        let publication = Publication { topic, payload: &payload, digest, stamp, origin: None };
        self.core.with(|engine| engine.publish(stamp, &publication))
    }

    /// Subscribes from within the process. Delivery is always in order.
    pub fn subscribe(
        &self,
        filter: &str,
        options: &SubscribeOptions,
    ) -> Result<LocalSubscription, NameError> {
        let SubscribeOptions { start, lag, delivery: Delivery::Ordered | _, deadline: _ } = options;
        let filter = Filter::new(filter)?;
        let id = self.core.with(|engine| engine.subscribe(filter, &start.to_wire(), *lag));
        Ok(LocalSubscription { core: self.core.clone(), id, events: VecDeque::new(), ended: false })
    }

    /// Stops: sessions are told goodbye and to reconnect, and have a second each to hear it.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        let _ = (&mut self.running).await;
    }
}

/// A subscription from within the process: a [`Stream`] of events.
#[derive(Debug)]
pub struct LocalSubscription {
    core: Arc<Core>,
    id: SubscriptionId,
    // At most what one read hands out.
    events: VecDeque<Read>,
    ended: bool,
}

/// Bytes taken from the engine at once.
const BATCH: usize = 16 << 10;

impl LocalSubscription {
    /// The next event; none after an error.
    pub async fn next(&mut self) -> Option<Result<Event, Refusal>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for LocalSubscription {
    type Item = Result<Event, Refusal>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(read) = this.events.pop_front() {
                return Poll::Ready(Some(Ok(this.event(read))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let Self { core, id, events, .. } = this;
            // One that arrives is waited for, and others may overtake it.
            let wanted = Wanted { large: Large::Whole { in_order: false }, ..BATCH.into() };
            let read = core.poll_read(*id, context, wanted, &mut |item| events.extend(read(&item)));
            if let Err(refusal) = std::task::ready!(read) {
                this.ended = true;
                return Poll::Ready(Some(Err(refusal)));
            }
        }
    }
}

impl LocalSubscription {
    fn event(&self, read: Read) -> Event {
        match read {
            Read::Event(event) => event,
            Read::Message(message, payload) => {
                Event::Message(Message { payload: self.core.join(payload), ..message })
            }
        }
    }
}

// What was read under the lock.
#[derive(Debug)]
enum Read {
    Event(Event),
    // Without its payload, which comes beside it.
    Message(Message, Taken),
}

fn read(item: &Item<'_>) -> Option<Read> {
    match item {
        Item::Message(message) => {
            let without = Message {
                topic: message.topic().clone(),
                epoch: message.epoch(),
                sequence: message.sequence(),
                count: message.count(),
                stamp: Some(message.stamp()).filter(|stamp| *stamp > 0),
                payload: Bytes::new(),
                known: Known(Some(message.digest())),
            };
            Some(Read::Message(without, Taken::of(message)))
        }
        Item::Gap { name, epoch, first, last, cause, .. } => Some(Read::Event(Event::Gap(Gap {
            topic: (*name).clone(),
            epoch: *epoch,
            first: *first,
            last: *last,
            cause: *cause,
        }))),
        // Announcements; and what is not asked for.
        _ => None,
    }
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        self.core.with(|engine| engine.unsubscribe(self.id));
        self.core.forget(self.id);
    }
}
