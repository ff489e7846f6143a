//! Deliveries: each sends one subscription from its cursor to its peer, in the requested mode.
//!
//! A delivery knows the connection, not the session. It is given a [`DeliveryContext`] and returns
//! a [`DeliveryEnd`]. The session that runs it decides what its end means, and tells the peer.

pub(crate) mod delivered;
pub(crate) mod get;
pub(crate) mod large;
pub(crate) mod marks;
pub(crate) mod ordered;
pub(crate) mod read;
pub(crate) mod realtime;
pub(crate) mod stream;
pub(crate) mod stream_pool;
pub(crate) mod unordered;
pub(crate) mod windows;

use super::error::{ConnectionLost, WriteError};
use super::transport::connection::Connection;
use crate::broker::Broker;
use crate::broker::replaying::Replaying;
use crate::broker::throttle::ReplayBudget;
use crate::wire::Refusal;
use delivered::Delivered;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use windows::{ExtraWindow, Windows};

/// The state that the deliveries of one session share: the broker, the connection, its send window.
pub(crate) struct DeliveryContext {
    pub(crate) broker: Arc<Broker>,
    pub(crate) connection: Connection,
    // For earlier messages and answers.
    pub(crate) replay: ReplayBudget,
    pub(crate) windows: Windows,
    pub(crate) delivered: Delivered,
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
    pub(crate) fn new(
        broker: Arc<Broker>,
        connection: Connection,
        replay: ReplayBudget,
        windows: Windows,
    ) -> Self {
        let (delivered, in_flight) = (Delivered::default(), AtomicU32::new(0));
        Self { broker, connection, replay, windows, delivered, in_flight }
    }

    // Spends what a delivery has read, and counts it for the daemon and for the session.
    fn spend(&self, replaying: &mut Replaying) {
        let (messages, bytes) = replaying.spend(&self.replay, self.broker.counters());
        if messages > 0 {
            self.delivered.add(messages, bytes);
        }
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

/// The part of the send window that a large payload has for itself.
struct WindowGrant {
    context: Arc<DeliveryContext>,
    extra: ExtraWindow,
}

impl WindowGrant {
    fn new(context: Arc<DeliveryContext>, bytes: u64) -> Self {
        let extra = context.windows.widen(&context.connection, bytes);
        Self { context, extra }
    }
}

impl Drop for WindowGrant {
    fn drop(&mut self) {
        let Self { context, extra } = self;
        context.windows.narrow(&context.connection, extra);
    }
}
