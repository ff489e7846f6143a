//! The state that the tasks of one session and its users share, and what each of them may do with it.

use super::datagram_queue::DatagramQueue;
use super::dial::Endpoint;
use super::error::{SessionClosed, closed_here};
use super::in_flight::LargePublication;
use super::message_stream::{Fault, MessageStream};
use crate::message::{Message, Ranking};
use crate::net::error::ConnectionLost;
use crate::net::transport::Transport;
use crate::net::transport::connection::Connection;
use crate::net::transport::outbox::Outbox;
use crate::wire::{ClientFrame, Code, Encoded, Limits, Position, Refusal};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

/// Round-trip time if the transport does not measure it, 50 ms.
const RTT: Duration = Duration::from_millis(50);

/// Maximum time to tell the daemon that the session is over.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// An item that the daemon sends for a subscription.
pub(super) enum Delivery {
    /// A stream of its messages.
    Stream(MessageStream),
    /// Its end.
    Ended(Refusal),
}

/// The destination of everything that arrives for a subscription.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) sender: mpsc::Sender<Delivery>,
    /// The queue for its datagrams; none if it is ordered.
    pub(super) queue: Option<Arc<DatagramQueue>>,
}

/// The answer to a request.
#[derive(Debug)]
pub(super) enum Reply {
    Subscribed(u64),
    Message(Message),
    Top(Vec<Ranking>),
    /// The daemon's clock, µs since 1970.
    Pong(u64),
    Authorized,
}

/// An answer that has not arrived. Receiving fails if the session ends before it.
pub(super) type PendingReply = oneshot::Receiver<Result<Reply, Refusal>>;

/// The tables behind the lock: everything that waits for the daemon.
#[derive(Default)]
pub(super) struct Tables {
    /// Why the session is over, once it is.
    pub(super) closed: Option<SessionClosed>,
    pub(super) last_request: u32,
    pub(super) requests: HashMap<u32, oneshot::Sender<Result<Reply, Refusal>>>,
    pub(super) subscriptions: HashMap<u32, Route>,
    /// The first subscription with datagrams. A datagram that names no subscription belongs to it.
    pub(super) implicit_subscription: Option<u32>,
    /// Large publications that [`send_large`](super::upload::send_large) has not taken yet.
    pub(super) large: VecDeque<LargePublication>,
    /// Over WebSocket, alias and number of the large publication that is being sent, until the daemon
    /// answers it.
    pub(super) uploading: Option<(u32, u64)>,
    /// When the daemon said that it is about to stop: within which time, and why.
    pub(super) drain: Option<(Duration, String)>,
    /// The time of the session's rights: since when, and how long. Taken by who renews them.
    pub(super) rights: Option<(Instant, Duration)>,
}

impl Tables {
    /// Records that a request was refused. If it was a subscription with datagrams, the implicit
    /// subscription is the first of the others.
    pub(super) fn refused(&mut self, request: u32) {
        // A request that is not waited for is a subscription that has ended. It still counts.
        if !self.requests.contains_key(&request) {
            return;
        }
        self.subscriptions.remove(&request);
        if self.implicit_subscription == Some(request) {
            let others = self.subscriptions.iter().filter(|(_, route)| route.queue.is_some());
            self.implicit_subscription = others.map(|(request, _)| *request).min();
        }
    }
}

/// The state of one session.
pub(super) struct SessionState {
    pub(super) connection: Connection,
    pub(super) endpoint: Endpoint,
    /// Number of the session in the daemon's logs.
    pub(super) session: u64,
    pub(super) limits: Limits,
    /// The daemon's run, with position 0.
    pub(super) run_start: Position,
    tables: Mutex<Tables>,
    /// Frames for the control stream.
    pub(super) control: Outbox,
    /// Frames for the publishing stream.
    pub(super) publications: Outbox,
    /// Datagrams, one in each piece.
    pub(super) datagrams: Outbox,
    /// Notified when the time of the next repetition may have changed.
    pub(super) resends: Notify,
    /// Zero of the times in [`now`](Self::now).
    pub(super) begun: Instant,
    /// Notified when a large publication was added to the tables.
    pub(super) large_added: Notify,
    /// Notified when the daemon says that it is about to stop.
    pub(super) draining: Notify,
    /// Notified when the rights of the session have another end.
    pub(super) authorized: Notify,
    /// Notified when the session is over, before its driver has taken leave of the daemon.
    pub(super) over: Notify,
}

