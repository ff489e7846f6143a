//! The time of the peer's last activity, which the socket's waker notes.

use futures_util::task::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Wake, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// The waker that the socket is given. It notes the time of each wake, and wakes the task that
/// reads. Any event shows that the peer is there: a whole message, bytes of a long one, or room to
/// write.
pub(super) struct ActivityMonitor {
    task: AtomicWaker,
    since: Instant,
    // The last activity, milliseconds after `since`.
    last: AtomicU64,
}

impl ActivityMonitor {
    pub(super) fn new() -> Arc<Self> {
        let since = Instant::now();
        Arc::new(Self { task: AtomicWaker::new(), since, last: AtomicU64::new(0) })
    }

    /// Sets the task that reads.
    pub(super) fn register_reader(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Wakes the task that reads, without noting activity.
    pub(super) fn wake_reader(&self) {
        self.task.wake();
    }

    /// Notes the time of activity.
    pub(super) fn note(&self) {
        self.last.store(self.since.elapsed().as_millis() as u64, Relaxed);
    }

    /// Time since the last activity.
    pub(super) fn quiet(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.last.load(Relaxed)))
    }
}

impl Wake for ActivityMonitor {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.note();
        self.task.wake();
    }
}
