//! How the daemon stops: it drains, so that what is in flight completes, and then ends what is left.

use std::time::Duration;
use tokio::sync::watch;

/// The reason that peers get when the daemon stops.
pub(crate) const STOPPING: &str = "the daemon is stopping: connect again, to it or to another one";

/// The interval between two sessions' times to leave, 1 ms: at most 1,000 clients a second connect
/// again.
const EACH: Duration = Duration::from_millis(1);

/// How far the daemon has come on its way to the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It serves.
    #[default]
    Running,
    /// It admits no sessions and requests, and completes what is in flight.
    Draining,
    /// It ends what is left.
    Stopping,
}

/// Waits for the daemon to come as far as `wanted`.
pub(crate) async fn reached(stage: &mut watch::Receiver<Stage>, wanted: Stage) {
    // An error means that the daemon is gone.
    let _ = stage.wait_for(|stage| *stage >= wanted).await;
}

/// Waits for the daemon to drain, or to stop.
pub(crate) async fn draining(stage: &mut watch::Receiver<Stage>) {
    reached(stage, Stage::Draining).await;
}

/// Waits for the daemon to stop.
pub(crate) async fn stopped(stage: &mut watch::Receiver<Stage>) {
    reached(stage, Stage::Stopping).await;
}

/// The time over which `sessions` leave a daemon that drains for `within`. A fifth of that remains
/// for what is still in flight when the last of them is to leave.
pub(super) fn spread(sessions: u32, within: Duration) -> Duration {
    EACH.saturating_mul(sessions).min(within / 5 * 4)
}

/// Counts work that a draining daemon waits for, except for that of sessions. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(watch::Sender<()>);

/// One piece of work. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Work {
    _counted: watch::Receiver<()>,
}

impl InFlight {
    /// Begins a piece of work.
    pub(crate) fn begin(&self) -> Work {
        Work { _counted: self.0.subscribe() }
    }

    /// Number of pieces.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.receiver_count()
    }

    /// Waits until no work is in flight.
    pub(super) async fn none(&self) {
        self.0.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn sessions_leave_one_each_ms_or_in_four_fifths_of_the_time() {
        let within = Duration::from_secs(10);
        assert_eq!(spread(0, within), Duration::ZERO);
        assert_eq!(spread(50, within), Duration::from_millis(50));
        assert_eq!(spread(10_000, within), Duration::from_secs(8));
        assert_eq!(spread(u32::MAX, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn work_is_waited_for_until_it_is_dropped() {
        let work = InFlight::default();
        assert!(work.none().now_or_never().is_some());
        let (first, second) = (work.begin(), work.clone().begin());
        drop(first);
        assert!(work.none().now_or_never().is_none());
        drop(second);
        assert!(work.none().now_or_never().is_some());
    }
}
