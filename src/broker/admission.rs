//! Admits sessions of every face: allowed origins, the number of sessions, and the stop.

use super::Broker;
use crate::access::origin::Origins;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The reason that peers get when the daemon stops.
pub(crate) const STOPPING: &str = "the daemon is stopping: connect again, to it or to another one";

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
    stop: watch::Receiver<bool>,
}

impl Admission {
    /// Admits at most `limit` sessions, until `stop` turns true.
    pub(crate) fn new(
        broker: Arc<Broker>,
        limit: usize,
        origins: Origins,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let sessions = Places::new(limit, "no more sessions (limits.sessions): refusing");
        Self(Arc::new(Inner { broker, sessions, origins, stop }))
    }

    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.0.broker
    }

    /// The origins whose pages may open sessions.
    pub(crate) fn origins(&self) -> &Origins {
        &self.0.origins
    }

    /// Turns true, or loses its sender, when the daemon stops.
    pub(crate) fn stop(&self) -> watch::Receiver<bool> {
        self.0.stop.clone()
    }

    /// Takes a place for one more session. The face refuses the session if there is none.
    pub(crate) fn admit(&self) -> Option<SessionPermit> {
        self.0.sessions.admit()
    }

    /// Waits until no session is left. After the stop no new ones are admitted.
    pub(crate) async fn ended(&self) {
        self.0.sessions.all_free().await;
    }
}

/// Waits for the daemon to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the daemon's handle was dropped, which stops it too.
    let _ = stop.wait_for(|stop| *stop).await;
}
