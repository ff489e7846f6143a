//! A native peer: publish, subscribe, look up, over raw QUIC, WebTransport or WebSocket.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = weir::Client::connect("localhost:4433").await?;
//! let mut news = client.subscribe("demo/*", &weir::SubscribeOptions::default()).await?;
//! let receipt = client.publish("demo/a", "hello").await?;
//! println!("message {}, published {} times", receipt.sequence, receipt.count);
//! while let Some(event) = news.next().await {
//!     println!("{:?}", event?);
//! }
//! # Ok(())
//! # }
//! ```

mod connect;
mod datagram_queue;
mod dial;
mod driver;
mod error;
mod message_stream;
mod progress;
mod publish;
mod publish_realtime;
mod reassembly;
mod request;
mod subscription;
mod unordered;
mod upload;

pub use crate::client::publish_realtime::Accepted;
pub use crate::client::unordered::DeliveryStats;
pub use error::{ConnectError, PublishError, RequestError, SessionClosed, SubscribeError};
pub use publish::{PendingReceipt, Receipt};
pub use request::Ranking;
pub use subscription::Subscription;

use crate::net::transport::Transport;
use crate::net::transport::connection::Connection;
use crate::net::transport::outbox::Outbox;
use crate::tls::Trust;
use crate::wire::{Limits, Position};
use driver::State;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// Settings of a client, made by [`Client::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    server: String,
    way: TransportChoice,
    trust: Trust,
    state: Option<PathBuf>,
    token: Option<String>,
}

/// How to connect.
#[derive(Debug, Clone, Copy)]
enum TransportChoice {
    Only(Transport),
    Auto,
}

impl Builder {
    /// How to connect: so and not otherwise. Default raw QUIC.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.way = TransportChoice::Only(transport);
        self
    }

    /// Connects over raw QUIC where that is possible, else over WebSocket; undoes
    /// [`transport`](Self::transport). WebSocket is tried as soon as QUIC has failed, and beside
    /// it when it has not answered within a second; the first that the daemon welcomes is taken.
    /// QUIC has this head start because it is the better one to have where both work. A daemon
    /// that refuses the session, or whose certificate is not trusted, is not asked twice.
    ///
    /// [`Client::transport`] says which it is; falling back is also logged, with the reason.
    pub fn auto(mut self) -> Self {
        self.way = TransportChoice::Auto;
        self
    }

    /// How to check the daemon's certificate. Default [`Trust::Auto`].
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Where a daemon on this machine keeps its certificate, for [`Trust::Auto`]. Default: where
    /// it keeps it by default, or as a service.
    pub fn state(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = Some(directory.into());
        self
    }

    /// What to show a daemon that asks who is there. Default nothing.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Connects; gives up after 5 s for each of the server's addresses.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let dialled = connect::dial(&self).await?;
        Ok(Client::start(dialled))
    }
}

/// A session with a daemon. Clones share it; it ends when the last of them, and the last
/// subscription, is dropped, or with [`close`](Self::close).
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What the client's tasks and its users share.
struct SessionState {
    connection: Connection,
    session: u64,
    limits: Limits,
    begin: Position,
    state: Mutex<State>,
    // Frames for the control stream, and for the publishing stream.
    control: Outbox,
    publications: Outbox,
    // Datagrams, each a piece.
    datagrams: Outbox,
    // There is something to send again, or no more.
    resends: Notify,
    begun: Instant,
    // A receipt came.
    receipt: Notify,
    // Room for publications with a stream of their own; one was handed over.
    large: Arc<Semaphore>,
    sending: Notify,
}

impl SessionState {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// The session ends with this.
struct Handle {
    shared: Arc<SessionState>,
    endpoint: connect::Endpoint,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.fail(connect::closed_here());
        // The driver sees it, and ends.
        self.shared.connection.close(crate::wire::Code::DONE, "");
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SessionState { session, connection, .. } = &*self.shared;
        write!(
            f,
            "session {session} over {} to {}",
            connection.transport(),
            connection.remote_address()
        )
    }
}

impl Client {
    /// Settings for connecting to `server`: `HOST`, `HOST:PORT` or `[IPV6]:PORT`; the default
    /// port is 4433.
    pub fn builder(server: impl Into<String>) -> Builder {
        Builder {
            server: server.into(),
            way: TransportChoice::Only(Transport::Quic),
            trust: Trust::default(),
            state: None,
            token: None,
        }
    }

    /// Connects over raw QUIC with the default settings.
    pub async fn connect(server: impl Into<String>) -> Result<Self, ConnectError> {
        Self::builder(server).connect().await
    }

    fn start(dialled: connect::Established) -> Self {
        let connect::Established { endpoint, connection, tx, rx, reader, session, limits, begin } =
            dialled;
        let shared = Arc::new(SessionState {
            connection,
            session,
            limits,
            begin,
            state: Mutex::new(State::default()),
            control: Outbox::default(),
            publications: Outbox::default(),
            datagrams: Outbox::default(),
            resends: Notify::new(),
            begun: Instant::now(),
            receipt: Notify::new(),
            large: Arc::new(Semaphore::new(publish::OWN_STREAMS)),
            sending: Notify::new(),
        });
        tokio::spawn(driver::run(shared.clone(), tx, rx, reader));
        Self { handle: Arc::new(Handle { shared, endpoint }) }
    }

    fn shared(&self) -> &Arc<SessionState> {
        &self.handle.shared
    }

    /// How it is connected.
    pub fn transport(&self) -> Transport {
        self.shared().connection.transport()
    }

    /// The connection's smoothed round-trip time; none over WebSocket, where
    /// [`ping`](Self::ping) measures one.
    pub fn rtt(&self) -> Option<Duration> {
        self.shared().connection.rtt()
    }

    /// Largest payload that the daemon takes, bytes.
    pub fn max_payload(&self) -> u64 {
        self.shared().limits.payload
    }

    /// Waits until the session has ended.
    pub async fn closed(&self) -> SessionClosed {
        self.shared().ended().await;
        self.shared().why()
    }

    /// Waits for the receipts of everything published, for as long as the session lasts. Then says
    /// goodbye, and gives the daemon one second to receive it.
    pub async fn close(self) {
        self.shared().settled().await;
        self.shared().connection.close(crate::wire::Code::DONE, "");
        // A connection that is closed stays for three of its probe timeouts (RFC 9000, section
        // 10.2): over a path that stood still, minutes. The packet that closes it leaves at once.
        let gone = async {
            self.handle.endpoint.wait_idle().await;
            self.shared().connection.left().await;
        };
        let _ = tokio::time::timeout(driver::LINGER, gone).await;
    }
}
