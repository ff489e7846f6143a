//! The windows of one session over QUIC: how much may be in flight in each direction.
//!
//! Bytes in flight are memory of the daemon beside the cache. A session begins with small
//! windows, which are enough for small messages. A window is raised when the session needs it for the
//! first time, if the buffers of all sessions together have room. It stays raised until the session
//! ends.

use crate::access::limit_counts::{Limit, LimitCounts};
use crate::engine::{Budget, Charge};
use crate::net::quic::settings::{
    DAEMON_RECEIVE_WINDOW, DAEMON_SEND_WINDOW, FIRST_RECEIVE_WINDOW, FIRST_SEND_WINDOW,
};
use crate::net::transport::Transport;
use crate::net::transport::connection::Connection;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A peer sends in bulk if half of its first window comes within two round trips, or within 20 ms: more
/// than 6 MiB a second.
const BULK: u64 = FIRST_RECEIVE_WINDOW as u64 / 2;
const BULK_TIME: Duration = Duration::from_millis(20);

/// The windows of one session.
#[derive(Debug)]
pub(crate) struct Windows {
    // Of all sessions.
    buffers: Budget,
    counts: Arc<LimitCounts>,
    // Whether there is nothing left to raise.
    receive_raised: AtomicBool,
    send_raised: AtomicBool,
    // Bytes received, and when they last passed a multiple of BULK, ns.
    received: AtomicU64,
    passed: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    receive: Option<Charge>,
    send: Option<Charge>,
    // For large payloads.
    extra: u64,
}

/// Bytes of send window that a large payload has for itself. The window bounds what is sent and not
/// acknowledged over all streams. Without them, one large payload would take all of it, and small
/// ones would wait.
#[derive(Debug)]
pub(super) struct ExtraWindow(Option<Charge>);

impl Windows {
    pub(crate) fn new(buffers: Budget, counts: Arc<LimitCounts>, connection: &Connection) -> Self {
        // Over TCP the system has the windows.
        let fixed = connection.transport() == Transport::WebSocket;
        let raised = || AtomicBool::new(fixed);
        let (receive_raised, send_raised) = (raised(), raised());
        let (received, passed, held) = Default::default();
        Self { buffers, counts, receive_raised, send_raised, received, passed, held }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, bytes: u64) -> Option<Charge> {
        let charge = self.buffers.take(bytes as usize);
        if charge.is_none() {
            self.counts.add(Limit::Buffers);
        }
        charge
    }

    /// Notes bytes that were received, and raises the window of a peer that sends in bulk.
    pub(crate) fn received(&self, connection: &Connection, bytes: u64, now: impl FnOnce() -> u64) {
        if self.receive_raised.load(Relaxed) {
            return;
        }
        let before = self.received.fetch_add(bytes, Relaxed);
        if before / BULK == (before + bytes) / BULK {
            return;
        }
        let now = now();
        let took = Duration::from_nanos(now.saturating_sub(self.passed.swap(now, Relaxed)));
        if took < BULK_TIME.max(2 * connection.rtt().unwrap_or_default()) {
            self.raise_receive(connection);
        }
    }

    fn raise_receive(&self, connection: &Connection) {
        let more = u64::from(DAEMON_RECEIVE_WINDOW - FIRST_RECEIVE_WINDOW);
        let mut held = self.held();
        if held.receive.is_none() {
            held.receive = self.take(more);
        }
        if held.receive.is_some() {
            connection.set_receive_window(DAEMON_RECEIVE_WINDOW);
            self.receive_raised.store(true, Relaxed);
        }
    }

    /// The peer has not acknowledged as much as the window allows.
    pub(crate) fn raise_send(&self, connection: &Connection) {
        if self.send_raised.load(Relaxed) {
            return;
        }
        let mut held = self.held();
        if held.send.is_none() {
            held.send = self.take(DAEMON_SEND_WINDOW - FIRST_SEND_WINDOW);
        }
        if held.send.is_some() {
            held.apply(connection);
            self.send_raised.store(true, Relaxed);
        }
    }

    /// Widens the send window for a large payload, if there is room.
    pub(super) fn widen(&self, connection: &Connection, bytes: u64) -> ExtraWindow {
        let charge = self.take(bytes);
        if let Some(charge) = &charge {
            let mut held = self.held();
            held.extra += charge.bytes() as u64;
            held.apply(connection);
        }
        ExtraWindow(charge)
    }

    /// The large payload was sent, or will not be.
    pub(super) fn narrow(&self, connection: &Connection, extra: &mut ExtraWindow) {
        if let Some(charge) = extra.0.take() {
            let mut held = self.held();
            held.extra -= charge.bytes() as u64;
            held.apply(connection);
        }
    }
}

impl Held {
    fn apply(&self, connection: &Connection) {
        let window = if self.send.is_some() { DAEMON_SEND_WINDOW } else { FIRST_SEND_WINDOW };
        connection.set_send_window(window + self.extra);
    }
}
