//! Unfinished small bodies of all clients. They are bounded together, so that slow ones never stop
//! the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Maximum memory of unfinished small bodies, 4 MiB, which is 64 of the maximum size. A body that is
/// not slow is unfinished for one round trip. Beyond the limit, the oldest body is dropped.
pub(super) const LIMIT: usize = 4 << 20;

/// The received bytes of unfinished small bodies.
#[derive(Debug)]
pub(super) struct Smalls {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    bytes: usize,
    // Bodies with received bytes, in the order in which they began.
    bodies: BTreeMap<u64, (usize, Arc<Notify>)>,
}

impl Smalls {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of bytes held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.inner().bytes
    }
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<Arc<Notify>> {
        let (bytes, evicted) = self.bodies.remove(&id)?;
        self.bytes -= bytes;
        Some(evicted)
    }
}

/// One unfinished small body.
#[derive(Debug)]
pub(super) struct Small {
    all: Arc<Smalls>,
    id: u64,
    evicted: Arc<Notify>,
}

impl Small {
    pub(super) fn begin(all: &Arc<Smalls>) -> Self {
        let mut inner = all.inner();
        let id = inner.next;
        inner.next += 1;
        drop(inner);
        Self { all: all.clone(), id, evicted: Arc::default() }
    }

    /// Sets the size that the body holds; 0 if it is not small any more. Drops older bodies if they
    /// exceed the limit together.
    pub(super) fn resize(&self, bytes: usize) {
        let mut inner = self.all.inner();
        inner.remove(self.id);
        if bytes == 0 {
            return;
        }
        while inner.bytes + bytes > self.all.limit {
            let Some((oldest, _)) = inner.bodies.first_key_value() else { break };
            let oldest = *oldest;
            if let Some(evicted) = inner.remove(oldest) {
                evicted.notify_one();
            }
        }
        inner.bytes += bytes;
        inner.bodies.insert(self.id, (bytes, self.evicted.clone()));
    }

    /// Waits until the body is dropped because of the limit.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.all.inner().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    async fn is_evicted(small: &Small) -> bool {
        timeout(Duration::ZERO, small.evicted()).await.is_ok()
    }

    #[tokio::test]
    async fn the_oldest_body_is_dropped() {
        let all = Smalls::new(100);
        let bodies: Vec<Small> = (0..3).map(|_| Small::begin(&all)).collect();
        bodies[2].resize(40);
        bodies[0].resize(40);
        bodies[1].resize(20);
        assert_eq!(all.held(), 100);
        // A body is never dropped for its own bytes.
        bodies[1].resize(30);
        assert!(is_evicted(&bodies[0]).await);
        assert!(!is_evicted(&bodies[1]).await && !is_evicted(&bodies[2]).await);
        assert_eq!(all.held(), 70);
        bodies[1].resize(0);
        drop(bodies);
        assert_eq!(all.held(), 0);
    }
}
