//! The state that a client's tasks and its users share, and what each of them may do with it.

use super::datagram_queue::DatagramQueue;
use super::error::{PublishError, SessionClosed, closed_here};
use super::in_flight::{LargePublication, Outstanding, PublishOutcome};
use super::message_stream::{Fault, MessageStream};
use crate::message::Message;
use crate::net::error::ConnectionLost;
use crate::net::transport::connection::Connection;
use crate::net::transport::outbox::Outbox;
use crate::wire::{Code, Digest, Limits, Position, Refusal, TopEntry, nonzero};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// Maximum number of payloads above [`LARGE`](crate::wire::LARGE) that are sent at once. They have
/// streams of their own, and do not delay the others. The daemon allows 100.
const LARGE_AT_ONCE: usize = 16;

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
    Pong,
}

/// An answer that has not arrived. Receiving fails if the session ends before it.
pub(super) type PendingReply = oneshot::Receiver<Result<Reply, Refusal>>;

/// A payload among the most counted of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking {
    /// Digest of the payload.
    pub digest: Digest,
    /// Its count.
    pub count: u64,
    /// As in [`Receipt::since`](super::Receipt::since).
    pub since: Option<u64>,
    /// Sequence of its newest publication.
    pub sequence: u64,
    /// Size of the payload, bytes.
    pub size: u64,
    /// The payload, if it is cached and has at most 1 KiB.
    pub payload: Option<Bytes>,
}

impl Ranking {
    pub(super) fn from_wire(entry: &TopEntry<'_>) -> Self {
        Self {
            digest: entry.digest,
            count: entry.count,
            since: nonzero(entry.since),
            sequence: entry.sequence,
            size: entry.size,
            payload: entry.payload.map(Bytes::copy_from_slice),
        }
    }
}

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
    pub(super) outstanding: Outstanding,
    /// Large publications that [`send_large`](super::upload::send_large) has not taken yet.
    pub(super) large: Vec<LargePublication>,
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

/// The state that the client's tasks and its users share.
pub(super) struct SessionState {
    pub(super) connection: Connection,
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
    /// Notified when publications are settled, and when the session is over.
    pub(super) settled: Notify,
    /// Permits for large publications.
    pub(super) large_permits: Arc<Semaphore>,
    /// Notified when a large publication was added to the tables.
    pub(super) large_added: Notify,
}

impl SessionState {
    pub(super) fn new(
        connection: Connection,
        session: u64,
        limits: Limits,
        run_start: Position,
    ) -> Self {
        Self {
            connection,
            session,
            limits,
            run_start,
            tables: Mutex::new(Tables::default()),
            control: Outbox::default(),
            publications: Outbox::default(),
            datagrams: Outbox::default(),
            resends: Notify::new(),
            begun: Instant::now(),
            settled: Notify::new(),
            large_permits: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            large_added: Notify::new(),
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

    /// Delivers the answer to a request.
    pub(super) fn reply(&self, request: u32, reply: Result<Reply, Refusal>) {
        let sender = self.lock().requests.remove(&request);
        if let Some(sender) = sender {
            // Fails if the caller has dropped its future: then nobody needs the answer.
            let _ = sender.send(reply);
        }
    }

    /// Settles a publication, and wakes the tasks that wait for that.
    pub(super) fn settle(&self, alias: u32, number: u64, outcome: PublishOutcome) {
        self.lock().outstanding.settle(alias, number, outcome);
        self.settled.notify_waiters();
    }

    /// Marks the session as over, and fails everything that waits for the daemon.
    pub(super) fn fail(&self, closed: SessionClosed) {
        let mut tables = self.lock();
        tables.closed.get_or_insert(closed);
        // A receiver whose sender is dropped returns `close_reason`.
        tables.requests.clear();
        tables.subscriptions.clear();
        tables.outstanding.clear();
        tables.large.clear();
        drop(tables);
        self.control.close();
        self.publications.close();
        self.datagrams.close();
        self.settled.notify_waiters();
        self.large_permits.close();
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
        if let Fault::Violation(closed) = &fault {
            self.terminate(closed.clone());
        }
        fault.into()
    }

    /// Returns why the session ended.
    pub(super) fn close_reason(&self) -> SessionClosed {
        let closed = self.lock().closed.clone();
        closed.unwrap_or_else(closed_here)
    }

    /// Returns the reason as the outcome of a publication.
    pub(super) fn closed_error(&self) -> PublishError {
        self.close_reason().into()
    }

    /// Waits until every publication is settled, or the session is over.
    pub(super) async fn all_settled(&self) {
        self.until(|tables| tables.outstanding.is_empty()).await;
    }

    /// Waits until the session is over.
    pub(super) async fn over(&self) {
        self.until(|_| false).await;
    }

    async fn until(&self, done: impl Fn(&Tables) -> bool) {
        loop {
            let settled = self.settled.notified();
            {
                let tables = self.lock();
                if done(&tables) || tables.closed.is_some() {
                    return;
                }
            }
            settled.await;
        }
    }
}
