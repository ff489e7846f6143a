//! Peers that have connected and have not said what they want: no hello, and no request over HTTP.
//!
//! Each takes memory for its handshake, and has seconds for it. Their number is bounded. When it is
//! reached, a peer that has taken [`PATIENCE`] gives way to a new one, the oldest first. An honest peer
//! needs a few round trips, so a flood of half-done handshakes displaces its own. If all are younger,
//! the daemon is at its limit, and refuses the new one. It would otherwise begin more handshakes than
//! it can end, and none would be in time.

use crate::access::limit_counts::{Limit, LimitCounts};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Maximum number of newcomers, 1,024 over QUIC and as many over TCP. A half-done handshake takes
/// 20 KiB.
pub(crate) const NEWCOMERS: usize = 1024;

/// For how long a newcomer never gives way, 3 s.
const PATIENCE: Duration = Duration::from_secs(3);

/// The newcomers of one kind.
#[derive(Debug)]
pub(crate) struct Newcomers {
    most: usize,
    counts: Arc<LimitCounts>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    // In the order in which they came.
    all: BTreeMap<u64, (Instant, Arc<Notify>)>,
}

/// The place of a newcomer. Dropping it releases the place: the peer has said what it wants, or left.
#[derive(Debug)]
pub(crate) struct Newcomer {
    all: Arc<Newcomers>,
    number: u64,
    displaced: Arc<Notify>,
}

impl Newcomers {
    pub(crate) fn new(most: usize, counts: Arc<LimitCounts>) -> Arc<Self> {
        Arc::new(Self { most, counts, waiting: Mutex::default() })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, if one is free or the oldest newcomer gives way.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Newcomer> {
        let now = Instant::now();
        let mut waiting = self.waiting();
        if waiting.all.len() >= self.most {
            self.counts.add(Limit::Newcomers);
            let oldest = waiting.all.first_entry()?;
            if now.duration_since(oldest.get().0) < PATIENCE {
                return None;
            }
            oldest.remove().1.notify_one();
        }
        let number = waiting.next;
        waiting.next += 1;
        let displaced = Arc::<Notify>::default();
        waiting.all.insert(number, (now, displaced.clone()));
        drop(waiting);
        Some(Newcomer { all: self.clone(), number, displaced })
    }
}

impl Newcomer {
    /// Waits until the newcomer has to give way.
    pub(crate) async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.all.waiting().all.remove(&self.number);
    }
}

/// Waits until a newcomer has to give way. One of an exempt address has no place, and never has to.
pub(crate) async fn displaced(newcomer: Option<&Newcomer>) {
    match newcomer {
        Some(newcomer) => newcomer.displaced().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn when_there_are_too_many_the_oldest_gives_way_unless_all_are_young() {
        let counts = Arc::<LimitCounts>::default();
        let newcomers = Newcomers::new(3, counts.clone());
        let first = newcomers.admit().unwrap();
        let gone = newcomers.admit().unwrap();
        advance(Duration::from_secs(2)).await;
        let third = newcomers.admit().unwrap();
        assert!(newcomers.admit().is_none());
        // One that has said what it wants is never displaced.
        drop(gone);
        let fourth = newcomers.admit().unwrap();
        advance(Duration::from_secs(1)).await;
        assert!(first.displaced().now_or_never().is_none());
        let fifth = newcomers.admit().unwrap();
        assert!(first.displaced().now_or_never().is_some());
        assert!(third.displaced().now_or_never().is_none());
        assert!(newcomers.admit().is_none());
        assert_eq!(counts.get(Limit::Newcomers), 3);
        drop((first, third, fourth, fifth));
        assert!(newcomers.waiting().all.is_empty());
    }
}
