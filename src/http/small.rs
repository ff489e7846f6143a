//! Small bodies that have begun to come and have not ended, over all clients: bounded together, so
//! that slow ones never stop the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The most that is held of small bodies under way, bytes: 4 MiB, which is 64 of the largest. A body
/// that is not slow is here for one round trip. Beyond it the one that began first is given up.
pub(super) const MOST: usize = 4 << 20;

/// What has come of small bodies.
#[derive(Debug)]
pub(super) struct Smalls {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    bytes: usize,
    // In the order in which they began; those of which something has come.
    bodies: BTreeMap<u64, (usize, Arc<Notify>)>,
}

impl Smalls {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.inner().bytes
    }
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<Arc<Notify>> {
        let (bytes, given_up) = self.bodies.remove(&id)?;
        self.bytes -= bytes;
        Some(given_up)
    }
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Small {
    all: Arc<Smalls>,
    id: u64,
    given_up: Arc<Notify>,
}

impl Small {
    pub(super) fn begin(all: &Arc<Smalls>) -> Self {
        let mut inner = all.inner();
        let id = inner.next;
        inner.next += 1;
        drop(inner);
        Self { all: all.clone(), id, given_up: Arc::default() }
    }

    /// Holds so much from now on; 0 once it is no small one. Others that began before it are given
    /// up for it.
    pub(super) fn resize(&self, bytes: usize) {
        let mut inner = self.all.inner();
        inner.remove(self.id);
        if bytes == 0 {
            return;
        }
        while inner.bytes + bytes > self.all.most {
            let Some((oldest, _)) = inner.bodies.first_key_value() else { break };
            let oldest = *oldest;
            if let Some(given_up) = inner.remove(oldest) {
                given_up.notify_one();
            }
        }
        inner.bytes += bytes;
        inner.bodies.insert(self.id, (bytes, self.given_up.clone()));
    }

    /// Waits until it is given up.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
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

    async fn is_given_up(small: &Small) -> bool {
        timeout(Duration::ZERO, small.given_up()).await.is_ok()
    }

    #[tokio::test]
    async fn the_one_that_began_first_gives_way() {
        let all = Smalls::new(100);
        let bodies: Vec<Small> = (0..3).map(|_| Small::begin(&all)).collect();
        bodies[2].resize(40);
        bodies[0].resize(40);
        bodies[1].resize(20);
        assert_eq!(all.held(), 100);
        // Itself is not what gives way.
        bodies[1].resize(30);
        assert!(is_given_up(&bodies[0]).await);
        assert!(!is_given_up(&bodies[1]).await && !is_given_up(&bodies[2]).await);
        assert_eq!(all.held(), 70);
        bodies[1].resize(0);
        drop(bodies);
        assert_eq!(all.held(), 0);
    }
}
