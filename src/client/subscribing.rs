//! Subscribing: the request in one session, what arrives for it, and its end.

use super::datagram_queue::DatagramQueue;
use super::error::SubscribeError;
use super::request::begin_request;
use super::session_state::{Delivery, PendingReply, Route, SessionState};
use crate::message::{Start, SubscribeOptions};
use crate::net::transport::Transport;
use crate::wire::{self, ClientFrame, Code, Filter, FrameError, MAX_CONTROL_FRAME, Refusal};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Ends a subscription in its session when it is dropped.
pub(super) struct SubscriptionGuard {
    pub(super) session: Arc<SessionState>,
    pub(super) request: u32,
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        let Self { session, request } = self;
        if session.lock().subscriptions.remove(request).is_some() {
            let mut out = Vec::new();
            ClientFrame::Unsubscribe { subscription: *request }.encode(&mut out);
            session.control.push([out.into()]);
        }
    }
}

/// A subscription that was requested, but is not answered yet.
pub(super) struct Requested {
    pub(super) guard: SubscriptionGuard,
    pub(super) deliveries: mpsc::Receiver<Delivery>,
    /// The queue for its datagrams; none if it is ordered.
    pub(super) queue: Option<Arc<DatagramQueue>>,
    pub(super) reply: PendingReply,
}

fn frame<'a>(
    request: u32,
    filter: &'a Filter,
    options: &SubscribeOptions,
    start: &'a Start,
) -> ClientFrame<'a> {
    ClientFrame::Subscribe {
        request,
        filter: filter.as_str(),
        start: start.to_wire(),
        delivery: options.delivery,
        lag: options.lag,
        deadline: options.deadline_ms(),
    }
}

/// Returns an error if the request is too long to send.
pub(super) fn check_size(
    filter: &Filter,
    options: &SubscribeOptions,
    start: &Start,
) -> Result<(), SubscribeError> {
    let mut bytes = Vec::new();
    frame(u32::MAX, filter, options, start).encode(&mut bytes);
    if bytes.len() <= MAX_CONTROL_FRAME {
        return Ok(());
    }
    let error = FrameError::TooLarge { size: bytes.len(), limit: MAX_CONTROL_FRAME };
    let reason = format!("too many topics to resume at once: {error}");
    Err(SubscribeError::Refused(Refusal::new(Code::FRAME_TOO_LARGE, reason)))
}

/// Requests a subscription with this start in a session. If the session is over, the reply fails.
pub(super) fn begin_subscribing(
    session: &Arc<SessionState>,
    filter: &Filter,
    options: &SubscribeOptions,
    start: &Start,
) -> Result<Requested, SubscribeError> {
    check_size(filter, options, start)?;
    // Over WebSocket, all modes are ordered.
    let unordered = options.delivery != wire::Delivery::Ordered
        && session.connection.transport() != Transport::WebSocket;
    let queue = unordered.then(Arc::<DatagramQueue>::default);
    // An ordered subscription gets one stream and one end. Another gets as many streams as the
    // daemon opens at a time.
    let (sender, deliveries) = mpsc::channel(if unordered { 80 } else { 2 });
    let route = Route { sender, queue: queue.clone() };
    let mut request = 0;
    let reply = begin_request(session, |number, tables, out| {
        request = number;
        // Entered before the request is sent, because the stream may arrive before the answer.
        tables.subscriptions.insert(number, route);
        if unordered {
            tables.implicit_subscription.get_or_insert(number);
        }
        frame(number, filter, options, start).encode(out);
    });
    let guard = SubscriptionGuard { session: session.clone(), request };
    Ok(Requested { guard, deliveries, queue, reply })
}
