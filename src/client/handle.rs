//! The handle of a session.

use super::dial::Endpoint;
use super::error::{SessionClosed, closed_here};
use super::session_state::{LINGER, SessionState};
use crate::net::transport::Transport;
use crate::wire::Code;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A session with a daemon. Clones share the session. It ends with [`close`](Self::close), or when
/// the last clone and the last subscription are dropped.
#[derive(Debug, Clone)]
pub struct Client {
    session: Arc<Session>,
}

// Ends the session when it is dropped.
struct Session {
    state: Arc<SessionState>,
    endpoint: Endpoint,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.state.fail(closed_here());
        // The driver notices that the connection is closed, and ends.
        self.state.connection.close(Code::DONE, "");
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SessionState { session, connection, .. } = &*self.state;
        let (transport, daemon) = (connection.transport(), connection.remote_address());
        write!(f, "session {session} over {transport} to {daemon}")
    }
}

impl Client {
    pub(super) fn new(state: Arc<SessionState>, endpoint: Endpoint) -> Self {
        Self { session: Arc::new(Session { state, endpoint }) }
    }

    pub(super) fn state(&self) -> &Arc<SessionState> {
        &self.session.state
    }

    /// Returns the transport of the session.
    pub fn transport(&self) -> Transport {
        self.state().connection.transport()
    }

    /// Returns the connection's smoothed round-trip time. Returns `None` over WebSocket, where
    /// [`ping`](Self::ping) measures one.
    pub fn rtt(&self) -> Option<Duration> {
        self.state().connection.rtt()
    }

    /// Returns the maximum size of a payload that the daemon accepts, bytes.
    pub fn max_payload(&self) -> u64 {
        self.state().limits.payload
    }

    /// Waits until the session has ended.
    pub async fn closed(&self) -> SessionClosed {
        self.state().over().await;
        self.state().close_reason()
    }

    /// Waits for the receipts of all publications, unless the session ends before. Then says
    /// goodbye, and waits for at most one second until the daemon has received it.
    pub async fn close(self) {
        self.state().all_settled().await;
        self.state().connection.close(Code::DONE, "");
        // The endpoint keeps a closed connection for three probe timeouts (RFC 9000, section 10.2),
        // which are minutes if the path was interrupted. The closing packet is sent at once.
        let closed = async {
            self.session.endpoint.wait_idle().await;
            self.state().connection.left().await;
        };
        let _ = tokio::time::timeout(LINGER, closed).await;
    }
}
