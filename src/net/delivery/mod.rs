//! Deliveries: each sends one subscription from its cursor to its peer, in the requested mode.
//!
//! A delivery knows the connection, not the session. It is given a [`DeliveryContext`] and returns
//! a [`DeliveryEnd`]. The session that runs it decides what its end means, and tells the peer.

pub(crate) mod get;
pub(crate) mod large;
pub(crate) mod marks;
pub(crate) mod ordered;
pub(crate) mod read;
pub(crate) mod realtime;
pub(crate) mod stream;
pub(crate) mod stream_pool;
pub(crate) mod unordered;

use super::error::{ConnectionLost, WriteError};
use super::transport::connection::Connection;
use crate::broker::Broker;
use crate::wire::Refusal;
use std::sync::{Arc, Mutex, PoisonError};

/// The state that the deliveries of one session share: the broker, the connection, its send window.
pub(crate) struct DeliveryContext {
    pub(crate) broker: Arc<Broker>,
    pub(crate) connection: Connection,
    // Bytes that large payloads may have in flight beyond the send window of the session.
    extra_window: Mutex<u64>,
}

/// Why a delivery ended.
#[derive(Debug)]
pub(crate) enum DeliveryEnd {
    /// The subscription cannot continue, or the message of a `Get` is lost. The peer gets the
    /// reason.
    Refused(Refusal),
    /// The peer stopped the subscription's stream.
    StoppedByPeer,
    /// The connection was lost. The session sees that too, and ends.
    ConnectionLost,
    /// Everything was sent, or the subscription was ended while it was read.
    Finished,
}

impl From<WriteError> for DeliveryEnd {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped => Self::StoppedByPeer,
            WriteError::ConnectionLost(_) => Self::ConnectionLost,
        }
    }
}

impl From<ConnectionLost> for DeliveryEnd {
    fn from(_: ConnectionLost) -> Self {
        Self::ConnectionLost
    }
}

impl DeliveryContext {
    pub(crate) fn new(broker: Arc<Broker>, connection: Connection) -> Self {
        Self { broker, connection, extra_window: Mutex::default() }
    }

    fn change_window(&self, change: impl FnOnce(u64) -> u64) {
        let mut extra = self.extra_window.lock().unwrap_or_else(PoisonError::into_inner);
        *extra = change(*extra);
        self.connection.set_extra_send_window(*extra);
    }
}

/// Bytes of send window that a large payload has for itself. The window bounds what is sent and not
/// acknowledged over all streams. Without a grant, one large payload would take all of it, and
/// small ones would wait.
struct WindowGrant {
    context: Arc<DeliveryContext>,
    bytes: u64,
}

impl WindowGrant {
    fn new(context: Arc<DeliveryContext>, bytes: u64) -> Self {
        context.change_window(|all| all + bytes);
        Self { context, bytes }
    }
}

impl Drop for WindowGrant {
    fn drop(&mut self) {
        self.context.change_window(|all| all - self.bytes);
    }
}
