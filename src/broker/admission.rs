//! What admits a session, whichever face it comes by: whose pages may come, how many sessions there
//! are, and the stop.

use super::Broker;
use crate::access::origin::Origins;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A session's place. Dropping it gives the place back.
pub(crate) type SessionPermit = OwnedSemaphorePermit;

/// A bounded number of places. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Places(Arc<Counted>);

struct Counted {
    free: Arc<Semaphore>,
    most: u32,
    // The log says so once when the last place goes, and again after one was free.
    full: AtomicBool,
    warning: &'static str,
}

impl Places {
    /// At most `most` places. `warning` goes to the log when there is none left.
    pub(crate) fn new(most: usize, warning: &'static str) -> Self {
        let most = u32::try_from(most).unwrap_or(u32::MAX).min(u32::MAX >> 3);
        let free = Arc::new(Semaphore::new(most as usize));
        Self(Arc::new(Counted { free, most, full: AtomicBool::new(false), warning }))
    }

    /// Takes a place, if one is free. Dropping it gives it back.
    pub(crate) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.0.free.clone().try_acquire_owned().ok();
        let full = place.is_none();
        if self.0.full.swap(full, Ordering::Relaxed) != full && full {
            tracing::warn!(most = self.0.most, "{}", self.0.warning);
        }
        place
    }

    /// Waits until every place is free.
    pub(crate) async fn all_free(&self) {
        // Never closed: an error cannot be.
        let _ = self.0.free.acquire_many(self.0.most).await;
    }
}

/// What the faces ask before they serve a session. Cheap to clone: one for each of them.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Inner>);

struct Inner {
    broker: Arc<Broker>,
    sessions: Places,
    origins: Origins,
    stop: watch::Receiver<bool>,
}

impl Admission {
    /// Admits at most `most` sessions, until `stop` turns true.
    pub(crate) fn new(
        broker: Arc<Broker>,
        most: usize,
        origins: Origins,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let sessions = Places::new(most, "no more sessions (limits.sessions): refusing");
        Self(Arc::new(Inner { broker, sessions, origins, stop }))
    }

    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.0.broker
    }

    /// Whose pages may come in.
    pub(crate) fn origins(&self) -> &Origins {
        &self.0.origins
    }

    /// Turns true, or loses its sender, when the daemon stops.
    pub(crate) fn stop(&self) -> watch::Receiver<bool> {
        self.0.stop.clone()
    }

    /// Takes a place for one more session. Without one, the face refuses the session.
    pub(crate) fn admit(&self) -> Option<SessionPermit> {
        self.0.sessions.admit()
    }

    /// Waits until no session is left. Once the daemon stops, no new ones come.
    pub(crate) async fn ended(&self) {
        self.0.sessions.all_free().await;
    }
}

/// Waits for the daemon to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the daemon's handle is gone: that is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}
