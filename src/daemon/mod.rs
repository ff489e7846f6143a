//! The daemon as a part of a program: a builder, and a handle to publish, subscribe, look up and
//! stop.

mod blocking;
mod builder;
#[cfg(feature = "jetstream")]
mod cluster;
pub(crate) mod fetch;
#[cfg(feature = "cli")]
mod figures;
mod http_authorize;
mod journal;
mod key_server;
mod keys;
mod local_peer;
#[cfg(any(feature = "cli", feature = "otel", test))]
pub(crate) mod otlp;
mod reload;
mod rights_end;
mod run;
mod settings;
mod subscription;
#[cfg(test)]
mod tests;
#[cfg(feature = "otel")]
mod traces;
mod watched_keys;

use crate::access::Identity;
use crate::broker::Broker;
use crate::broker::admission::Admission;
use crate::engine::{self, Limits, Payload, Publication};
use crate::message::{Message, Ranking, Receipt, SubscribeOptions};
use crate::net::now;
use crate::net::qlog::Recorder;
use crate::net::session::list::Sessions;
use crate::tls::certificates::Certificates;
use crate::tls::{CertificateError, CertificateHash, CertificateHashes};
use crate::wire::{Digest, Filter, NameError, Refusal, Which, nonzero};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use watched_keys::InForce;

pub use builder::{Builder, SpawnError};
pub use fetch::{FetchError, RemoteError};
pub use http_authorize::HttpAuthorize;
pub use keys::{KeyFileError, KeyFileProblem};
pub use local_peer::LocalPeer;
#[cfg(feature = "otel")]
pub use otlp::OtlpError;
pub use settings::{Changes, SettingsError};
pub use subscription::LocalSubscription;
#[cfg(feature = "otel")]
pub use traces::Otlp;

pub use crate::access::limit_counts::{Limit, LimitCounts};
pub use crate::access::limits::{Network, NetworkError, PeerLimits};
pub use crate::access::origin::{HostError, OriginError};
#[cfg(feature = "jetstream")]
pub use crate::journal::jetstream::settings::{JetStreamOptions, StreamStorage};
#[cfg(feature = "jetstream")]
pub use crate::journal::jetstream::stream::LogError;
pub use crate::journal::settings::{JournalOptions, JournalSync, OnFailure};
pub use crate::journal::threads::JournalError;
pub use crate::net::bind::BindError;
pub use crate::net::session::flow::Flow;
pub use crate::net::session::list::{SessionInfo, SubscriptionInfo};
pub use crate::ops::metrics::Metrics;
pub use crate::tls::certificates::Reloaded;
pub use crate::tls::identity::IdentityError;
#[cfg(feature = "cli")]
pub(crate) use crate::tls::settings::CHECK;
pub use crate::tls::settings::{
    AcmeChallenge, AcmeDirectory, AcmeSettings, DomainError, TlsSettings,
};
#[cfg(feature = "cli")]
pub(crate) use figures::{Figures, Observer};

/// A running daemon. Dropping the handle stops the daemon at once, HTTP included, without goodbyes;
/// see [`shutdown`](Self::shutdown).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use weir::{Daemon, Event, SubscribeOptions};
///
/// let daemon = Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
/// let mut news = daemon.subscribe("demo/*", &SubscribeOptions::default())?;
/// let receipt = daemon.publish("demo/a", "hello")?;
/// assert_eq!((receipt.sequence, receipt.count), (1, 1));
/// if let Some(Event::Message(message)) = news.next().await.transpose()? {
///     assert_eq!((&*message.topic, &*message.payload), ("demo/a", &b"hello"[..]));
/// }
/// daemon.shutdown().await;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "a daemon stops when it is dropped"]
pub struct Daemon {
    broker: Arc<Broker>,
    admission: Admission,
    sessions: Arc<Sessions>,
    addresses: Addresses,
    metrics: Metrics,
    certificates: Arc<Certificates>,
    recorder: Arc<Recorder>,
    // Boxed, because the handle is moved about, and they are large.
    settings: Box<Mutex<InForce>>,
    running: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
struct Addresses {
    local: SocketAddr,
    http: Option<SocketAddr>,
    ops: Option<SocketAddr>,
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
        Builder::new()
    }

