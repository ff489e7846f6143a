//! Admits sessions of every face: allowed origins, the number of sessions, and when they leave a
//! daemon that drains.

use super::Broker;
use super::stop::{InFlight, Stage, spread};
use crate::access::origin::Origins;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A session's place. Dropping it releases the place.
pub(crate) type SessionPermit = OwnedSemaphorePermit;

/// A bounded number of places. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Places(Arc<Counted>);

struct Counted {
    free: Arc<Semaphore>,
    limit: u32,
    // Whether a warning was logged since a place was last free.
    full: AtomicBool,
    warning: &'static str,
}

impl Places {
    /// Makes `limit` places. `warning` is logged once when the last one is taken.
    pub(crate) fn new(limit: usize, warning: &'static str) -> Self {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX).min(u32::MAX >> 3);
        let free = Arc::new(Semaphore::new(limit as usize));
        Self(Arc::new(Counted { free, limit, full: AtomicBool::new(false), warning }))
    }

    /// Takes a place, if one is free. Dropping it releases the place.
    pub(crate) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.0.free.clone().try_acquire_owned().ok();
        let full = place.is_none();
        if self.0.full.swap(full, Ordering::Relaxed) != full && full {
            tracing::warn!(limit = self.0.limit, "{}", self.0.warning);
        }
        place
    }

    /// Number of places that are taken.
    fn taken(&self) -> u32 {
        self.0.limit.saturating_sub(self.0.free.available_permits() as u32)
    }

    /// Waits until every place is free.
    pub(crate) async fn all_free(&self) {
        // It cannot fail, because the semaphore is never closed.
        let _ = self.0.free.acquire_many(self.0.limit).await;
    }
}

/// Everything a face needs to admit a session. Cheap to clone: each face has one.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Inner>);

struct Inner {
    broker: Arc<Broker>,
    sessions: Places,
    origins: Origins,
    stage: watch::Sender<Stage>,
    in_flight: InFlight,
    // Set when the daemon begins to drain.
    leaving: OnceLock<Leaving>,
}

// When sessions are to leave.
#[derive(Debug)]
struct Leaving {
    sessions: u32,
    spread: Duration,
    // Number of those that have their time.
    told: AtomicU32,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Admission").field(&*self.0.stage.borrow()).finish()
    }
}

impl Admission {
    /// Admits at most `limit` sessions, until the daemon drains or stops.
    pub(crate) fn new(broker: Arc<Broker>, limit: usize, origins: Origins) -> Self {
        let sessions = Places::new(limit, "no more sessions (limits.sessions): refusing");
        let (stage, in_flight, leaving) = Default::default();
        Self(Arc::new(Inner { broker, sessions, origins, stage, in_flight, leaving }))
    }

    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.0.broker
    }

    /// The origins whose pages may open sessions.
    pub(crate) fn origins(&self) -> &Origins {
        &self.0.origins
    }

    /// How far the daemon has come.
    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.0.stage.subscribe()
    }

    /// Work that a draining daemon waits for, except for that of sessions.
    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.0.in_flight
    }

    /// Takes a place for one more session. The face refuses the session if there is none.
    pub(crate) fn admit(&self) -> Option<SessionPermit> {
        self.0.sessions.admit()
    }

    /// Begins to drain, for at most `within`. After that, faces admit no sessions and requests.
    pub(crate) fn drain(&self, within: Duration) {
        self.0.leaving.get_or_init(|| {
            let sessions = self.0.sessions.taken();
            let spread = spread(sessions, within);
            tracing::info!(sessions, ?spread, "sessions are asked to leave");
            Leaving { sessions, spread, told: AtomicU32::new(0) }
        });
        self.advance(Stage::Draining);
    }

    /// Ends what is left.
    pub(crate) fn stop(&self) {
        self.advance(Stage::Stopping);
    }

    fn advance(&self, next: Stage) {
        self.0.stage.send_if_modified(|stage| std::mem::replace(stage, next.max(*stage)) < next);
    }

    /// When the next session is to leave. These times are spread evenly.
    pub(crate) fn leaves_after(&self) -> Duration {
        let Some(Leaving { sessions, spread, told }) = self.0.leaving.get() else {
            return Duration::ZERO;
        };
        let place = told.fetch_add(1, Ordering::Relaxed).min(*sessions);
        spread.saturating_mul(place) / (*sessions).max(1)
    }

    /// Waits until no session and no work is left.
    pub(crate) async fn drained(&self) {
        self.ended().await;
        self.0.in_flight.none().await;
    }

    /// Waits until no session is left. After the stop no new ones are admitted.
    pub(crate) async fn ended(&self) {
        self.0.sessions.all_free().await;
    }
}
