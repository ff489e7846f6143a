//! The handle of a client.

use super::error::{SessionClosed, closed_here};
use super::reconnect::State;
use super::session_state::{LINGER, SessionState};
use super::shared::{Facts, Shared};
use crate::net::transport::Transport;
use crate::net::transport::path::PathStats;
use crate::wire::{Code, Refusal};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A client of a daemon: one session at a time. Clones share it.
///
/// When the session ends, the client [opens another](super::Reconnect). Its subscriptions continue
/// there, and it sends the publications again that have no receipt. It closes with
/// [`close`](Self::close), or when the last clone and the last subscription are dropped.
///
/// ```
/// # #[cfg(feature = "daemon")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
/// # let server = daemon.local_addr().to_string();
/// # let trust = weir::Trust::Pinned(daemon.certificate_hashes());
/// let client = weir::Client::builder(server).trust(trust).connect().await?;
/// let receipt = client.publish("demo/a", "hello").await?;
/// assert_eq!((receipt.sequence, receipt.count), (1, 1));
/// let message = client.get("demo/a", weir::wire::Which::Latest).await?;
/// assert_eq!(message.payload, "hello");
/// client.close().await;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use = "a client closes when it is dropped"]
pub struct Client {
    handle: Arc<Handle>,
}

// Closes the client when it is dropped.
struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    // Closes the client. Returns its session.
    fn close(&self) -> Option<Arc<SessionState>> {
        // The supervisor notices, and ends.
        let session = self.shared.close(closed_here());
        if let Some(session) = &session {
            session.fail(closed_here());
            // The driver notices that the connection is closed, and ends.
            session.connection.close(Code::DONE, "");
        }
        session
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { session, transport, daemon, .. } = self.shared.facts();
        write!(f, "session {session} over {transport} to {daemon}")
    }
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { shared }) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Returns why the client is closed.
    pub(super) fn close_reason(&self) -> SessionClosed {
        self.shared().close_reason().unwrap_or_else(closed_here)
    }

    /// Returns the transport of the session, or between two sessions that of the last one.
    pub fn transport(&self) -> Transport {
        self.shared().facts().transport
    }

    /// Returns the connection's smoothed round-trip time. Returns `None` over WebSocket, where
    /// [`ping`](Self::ping) measures one, and between two sessions.
    pub fn rtt(&self) -> Option<Duration> {
        self.shared().session()?.connection.rtt()
    }

    /// Returns the daemon's address, and what QUIC has learned of the path there. Returns `None` between
    /// two sessions.
    pub fn path(&self) -> Option<PathStats> {
        Some(self.shared().session()?.connection.path())
    }

    /// Returns the maximum size of a payload that the daemon accepts, bytes.
    pub fn max_payload(&self) -> u64 {
        self.shared().facts().limits.payload
    }

    /// Returns whether a session is open.
    pub fn state(&self) -> State {
        self.shared().watch_state().borrow().clone()
    }

    /// Returns a receiver that is notified of each change of the [`state`](Self::state). It keeps the
    /// newest state only, so that a slow reader may miss some in between. It does not keep the client
    /// open, and fails after the client is dropped.
    pub fn watch_state(&self) -> watch::Receiver<State> {
        self.shared().watch_state()
    }

    /// Returns what the daemon has said of its state, if that lasts: with the code
    /// [`UNKEPT`](Code::UNKEPT), that it accepts publications and cannot keep them.
    pub fn notice(&self) -> Option<Refusal> {
        self.shared().watch_notice().borrow().clone()
    }

    /// Returns a receiver that is notified of each change of the [`notice`](Self::notice).
    pub fn watch_notice(&self) -> watch::Receiver<Option<Refusal>> {
        self.shared().watch_notice()
    }

    /// Waits until a session is open. Returns at once if one is. Fails if the client is closed.
    pub async fn open(&self) -> Result<(), SessionClosed> {
        self.shared().next_session(None).await.map(drop)
    }

    /// Waits until the client is closed: it has no session and does not reconnect.
    pub async fn closed(&self) -> SessionClosed {
        self.shared().closed().await
    }

    /// Waits until each publication has its answer, in this session or another, or has failed. Then
    /// says goodbye, and waits for at most one second until the daemon has received it.
    ///
    /// While the client reconnects, this takes as long as that. To limit it, use a timeout, or
    /// [`Reconnect::give_up_after`](super::Reconnect::give_up_after).
    pub async fn close(self) {
        self.shared().all_settled().await;
        let Some(session) = self.handle.close() else {
            return;
        };
        // The endpoint keeps a closed connection for three probe timeouts (RFC 9000, section 10.2),
        // which are minutes if the path was interrupted. The closing packet is sent at once.
        let closed = async {
            session.endpoint.wait_idle().await;
            session.connection.left().await;
        };
        let _ = tokio::time::timeout(LINGER, closed).await;
    }
}