impl SessionState {
    pub(super) fn new(
        (endpoint, connection): (Endpoint, Connection),
        session: u64,
        limits: Limits,
        run_start: Position,
    ) -> Self {
        Self {
            connection,
            endpoint,
            session,
            limits,
            run_start,
            tables: Mutex::new(Tables::default()),
            control: Outbox::default(),
            publications: Outbox::default(),
            datagrams: Outbox::default(),
            resends: Notify::new(),
            begun: Instant::now(),
            large_added: Notify::new(),
            draining: Notify::new(),
            authorized: Notify::new(),
            over: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time since the session began, µs.
    pub(super) fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// Returns the path's round-trip time, µs.
    pub(super) fn rtt(&self) -> u64 {
        self.connection.rtt().unwrap_or(RTT).as_micros() as u64
    }

    /// Queues the declaration of an alias for the publishing stream.
    pub(super) fn push_declaration(&self, name: &str, alias: u32) {
        let mut declaration = Vec::new();
        ClientFrame::Topic { alias, name }.encode(&mut declaration);
        self.publications.push([declaration.into()]);
    }

    /// Queues a publication for the publishing stream.
    pub(super) fn push_publication(&self, publish: &Encoded) {
        let (head, body) = publish.pieces();
        let pieces = [head.clone(), body.clone()];
        self.publications.push(pieces.into_iter().filter(|piece| !piece.is_empty()));
    }

    /// Queues a large publication.
    pub(super) fn push_large(&self, large: LargePublication) {
        let mut tables = self.lock();
        if tables.closed.is_none() {
            tables.large.push_back(large);
            self.large_added.notify_one();
        }
    }

    /// Records that the daemon has answered a publication.
    pub(super) fn answered(&self, alias: u32, number: u64) {
        if self.connection.transport() == Transport::WebSocket {
            self.lock().uploading.take_if(|uploading| *uploading == (alias, number));
        }
    }

    /// Delivers the answer to a request.
    pub(super) fn reply(&self, request: u32, reply: Result<Reply, Refusal>) {
        let sender = self.lock().requests.remove(&request);
        if let Some(sender) = sender {
            // Fails if the caller has dropped its future: then nobody needs the answer.
            let _ = sender.send(reply);
        }
    }

    /// Marks the session as over, and fails everything that waits for the daemon.
    pub(super) fn fail(&self, closed: SessionClosed) {
        let mut tables = self.lock();
        tables.closed.get_or_insert(closed);
        // A receiver whose sender is dropped returns `close_reason`.
        tables.requests.clear();
        tables.subscriptions.clear();
        tables.large.clear();
        drop(tables);
        self.control.close();
        self.publications.close();
        self.datagrams.close();
        self.over.notify_one();
    }

    /// Ends the session. A daemon that broke the protocol receives the reason. One that said
    /// goodbye closes the connection itself, so that data that arrived before remains readable.
    pub(super) fn terminate(&self, closed: SessionClosed) {
        match closed.code {
            None => self.connection.close(Code::MALFORMED, &closed.reason),
            code => self.connection.end(ConnectionLost { code, reason: closed.reason.clone() }),
        }
        self.fail(closed);
    }

    /// Handles the early end of a stream, and returns why the session is over. A daemon that broke
    /// the protocol receives the reason, and the session ends.
    pub(super) fn fault(&self, fault: Fault) -> SessionClosed {
        match fault {
            Fault::Violation(closed) => {
                self.terminate(closed.clone());
                closed
            }
            // The session may know the reason better than its stream.
            Fault::Closed(lost) => self.lock().closed.clone().unwrap_or(lost),
        }
    }

    /// Returns why the session ended.
    pub(super) fn close_reason(&self) -> SessionClosed {
        let closed = self.lock().closed.clone();
        closed.unwrap_or_else(closed_here)
    }

    /// Waits until the daemon says that it is about to stop. Returns within which time, and why.
    pub(super) async fn drained(&self) -> (Duration, String) {
        loop {
            if let Some(drain) = self.lock().drain.take() {
                return drain;
            }
            self.draining.notified().await;
        }
    }

    /// Notes that the rights of the session end after a time, or never.
    pub(super) fn set_authorized(&self, lifetime: Duration) {
        let ends = (!lifetime.is_zero()).then(|| (Instant::now(), lifetime));
        self.lock().rights = ends;
        self.authorized.notify_one();
    }

    /// Waits for the time of the session's rights, if they end: since when, and how long.
    pub(super) async fn authorized(&self) -> (Instant, Duration) {
        loop {
            if let Some(rights) = self.lock().rights.take() {
                return rights;
            }
            self.authorized.notified().await;
        }
    }
}
