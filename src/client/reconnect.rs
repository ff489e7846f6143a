//! When a client reconnects: the policy, and the pauses between the attempts. No clock and no
//! randomness: both are arguments.

use super::error::SessionClosed;
use std::time::Duration;

/// Longest first pause of a backoff, unless [`Reconnect::pauses`] sets another: 250 ms.
const FIRST: Duration = Duration::from_millis(250);

/// Longest pause of a backoff, unless [`Reconnect::pauses`] sets another: 10 s.
const LONGEST: Duration = Duration::from_secs(10);

/// Maximum of both pauses.
const DAY: Duration = Duration::from_secs(86_400);

/// A session that lasted this long resets the backoff, 5 s. A daemon that ends each session soon
/// after its welcome thus gets longer and longer pauses.
const STABLE: Duration = Duration::from_secs(5);

/// How a client reconnects when its session has ended, set by
/// [`Builder::reconnect`](super::Builder::reconnect).
///
/// By default a client tries again until it succeeds. The first attempt after a session of at least
/// 5 s follows at once. Before each further attempt the client pauses: for 125 to 250 ms at first,
/// then for twice as long each time, up to 5 to 10 s. Chance decides the exact length, which spreads
/// the clients of a daemon that restarts.
///
/// With any policy, the client does not try again if the daemon says that a retry is of no use, or
/// if the certificate is not trusted.
///
/// ```
/// use std::time::Duration;
/// use weir::client::Reconnect;
///
/// let patient = Reconnect::default().pauses(Duration::from_secs(1), Duration::from_secs(60));
/// let hurried = Reconnect::default().give_up_after(Duration::from_secs(10));
/// assert_ne!(patient, Reconnect::never());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    enabled: bool,
    first: Duration,
    longest: Duration,
    give_up: Option<Duration>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { enabled: true, first: FIRST, longest: LONGEST, give_up: None }
    }
}

impl Reconnect {
    /// Never reconnects: the end of a session is an error of everything that needs it.
    pub fn never() -> Self {
        Self { enabled: false, ..Self::default() }
    }

    /// Sets the limits of the pauses. A pause is between half of its limit and its limit, which
    /// doubles with each attempt, from `first` to `longest`. The defaults are 250 ms and 10 s. Each is
    /// at least 1 ms and at most a day.
    #[must_use]
    pub fn pauses(self, first: Duration, longest: Duration) -> Self {
        let first = first.clamp(Duration::from_millis(1), DAY);
        Self { first, longest: longest.clamp(first, DAY), ..self }
    }

    /// Gives up this long after the end of the session. The default is never. With
    /// [`Builder::wait`](super::Builder::wait) it also limits the wait for the first session.
    #[must_use]
    pub fn give_up_after(self, limit: Duration) -> Self {
        Self { give_up: Some(limit), ..self }
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }
}

/// The state of a client, as [`Client::watch_state`](super::Client::watch_state) reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// A session is open.
    #[non_exhaustive]
    Open {
        /// How many attempts it took after the end of the session before. 0 for the first session, and
        /// if the client left a daemon that was about to stop.
        attempts: u32,
        /// Time between the sessions; 0 for the first.
        away: Duration,
    },
    /// The session has ended, and the client tries to open another.
    #[non_exhaustive]
    Reconnecting {
        /// Number of this attempt, from 1.
        attempt: u32,
        /// Pause before the attempt.
        pause: Duration,
        /// Why the session ended, or why the attempt before failed.
        why: SessionClosed,
    },
    /// The client has no session, and will not open another.
    Closed {
        /// The reason.
        why: SessionClosed,
    },
}

/// The pauses between attempts to open a session, through all sessions of a client.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: Reconnect,
    // Attempts since the last stable session, which decide the length of the next pause.
    failures: u32,
    // Attempts since the end of the last session.
    attempts: u32,
}

impl Backoff {
    pub(super) fn new(policy: Reconnect) -> Self {
        Self { policy, failures: 0, attempts: 0 }
    }

    /// A session has ended that lasted this long.
    pub(super) fn session_ended(&mut self, lasted: Duration) {
        self.attempts = 0;
        if lasted >= STABLE {
            self.failures = 0;
        } else {
            // The attempt that opened it counts as one that failed.
            self.failures = self.failures.max(1);
        }
    }

