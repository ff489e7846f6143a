//! What every way into the daemon shares: the engine, the places for sessions, the stop.

use super::Core;
use crate::access::origin::Origins;
use crate::net::session;
use crate::net::transport::connection::Link;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A session's place; given back by dropping it.
pub(crate) type Place = OwnedSemaphorePermit;

/// Cheap to clone: one for each way in.
#[derive(Clone)]
pub(crate) struct Doors(Arc<Inner>);

struct Inner {
    core: Arc<Core>,
    places: Arc<Semaphore>,
    most: u32,
    origins: Origins,
    // Said when the last place goes, once until one is free again.
    full: AtomicBool,
    stop: watch::Receiver<bool>,
}

impl Doors {
    pub(crate) fn new(
        core: Arc<Core>,
        most: usize,
        origins: Origins,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let most = u32::try_from(most).unwrap_or(u32::MAX).min(u32::MAX >> 3);
        let places = Arc::new(Semaphore::new(most as usize));
        Self(Arc::new(Inner { core, places, most, origins, full: AtomicBool::new(false), stop }))
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    /// Whose pages may come in.
    pub(crate) fn origins(&self) -> &Origins {
        &self.0.origins
    }

    /// Turns true, or loses its sender, when the daemon stops.
    pub(crate) fn stop(&self) -> watch::Receiver<bool> {
        self.0.stop.clone()
    }

    /// A place for one more session, or none: refuse it.
    pub(crate) fn admit(&self) -> Option<Place> {
        let place = self.0.places.clone().try_acquire_owned().ok();
        let full = place.is_none();
        if self.0.full.swap(full, Ordering::Relaxed) != full && full {
            tracing::warn!(most = self.0.most, "no more sessions (limits.sessions): refusing");
        }
        place
    }

    /// Serves a peer until it leaves, misbehaves, or the daemon stops.
    pub(crate) async fn serve(&self, link: Link, place: Place) {
        session::serve(self.0.core.clone(), link, self.stop()).await;
        drop(place);
    }

    /// Waits until no session is left; once the daemon stops, no new ones come.
    pub(crate) async fn ended(&self) {
        // Never closed: an error cannot be.
        let _ = self.0.places.acquire_many(self.0.most).await;
    }
}
