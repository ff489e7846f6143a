//! How fast something has to come that a peer has begun to send.

use tokio::time::{Duration, Instant};

/// What comes is to come at this pace at least, bytes a second. A slow mobile link has twice that.
pub(crate) const PACE: u64 = 8 << 10;

/// The time that a sender may be ahead of its pace or stand still, at most: so the pace counts over
/// the last ten seconds, and a fast start does not buy slowness later.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The pace of one sender. Each byte buys it the time that it may take; what it saves up so is
/// bounded by its patience.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    patience: Duration,
    deadline: Instant,
}

impl Pace {
    /// Begins.
    pub(crate) fn new(now: Instant, patience: Duration) -> Self {
        Self { patience, deadline: now + patience }
    }

    /// Takes note of bytes that have come. Says whether they came in time: once they did not, it
    /// stays too slow.
    pub(crate) fn came(&mut self, now: Instant, bytes: usize) -> bool {
        if now > self.deadline {
            return false;
        }
        self.buy(now, bytes);
        true
    }

    /// As [`came`](Self::came), of what is known to have come in time.
    pub(crate) fn buy(&mut self, now: Instant, bytes: usize) {
        let bought = Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / PACE);
        self.deadline = (self.deadline + bought).min(now + self.patience);
    }

    /// From the next bytes on it is borne with for so long.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// For so long it was not its sender that kept it.
    pub(crate) fn paused(&mut self, pause: Duration) {
        self.deadline += pause;
    }

    /// Until when more has to come.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    // Seconds for which one that sends so many bytes each second is borne with, up to 1,000.
    fn borne(mut pace: Pace, from: Instant, bytes: u64) -> u64 {
        let seconds = (1..=1000).find(|s| !pace.came(from + SECOND * *s, bytes as usize));
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
        assert!(pace.came(now, 15 << 20));
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
        assert!(!pace.came(now + PATIENCE + SECOND, 1 << 20));
        assert!(!pace.came(now + PATIENCE + SECOND, 1 << 20));
    }
}
