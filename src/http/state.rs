//! The state that all requests share: the broker, budgets and permits, and timeouts.

use super::answer_budget;
use super::callers::{Answers, Tickets};
use super::problem::Problem;
use super::small::{self, Smalls};
use crate::access::addresses::Addresses;
use crate::access::limit_counts::LimitCounts;
use crate::broker::Broker;
use crate::broker::admission::Admission;
use crate::broker::pace;
use crate::broker::stop::{InFlight, STOPPING, Stage};
use crate::engine::{Budget, IdempotencyKeys};
use crate::tls::certificates::CertificateFacts;
use crate::wire::Code;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Maximum number of event streams at once, over all clients. A stream whose client does not read is
/// charged for what it holds. Otherwise it costs a cursor and its connection.
pub(super) const EVENT_STREAMS: usize = 1024;

/// Maximum number of publications at once that are accepted without room in the budget, which is
/// 4 MiB of requests. So clients that read nothing do not stop publishers. As many other requests
/// may wait for room.
const RESERVE: usize = 1024;

/// Interval after which a silent stream of events sends a comment, because proxies wait for 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The state that all requests share.
pub(crate) struct AppState {
    pub(super) admission: Admission,
    pub(super) answers: Answers,
    pub(super) tickets: Tickets,
    pub(super) broker: Arc<Broker>,
    pub(super) addresses: Arc<Addresses>,
    pub(super) counts: Arc<LimitCounts>,
    pub(super) certificate: Box<dyn Fn() -> CertificateFacts + Send + Sync>,
    /// UDP port of WebTransport.
    pub(super) port: u16,
    /// Routes of the embedding program, in place of the page.
    pub(crate) routes: Option<axum::Router>,
    pub(super) stage: watch::Receiver<Stage>,
    /// Work that a draining daemon waits for.
    pub(super) in_flight: InFlight,
    pub(super) keys: IdempotencyKeys,
    /// Maximum size of a payload, bytes.
    pub(super) payload: usize,
    /// The budget for everything that peers make the daemon hold.
    pub(super) budget: Budget,
    /// A limit of the large payloads that are arriving, so that unfinished ones leave room for
    /// complete messages. Their bytes are charged to their topics.
    pub(super) uploads: Budget,
    pub(super) small: Arc<Smalls>,
    pub(super) streams: Arc<Semaphore>,
    /// Permits for publications when the budget has no room.
    pub(super) reserve: Arc<Semaphore>,
    /// Permits for other requests that wait for room.
    pub(super) waiting: Semaphore,
    /// Maximum time without progress of a body.
    pub(super) patience: Duration,
    /// Maximum time that a stream of events waits for room.
    pub(super) room: Duration,
    /// Interval after which a silent stream of events sends a comment.
    pub(super) keep_alive: Duration,
}

impl AppState {
    /// Creates the state. `port` is the UDP port of WebTransport.
    pub(crate) fn new(
        admission: &Admission,
        certificate: impl Fn() -> CertificateFacts + Send + Sync + 'static,
        port: u16,
    ) -> Self {
        let broker = admission.broker().clone();
        let (limits, keys, budget) =
            broker.with(|engine| (engine.limits(), engine.keys(), engine.budget().clone()));
        Self {
            admission: admission.clone(),
            answers: Answers::default(),
            tickets: Tickets::default(),
            broker,
            addresses: admission.addresses().clone(),
            counts: admission.counts().clone(),
            certificate: Box::new(certificate),
            port,
            routes: None,
            stage: admission.stage(),
            in_flight: admission.in_flight().clone(),
            keys,
            payload: limits.payload,
            uploads: Budget::new(budget.most()),
            budget,
            small: Smalls::new(small::LIMIT),
            streams: Arc::new(Semaphore::new(EVENT_STREAMS)),
            reserve: Arc::new(Semaphore::new(RESERVE)),
            waiting: Semaphore::new(RESERVE),
            patience: pace::PATIENCE,
            room: answer_budget::PATIENCE,
            keep_alive: KEEP_ALIVE,
        }
    }

    /// Returns the refusal of new requests if the daemon drains or stops. While it drains, a `late`
    /// request is served: see [`is_served_late`](super::connection::ConnectionHandle::is_served_late).
    pub(super) fn stopping(&self, late: bool) -> Result<(), Problem> {
        let stage = *self.stage.borrow();
        if stage == Stage::Stopping || (stage == Stage::Draining && !late) {
            return Err(Problem::of(Code::SHUTTING_DOWN, STOPPING));
        }
        Ok(())
    }
}
