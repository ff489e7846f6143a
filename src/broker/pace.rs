//! The minimum pace of what a peer has begun to send.

use tokio::time::{Duration, Instant};

/// The minimum pace, bytes a second. A slow mobile link has twice that.
pub(crate) const PACE: u64 = 8 << 10;

/// Maximum time that a sender may stop, and that it may save up by being fast. The pace therefore
/// counts over the last ten seconds, and a fast start does not pay for a slow end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The pace of one sender. Each byte extends the deadline by the time that it may take. The
/// patience bounds the time until the deadline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    patience: Duration,
    deadline: Instant,
}

impl Pace {
    /// Begins with all of the patience.
    pub(crate) fn new(now: Instant, patience: Duration) -> Self {
        Self { patience, deadline: now + patience }
    }

    /// Adds bytes that were received. Returns whether they were in time. A sender that was late
    /// once stays late.
    pub(crate) fn received(&mut self, now: Instant, bytes: usize) -> bool {
        if now > self.deadline {
            return false;
        }
        self.buy(now, bytes);
        true
    }

    /// The same as [`received`](Self::received), for bytes that are known to be in time.
    pub(crate) fn buy(&mut self, now: Instant, bytes: usize) {
        let extension = Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / PACE);
        self.deadline = (self.deadline + extension).min(now + self.patience);
    }

    /// Sets the patience, from the next bytes on.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Extends the deadline by time for which the sender is not responsible.
    pub(crate) fn paused(&mut self, pause: Duration) {
        self.deadline += pause;
    }

    /// The time by which more has to arrive.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    // Seconds until a sender of `bytes` a second is late, up to 1,000.
    fn borne(mut pace: Pace, from: Instant, bytes: u64) -> u64 {
        let seconds = (1..=1000).find(|s| !pace.received(from + SECOND * *s, bytes as usize));
        seconds.map_or(1000, |seconds| u64::from(seconds) - 1)
    }

    #[test]
    fn at_the_pace_it_may_take_for_ever_and_below_it_not_long() {
        let now = Instant::now();
        let pace = Pace::new(now, PATIENCE);
        assert_eq!(borne(pace, now, PACE), 1000);
        assert_eq!(borne(pace, now, 0), 10);
        // Half the pace uses half a second of each.
        assert!((19..=21).contains(&borne(pace, now, PACE / 2)));
        assert!((9..=11).contains(&borne(pace, now, 1)));
    }

    #[test]
    fn a_fast_start_buys_no_slowness_later() {
        let now = Instant::now();
        let mut pace = Pace::new(now, PATIENCE);
        assert!(pace.received(now, 15 << 20));
        assert_eq!(pace.deadline(), now + PATIENCE);
        assert!((9..=11).contains(&borne(pace, now, 1)));
    }

    #[test]
    fn the_patience_may_change_and_pauses_do_not_count() {
        let now = Instant::now();
        let mut pace = Pace::new(now, 3 * PATIENCE);
        assert_eq!(pace.deadline(), now + 3 * PATIENCE);
        pace.set_patience(PATIENCE);
        pace.buy(now + SECOND, 100_000);
        assert_eq!(pace.deadline(), now + 11 * SECOND);
        pace.paused(3 * SECOND);
        assert_eq!(pace.deadline(), now + 14 * SECOND);
    }

    #[test]
    fn what_came_too_late_stays_too_late() {
        let now = Instant::now();
        let mut pace = Pace::new(now, PATIENCE);
        assert!(!pace.received(now + PATIENCE + SECOND, 1 << 20));
        assert!(!pace.received(now + PATIENCE + SECOND, 1 << 20));
    }
}
