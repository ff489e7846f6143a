//! The daemon inside one's own program: a builder, and a handle to publish, subscribe and stop.

use crate::engine::{Engine, Item, Limits, Publication, Receipt, SubscriptionId};
use crate::message::{Event, Gap, Message, SubscribeOptions};
use crate::net::core::Core;
use crate::net::identity::Identity;
use crate::net::{endpoint, now};
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
use tokio::task::JoinHandle;

pub use crate::net::endpoint::BindError;
pub use crate::net::identity::IdentityError;
use crate::net::tls::CertificateHash;

/// Most sessions at once, by default.
pub(crate) const SESSIONS: usize = 65_536;

/// Settings of a daemon, made by [`Daemon::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    listen: SocketAddr,
    state: Option<PathBuf>,
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
    /// Its port.
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl Builder {
    /// The UDP address for raw QUIC and WebTransport; port 0 lets the system choose. Default
    /// `[::]:4433`, which takes IPv4 too.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Where the certificate is kept. Default: nowhere; every start makes a new one.
    pub fn state(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = Some(directory.into());
        self
    }

    /// What the daemon may hold. Default: see [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Most sessions at once; further ones are refused. Default 65,536.
    pub fn sessions(mut self, most: usize) -> Self {
        self.sessions = most;
        self
    }

    /// Starts the daemon; within a tokio runtime.
    #[expect(clippy::unused_async, reason = "what starts later will have to be waited for")]
    pub async fn spawn(self) -> Result<Daemon, SpawnError> {
        let identity = match &self.state {
            Some(directory) => Identity::kept(directory)?,
            None => Identity::make()?.0,
        };
        let certificate = identity.hash();
        let endpoint = endpoint::bind(self.listen, identity)?;
        let local = endpoint.local_addr();
        let local = local.map_err(|error| BindError::Address { address: self.listen, error })?;
        let core = Arc::new(Core::new(Engine::new(self.limits, now(), rand::random())));
        let (stop, stopping) = watch::channel(false);
        let running = tokio::spawn(endpoint::run(endpoint, core.clone(), self.sessions, stopping));
        Ok(Daemon { core, local, certificate, stop, running })
    }
}

/// A running daemon. Dropping the handle stops it without goodbyes; see
/// [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Daemon {
    core: Arc<Core>,
    local: SocketAddr,
    certificate: CertificateHash,
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
            state: None,
            limits: Limits::default(),
            sessions: SESSIONS,
        }
    }

    /// The UDP address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// SHA-256 of its certificate: what clients pin.
    pub fn certificate_hash(&self) -> CertificateHash {
        self.certificate
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
        let SubscribeOptions { start, lag, delivery: Delivery::Ordered | _ } = options;
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
    events: VecDeque<Event>,
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
            if let Some(event) = this.events.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let Self { core, id, events, .. } = this;
            let read = core.poll_read(*id, context, BATCH, &mut |item| events.extend(event(&item)));
            if let Err(refusal) = std::task::ready!(read) {
                this.ended = true;
                return Poll::Ready(Some(Err(refusal)));
            }
        }
    }
}

fn event(item: &Item<'_>) -> Option<Event> {
    match item {
        Item::Topic { .. } => None,
        Item::Message(message) => Some(Event::Message(Message {
            topic: message.topic().clone(),
            epoch: message.epoch(),
            sequence: message.sequence(),
            count: message.count(),
            stamp: Some(message.stamp()).filter(|stamp| *stamp > 0),
            payload: message.payload(),
        })),
        Item::Gap { name, epoch, first, last, cause, .. } => Some(Event::Gap(Gap {
            topic: (*name).clone(),
            epoch: *epoch,
            first: *first,
            last: *last,
            cause: *cause,
        })),
    }
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        self.core.with(|engine| engine.unsubscribe(self.id));
        self.core.forget(self.id);
    }
}