    /// Returns the address of the daemon, for UDP and TCP.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses.local
    }

    /// Returns the address of HTTP without TLS, if there is one.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.addresses.http
    }

    /// Returns the address of metrics and health, if there is one.
    pub fn ops_addr(&self) -> Option<SocketAddr> {
        self.addresses.ops
    }

    /// Returns the metrics, which a registry of your own can collect. They can be read after the daemon
    /// has stopped, too, and keep its cache in memory until they are dropped.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Returns the SHA-256 hash of the certificate in use, which clients can pin.
    pub fn certificate_hash(&self) -> CertificateHash {
        self.certificates.facts().current
    }

    /// Returns the SHA-256 hashes of the certificate in use, and of the next one if it is
    /// self-signed. The daemon switches to the next one three days before the first expires, so
    /// clients should pin both.
    pub fn certificate_hashes(&self) -> CertificateHashes {
        self.certificates.facts().hashes().into_iter().collect()
    }

    /// Reads the files of [`TlsSettings`] again: the certificate, its key, and the authorities of
    /// client certificates. The daemon also does so by itself when they change. If files cannot be
    /// used, what was read before stays. Open sessions go on in any case. With ACME, a certificate that
    /// is due is ordered at once, in place of after the delay that follows a failure.
    pub async fn reload_certificates(&self) -> Result<Reloaded, CertificateError> {
        let certificates = self.certificates.clone();
        blocking::blocking(move || certificates.reload()).await
    }

    /// Reads the file of keys that verify tokens again, or fetches them from their server. The daemon
    /// also does so by itself: when the file changes, and at intervals. If the keys cannot be used,
    /// those that were read before stay. Open sessions go on in any case. Returns whether there is such
    /// a file or server.
    pub async fn reload_keys(&self) -> Result<bool, KeyFileError> {
        let Some((keys, keyring)) = self.settings.lock().await.keys() else { return Ok(false) };
        keys.reload(keyring).await.map(|()| true)
    }

    /// Returns a peer within the process with this identity. It may do what the identity and
    /// [public](crate::access::AccessRules::public) rights allow, as if it were connected; if the
    /// daemon has no rules, everything. The daemon's own methods have no restrictions.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use weir::access::{AccessRules, Identity, Rights};
    /// use weir::wire::Code;
    ///
    /// let rules = AccessRules::default().public(Rights::nothing());
    /// let builder = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).access(rules);
    /// let daemon = builder.spawn().await?;
    /// let rights = Rights::new(["demo/chat".parse()?], [])?;
    /// let ada = daemon.as_identity(Identity::named("ada", rights)?)?;
    /// ada.publish("demo/chat", "hello")?;
    /// assert_eq!(ada.publish("demo/other", "hello").unwrap_err().code, Code::FORBIDDEN);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The identity has as many sessions as it may have, or its time has passed.
    pub fn as_identity(&self, identity: Identity) -> Result<LocalPeer, Refusal> {
        LocalPeer::new(self.broker.clone(), self.admission.clone(), identity)
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
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
    /// daemon.publish("demo/a", "hello")?;
    /// let receipt = daemon.publish("demo/a", "hello")?;
    /// assert_eq!((receipt.sequence, receipt.count), (2, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>) -> Result<Receipt, Refusal> {
        publish(&self.broker, topic, payload.into())
    }

    /// Publishes as [`publish`](Self::publish), and waits until the publication is kept, as the journal's
    /// setting says. A daemon that is one of several waits until their log has it, and it was applied here.
    ///
    /// # Errors
    ///
    /// As of [`publish`](Self::publish). With [`Code::UNAVAILABLE`](crate::wire::Code::UNAVAILABLE), a
    /// log that several daemons share may still take the publication.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
    /// assert_eq!(daemon.publish_kept("demo/a", "hello").await?.sequence, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn publish_kept(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Receipt, Refusal> {
        publish_kept(&self.broker, topic, payload.into()).await
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
        get(&self.broker, topic, which)
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
        top(&self.broker, topic, k)
    }

    /// Subscribes from within the process. All modes of [`Delivery`](crate::wire::Delivery) are ordered, as over WebSocket,
    /// because nothing is lost or reordered. With
    /// [`Delivery::Realtime`](crate::wire::Delivery::Realtime), a
    /// [`deadline`](SubscribeOptions::deadline) applies as for a client.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use weir::{Event, Start, SubscribeOptions};
    ///
    /// let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
    /// daemon.publish("demo/a", "before")?;
    /// let mut all = daemon.subscribe("demo/**", &SubscribeOptions::from(Start::All))?;
    /// if let Some(Event::Message(message)) = all.next().await.transpose()? {
    ///     assert_eq!(message.payload, "before");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn subscribe(
        &self,
        filter: &str,
        options: &SubscribeOptions,
    ) -> Result<LocalSubscription, NameError> {
        Ok(LocalSubscription::begin(&self.broker, Filter::new(filter)?, options))
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

    /// Returns how often each limit of peers has taken effect since the daemon began.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use weir::daemon::Limit;
    ///
    /// let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
    /// assert_eq!(daemon.limit_counts().get(Limit::SessionsPerAddress), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn limit_counts(&self) -> &LimitCounts {
        self.admission.counts()
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
    /// ports are free then. A daemon that exports traces takes two seconds more if the collector of its
    /// last spans does not answer.
    ///
    /// The daemon sends its sessions a goodbye that asks them to reconnect, and gives them one second
    /// to receive it. At the same time it gives unfinished answers over HTTP two seconds.
    pub async fn shutdown(mut self) {
        self.admission.stop();
        let _ = (&mut self.running).await;
    }
}

