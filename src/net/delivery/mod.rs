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
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The state that the deliveries of one session share: the broker, the connection, its send window.
pub(crate) struct DeliveryContext {
    pub(crate) broker: Arc<Broker>,
    pub(crate) connection: Connection,
    // Bytes that large payloads may have in flight beyond the send window of the session.
    extra_window: Mutex<u64>,
    // Number of messages, answers and batches that are being sent, and of streams on which a frame
    // or a publication is incomplete.
    in_flight: AtomicU32,
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
        Self { broker, connection, extra_window: Mutex::default(), in_flight: AtomicU32::new(0) }
    }

    /// Whether something arrives, or is being sent: the transport has not taken it, or it has a
    /// stream of its own and was not received.
    pub(crate) fn has_in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn begin_in_flight(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end_in_flight(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn change_window(&self, change: impl FnOnce(u64) -> u64) {
        let mut extra = self.extra_window.lock().unwrap_or_else(PoisonError::into_inner);
        *extra = change(*extra);
        self.connection.set_extra_send_window(*extra);
    }
}

/// Something that is being sent.
struct Sending(Arc<DeliveryContext>);

impl Sending {
    fn new(context: &Arc<DeliveryContext>) -> Self {
        context.begin_in_flight();
        Self(context.clone())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.end_in_flight();
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
