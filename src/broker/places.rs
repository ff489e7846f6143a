//! A bounded number of places, of which the bound can change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use tokio::sync::Notify;

/// A bounded number of places. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Places(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    limit: AtomicU32,
    taken: AtomicU32,
    // When the last place that was taken becomes free.
    free: Notify,
    // Whether a warning was logged since a place was last free.
    full: AtomicBool,
    warning: &'static str,
}

/// A place that is taken. Dropping it releases the place.
#[derive(Debug)]
pub(crate) struct Place(Arc<Counted>);

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.taken.fetch_sub(1, SeqCst) == 1 {
            self.0.free.notify_waiters();
        }
    }
}

fn bounded(limit: usize) -> u32 {
    limit.try_into().unwrap_or(u32::MAX)
}

impl Places {
    /// Makes `limit` places. `warning` is logged once when the last one is taken.
    pub(crate) fn new(limit: usize, warning: &'static str) -> Self {
        Self(Arc::new(Counted {
            limit: bounded(limit).into(),
            taken: AtomicU32::new(0),
            free: Notify::new(),
            full: AtomicBool::new(false),
            warning,
        }))
    }

    /// Changes the number of places. Those that are taken stay, even if there are more of them.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.0.limit.store(bounded(limit), Relaxed);
    }

    /// Takes a place, if one is free.
    pub(crate) fn admit(&self) -> Option<Place> {
        let limit = self.0.limit.load(Relaxed);
        let more = |taken: u32| (taken < limit).then(|| taken + 1);
        let full = self.0.taken.fetch_update(SeqCst, SeqCst, more).is_err();
        if self.0.full.swap(full, Relaxed) != full && full {
            tracing::warn!(limit, "{}", self.0.warning);
        }
        (!full).then(|| Place(self.0.clone()))
    }

    /// Number of places.
    pub(crate) fn limit(&self) -> u32 {
        self.0.limit.load(Relaxed)
    }

    /// Number of places that are taken.
    pub(crate) fn taken(&self) -> u32 {
        self.0.taken.load(SeqCst)
    }

    /// Waits until every place is free.
    pub(crate) async fn all_free(&self) {
        loop {
            // Made before the look, so that it misses no release.
            let free = self.0.free.notified();
            if self.taken() == 0 {
                return;
            }
            free.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn a_lower_limit_leaves_those_that_are_there_and_admits_none_until_there_are_fewer() {
        let places = Places::new(2, "full");
        let (one, two) = (places.admit().unwrap(), places.admit().unwrap());
        assert!(places.admit().is_none());
        places.set_limit(3);
        let three = places.admit().unwrap();
        places.set_limit(1);
        drop(one);
        drop(two);
        assert!(places.admit().is_none());
        assert!(places.all_free().now_or_never().is_none());
        drop(three);
        places.all_free().await;
        let last = places.admit().unwrap();
        let mut free = std::pin::pin!(places.all_free());
        assert!(free.as_mut().now_or_never().is_none());
        drop(last);
        free.await;
    }
}