fn publish(broker: &Broker, topic: &str, payload: Bytes) -> Result<Receipt, Refusal> {
    let digest = Digest::of(&payload);
    let payload = Payload::from(payload);
    let stamp = now();
    let publication = Publication { topic, payload: &payload, digest, stamp, origin: None };
    broker.with(|engine| engine.publish(stamp, &publication)).map(receipt)
}

async fn publish_kept(broker: &Broker, topic: &str, payload: Bytes) -> Result<Receipt, Refusal> {
    let digest = Digest::of(&payload);
    let payload = Payload::from(payload);
    let stamp = now();
    let publication = Publication { topic, payload: &payload, digest, stamp, origin: None };
    let accepted = broker.publish(stamp, &publication).await?;
    broker.kept().await;
    Ok(receipt(accepted))
}

fn receipt(receipt: engine::Receipt) -> Receipt {
    let engine::Receipt { sequence, count, since, digest, duplicate } = receipt;
    Receipt { sequence, count, since: nonzero(since), digest, duplicate }
}

fn top(broker: &Broker, topic: &str, k: usize) -> Result<Vec<Ranking>, Refusal> {
    let rankings = broker.with(|engine| engine.top(topic, k))?;
    let ranking = |ranking| {
        let engine::Ranking { digest, count, since, sequence, size, payload } = ranking;
        Ranking { digest, count, since: nonzero(since), sequence, size, payload }
    };
    Ok(rankings.into_iter().map(ranking).collect())
}

fn get(broker: &Broker, topic: &str, which: Which) -> Result<Message, Refusal> {
    let found =
        broker.with(|engine| engine.get(topic, which).map(|message| subscription::owned(&message)));
    let (message, payload) = found?;
    Ok(Message { payload: payload.join(), ..message })
}