    /// Returns the pause before the next attempt, or `None` to give up. `away` is the time since the
    /// session ended, and `chance` is between 0 and 1.
    pub(super) fn pause(&mut self, away: Duration, chance: f64) -> Option<Duration> {
        let left = match self.policy.give_up {
            Some(limit) => limit.checked_sub(away).filter(|left| !left.is_zero())?,
            None => Duration::MAX,
        };
        let doublings = self.failures.checked_sub(1);
        let longest = doublings.map_or(Duration::ZERO, |doublings| {
            let factor = 2_u32.saturating_pow(doublings);
            self.policy.first.saturating_mul(factor).min(self.policy.longest)
        });
        self.failures = self.failures.saturating_add(1);
        self.attempts = self.attempts.saturating_add(1);
        Some(longest.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0).min(left))
    }

    /// Returns the time that is left for an attempt that begins now, if it is limited.
    pub(super) fn left(&self, away: Duration) -> Option<Duration> {
        self.policy.give_up.map(|limit| limit.saturating_sub(away))
    }

    /// Returns the number of attempts since the end of the last session.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// Returns when to leave a daemon that stops `within` this time: by chance, but early enough for an
/// attempt to connect.
pub(super) fn leave_after(within: Duration, chance: f64) -> Duration {
    within.mul_f64(0.5 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_first_attempt_after_a_stable_session_is_at_once() {
        let mut backoff = Backoff::new(Reconnect::default());
        backoff.session_ended(STABLE);
        for (attempt, longest) in [(1, 0), (2, 250), (3, 500), (4, 1000), (5, 2000)] {
            assert_eq!(backoff.pause(Duration::ZERO, 1.0), Some(ms(longest)));
            assert_eq!(backoff.attempts(), attempt);
        }
        // The session after it ended at once: the pauses go on, and the attempts begin again.
        backoff.session_ended(Duration::ZERO);
        assert_eq!(backoff.pause(Duration::ZERO, 0.0), Some(ms(2000)));
        assert_eq!(backoff.attempts(), 1);
        backoff.session_ended(STABLE);
        assert_eq!(backoff.pause(Duration::ZERO, 0.0), Some(Duration::ZERO));
    }

    #[test]
    fn after_a_short_first_session_there_is_a_pause() {
        let mut backoff = Backoff::new(Reconnect::default());
        backoff.session_ended(Duration::ZERO);
        assert_eq!(backoff.pause(Duration::ZERO, 0.0), Some(ms(125)));
    }

    proptest! {
        #[test]
        fn pauses_stay_within_their_limits(
            first in 0_u64..5000,
            longest in 0_u64..50_000,
            limit in proptest::option::of(0_u64..100_000),
            steps in proptest::collection::vec((any::<bool>(), 0_u64..10_000, 0.0..=1.0), 1..100),
        ) {
            let mut policy = Reconnect::default().pauses(ms(first), ms(longest));
            if let Some(limit) = limit {
                policy = policy.give_up_after(ms(limit));
            }
            let mut backoff = Backoff::new(policy);
            let (mut away, mut before) = (Duration::ZERO, Duration::ZERO);
            for (opened, took, chance) in steps {
                if opened {
                    backoff.session_ended(ms(took));
                    (away, before) = (Duration::ZERO, Duration::ZERO);
                }
                let Some(pause) = backoff.pause(away, chance) else {
                    prop_assert!(away >= ms(limit.unwrap()), "given up too early");
                    break;
                };
                prop_assert!(pause <= ms(longest.max(first).max(1)));
                // Between half and all of the limit, which doubles: never below half of the last.
                let left = limit.map_or(Duration::MAX, |limit| ms(limit).saturating_sub(away));
                prop_assert!(pause >= (before / 2).min(left));
                prop_assert!(backoff.left(away).is_none_or(|left| pause <= left));
                away += pause + ms(took);
                before = pause;
            }
        }

        #[test]
        fn a_daemon_that_stops_is_left_in_time(within in 0_u64..1_000_000, chance in 0.0..=1.0) {
            prop_assert!(leave_after(ms(within), chance) <= ms(within / 2 + 1));
        }
    }
}
