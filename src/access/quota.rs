//! Token buckets: how much a peer may do in a time. Pure: the time is an argument.
//!
//! A bucket is one number, the time at which it is full again. Spending moves that time away. A
//! bucket whose time is further away than a burst takes is in debt, and the debt is how long to wait.
//! So no timer fills buckets, an idle one needs no memory, and tasks share one without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// For how long a publisher may stay above its rate before it is told, 10 s. A burst that flow control
/// smooths in that time concerns nobody. A publisher that is still above it afterwards falls behind
/// for good, and does not notice by itself.
pub(crate) const OVER: Duration = Duration::from_secs(10);

/// The longest debt, 10 s. A peer that waits for longer would look silent, and one frame may be as long
/// as the largest payload.
pub(crate) const DEBT: Duration = Duration::from_secs(10);

/// The debt from which a peer is to wait before anything is counted, 5 s. A bucket remembers no more than
/// [`DEBT`], and so the peers that share one would each add what nobody pays back.
const DEEP: Duration = Duration::from_secs(5);

/// For how long a bucket has to be out of debt until its peer has caught up, 50 ms. One that sleeps as
/// long as it has to wakes up a little later.
const CLEAR: Duration = Duration::from_millis(50);

/// How much a bucket gets back in a second, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    // 0 is unlimited.
    per_second: u64,
    burst: u64,
}

impl Rate {
    /// Creates a rate. 0 a second is unlimited. A bucket holds `burst`, at least 1.
    pub(crate) const fn new(per_second: u64, burst: u64) -> Self {
        Self { per_second, burst: if burst == 0 { 1 } else { burst } }
    }

    /// A rate whose bucket holds what one second gives back.
    pub(crate) const fn per_second(per_second: u64) -> Self {
        Self::new(per_second, per_second)
    }

    pub(crate) const fn is_unlimited(self) -> bool {
        self.per_second == 0
    }

    /// A rate that is so many times as high.
    pub(crate) const fn times(self, n: u64) -> Self {
        Self { per_second: self.per_second.saturating_mul(n), burst: self.burst.saturating_mul(n) }
    }

    // The time in which the bucket gets `amount` back, ns.
    fn time_for(self, amount: u64) -> u64 {
        if self.is_unlimited() {
            return 0;
        }
        let time = u128::from(amount) * u128::from(SECOND);
        time.div_ceil(self.per_second.into()).try_into().unwrap_or(u64::MAX)
    }
}

/// A token bucket. It begins full. `now` is in nanoseconds after any begin that stays the same.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    // When it is full again.
    full_at: AtomicU64,
}

impl Bucket {
    /// Takes `amount`, also from an empty bucket, which then is in debt, for at most [`DEBT`]. Returns
    /// the debt: how long it takes until the bucket is out of it.
    pub(crate) fn spend(&self, rate: Rate, now: u64, amount: u64) -> Duration {
        let time = rate.time_for(amount);
        if time == 0 {
            return Duration::ZERO;
        }
        let most = rate.time_for(rate.burst).saturating_add(DEBT.as_nanos() as u64);
        let mut full_at = 0;
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, |before| {
            let least = before.max(now);
            full_at = least.saturating_add(time).min(least.max(now.saturating_add(most)));
            Some(full_at)
        });
        debt(rate, now, full_at)
    }

    /// Takes `amount`, unless the bucket is in debt. Returns whether it did. The debt is bounded then, too.
    pub(crate) fn try_spend(&self, rate: Rate, now: u64, amount: u64) -> bool {
        let time = rate.time_for(amount);
        let most =
            now.saturating_add(rate.time_for(rate.burst)).saturating_add(DEBT.as_nanos() as u64);
        let spent = self.full_at.fetch_update(Relaxed, Relaxed, |before| {
            let free = debt(rate, now, before).is_zero();
            free.then(|| before.max(now).saturating_add(time).min(most))
        });
        spent.is_ok()
    }

    /// How long it takes until the bucket is out of debt.
    pub(crate) fn debt(&self, rate: Rate, now: u64) -> Duration {
        debt(rate, now, self.full_at.load(Relaxed))
    }

    // How long to wait before more may be counted.
    fn deep(&self, rate: Rate, now: u64, amount: u64) -> Duration {
        if rate.time_for(amount) == 0 {
            return Duration::ZERO;
        }
        let debt = self.debt(rate, now);
        // Those who wait come back together, and many of them are counted then.
        if debt >= DEEP { debt.saturating_sub(DEEP / 2) } else { Duration::ZERO }
    }

    /// Takes as much of `amount` as there is, without a debt. Returns how much.
    pub(crate) fn take(&self, rate: Rate, now: u64, amount: u64) -> u64 {
        let mut taken = 0;
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, |before| {
            let full_at = before.max(now);
            let left = now.saturating_add(rate.time_for(rate.burst)).saturating_sub(full_at);
            let most = u128::from(left) * u128::from(rate.per_second) / u128::from(SECOND);
            taken = amount.min(most.try_into().unwrap_or(u64::MAX));
            Some(full_at.saturating_add(rate.time_for(taken)))
        });
        taken
    }

    // Whether the peer has caught up.
    fn is_clear(&self, rate: Rate, now: u64) -> bool {
        let full_at = self.full_at.load(Relaxed);
        let later = now.saturating_sub(CLEAR.as_nanos() as u64);
        rate.is_unlimited() || full_at <= now || debt(rate, later, full_at).is_zero()
    }
}

fn debt(rate: Rate, now: u64, full_at: u64) -> Duration {
    let limit = now.saturating_add(rate.time_for(rate.burst));
    // An empty bucket is not in debt.
    Duration::from_nanos(full_at.saturating_sub(limit))
}

/// The rates at which one peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IntakeRates {
    pub(crate) messages: Rate,
    pub(crate) bytes: Rate,
}

impl IntakeRates {
    /// Rates that are so many times as high.
    pub(crate) const fn times(self, n: u64) -> Self {
        Self { messages: self.messages.times(n), bytes: self.bytes.times(n) }
    }

    /// Rates of which each may be unlimited.
    pub(crate) fn of(messages: Option<u32>, bytes: Option<u64>) -> Self {
        let rate = |most: Option<u64>| Rate::per_second(most.map_or(0, |most| most.max(1)));
        Self { messages: rate(messages.map(u64::from)), bytes: rate(bytes) }
    }

    pub(crate) const fn is_unlimited(&self) -> bool {
        self.messages.is_unlimited() && self.bytes.is_unlimited()
    }
}

/// The consequence of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// For how long it waits, and its reader with it.
    pub(crate) wait: Duration,
    /// The peer has been above its rate for [`OVER`], and is told.
    pub(crate) tell: bool,
    /// Nothing was counted: ask again after this time.
    pub(crate) again: bool,
}

impl Verdict {
    /// Adds that of another limit.
    pub(crate) fn add(&mut self, other: Self) {
        self.wait = self.wait.max(other.wait);
        self.tell |= other.tell;
        self.again |= other.again;
    }
}

/// The bytes and frames that one peer has sent, over all its streams.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    messages: Bucket,
    bytes: Bucket,
    // Since when the peer has not caught up, or when it was told. 0 is not.
    over: AtomicU64,
}

impl Intake {
    /// Returns for how long a batch has to wait before it is counted, if others have sent too much.
    pub(crate) fn deep(
        &self,
        rates: &IntakeRates,
        now: u64,
        messages: u64,
        bytes: u64,
    ) -> Option<Verdict> {
        let wait = self.depth(rates, now, messages, bytes);
        (!wait.is_zero()).then(|| Verdict { wait, tell: self.stays_over(now), again: true })
    }

    /// The same without noting that the peer is above its rate. Zero if the batch may be counted.
    pub(crate) fn depth(
        &self,
        rates: &IntakeRates,
        now: u64,
        messages: u64,
        bytes: u64,
    ) -> Duration {
        let wait = self.messages.deep(rates.messages, now, messages);
        wait.max(self.bytes.deep(rates.bytes, now, bytes))
    }

    /// Counts what was received. Returns for how long to wait.
    pub(crate) fn spend(
        &self,
        rates: &IntakeRates,
        now: u64,
        messages: u64,
        bytes: u64,
    ) -> Duration {
        let wait = self.messages.spend(rates.messages, now, messages);
        wait.max(self.bytes.spend(rates.bytes, now, bytes))
    }

    // Whether the peer has caught up with both rates.
    fn is_clear(&self, rates: &IntakeRates, now: u64) -> bool {
        self.messages.is_clear(rates.messages, now) && self.bytes.is_clear(rates.bytes, now)
    }

    // Notes that the peer is above its rate. Returns whether it is to be told.
    fn stays_over(&self, now: u64) -> bool {
        let over = self.over.load(Relaxed);
        let tell = over != 0 && now.saturating_sub(over) >= OVER.as_nanos() as u64;
        if over == 0 || tell {
            self.over.store(now.max(1), Relaxed);
        }
        tell
    }

    /// Counts a batch that was received. It is not refused: it waits before it is handled, and nothing
    /// more is read meanwhile.
    pub(crate) fn receive(
        &self,
        rates: &IntakeRates,
        now: u64,
        messages: u64,
        bytes: u64,
    ) -> Verdict {
        // Without a write while all is well. A peer that has caught up since its last batch begins anew,
        // even if this one is above the rate by itself. A batch may be free of the rate that is exceeded.
        if self.over.load(Relaxed) != 0 && self.is_clear(rates, now) {
            self.over.store(0, Relaxed);
        }
        let wait = self.spend(rates, now, messages, bytes);
        if wait.is_zero() {
            return Verdict::default();
        }
        Verdict { wait, tell: self.stays_over(now), again: false }
    }

    /// Counts a datagram, unless the peer is above its rate. Returns whether it was counted.
    pub(crate) fn try_receive(
        &self,
        rates: &IntakeRates,
        now: u64,
        messages: u64,
        bytes: u64,
    ) -> bool {
        if !self.bytes.debt(rates.bytes, now).is_zero() {
            return false;
        }
        let counted = self.messages.try_spend(rates.messages, now, messages);
        if counted {
            self.bytes.spend(rates.bytes, now, bytes);
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_burst_is_free_and_then_the_rate_holds() {
        let (bucket, rate) = (Bucket::default(), Rate::new(1000, 500));
        assert_eq!(bucket.spend(rate, 0, 500), Duration::ZERO);
        assert_eq!(bucket.spend(rate, 0, 100), Duration::from_millis(100));
        assert_eq!(bucket.debt(rate, 60 * MS), Duration::from_millis(40));
        assert!(!bucket.try_spend(rate, 99 * MS, 1));
        assert!(bucket.try_spend(rate, 100 * MS, 1));
        assert_eq!(bucket.debt(rate, 100 * MS), Duration::from_millis(1));
        // It fills up, and not further.
        assert_eq!(bucket.spend(rate, 10 * SECOND, 501), Duration::from_millis(1));
    }

    #[test]
    fn over_a_long_time_the_rate_is_never_exceeded() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(3_000_000));
        let (mut now, mut spent) = (0, 0);
        for n in 0..100_000_u64 {
            let amount = n % 257 + 1;
            spent += amount;
            now += bucket.spend(rate, now, amount).as_nanos() as u64;
        }
        // The burst, one batch, and a nanosecond for each rounding.
        let most = 3_000_000 + 257 + u128::from(now) * 3_000_000 / u128::from(SECOND);
        assert!(u128::from(spent) <= most + 300, "{spent} of {most}");
        assert!(u128::from(spent) >= most - 3000, "{spent} of {most}");
    }

    #[test]
    fn the_largest_amounts_neither_overflow_nor_are_free() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(1));
        assert_eq!(bucket.spend(rate, 5, u64::MAX), DEBT);
        assert_eq!(bucket.spend(rate, 5, u64::MAX), DEBT);
        // Once, a datagram of 130 publications kept a peer of one a second out for two minutes.
        let tried = Bucket::default();
        assert!(tried.try_spend(rate, 5, 130));
        assert_eq!(tried.debt(rate, 5), DEBT);
        let end = 5 + DEBT.as_nanos() as u64;
        assert!(!bucket.try_spend(rate, end - 1, 1) && bucket.try_spend(rate, end, 1));
        assert_eq!(bucket.spend(rate, u64::MAX - 1, u64::MAX), Duration::ZERO);
        let free = Rate::new(0, 0);
        assert_eq!(Bucket::default().spend(free, 0, u64::MAX), Duration::ZERO);
        assert!(free.is_unlimited() && Bucket::default().try_spend(free, 0, u64::MAX));
    }

    const RATES: IntakeRates =
        IntakeRates { messages: Rate::per_second(100), bytes: Rate::per_second(1000) };

    #[test]
    fn a_peer_waits_for_whichever_of_both_rates_it_exceeds() {
        let intake = Intake::default();
        assert_eq!(intake.receive(&RATES, 0, 100, 10), Verdict::default());
        assert_eq!(intake.receive(&RATES, 0, 10, 10).wait, Duration::from_millis(100));
        let intake = Intake::default();
        assert_eq!(intake.receive(&RATES, 0, 1, 1500).wait, Duration::from_millis(500));
        assert!(!intake.try_receive(&RATES, 499 * MS, 1, 1));
        assert!(intake.try_receive(&RATES, 500 * MS, 1, 1));
        assert!(!intake.try_receive(&RATES, 500 * MS, 1, 1));
    }

    #[test]
    fn what_there_is_is_taken_without_a_debt() {
        let (bucket, rate) = (Bucket::default(), Rate::new(4, 64));
        assert_eq!(bucket.take(rate, 5, 60), 60);
        assert_eq!(bucket.take(rate, 5, 60), 4);
        assert_eq!(bucket.take(rate, 249 * MS, 60), 0);
        assert_eq!(bucket.take(rate, 1000 * MS + 5, 60), 4);
        assert!(bucket.debt(rate, 1000 * MS + 5).is_zero());
        assert_eq!(bucket.take(rate, 100 * SECOND, u64::MAX), 64);
        assert_eq!(Bucket::default().take(Rate::new(0, 0), 0, 7), 0);
    }

    // Once, one that sent a batch above its burst every 12 s was told, although it had long caught up.
    #[test]
    fn a_batch_above_the_burst_now_and_then_is_not_told() {
        let intake = Intake::default();
        for n in 0..20 {
            let verdict = intake.receive(&RATES, n * 12 * SECOND, 150, 0);
            assert_eq!((verdict.wait, verdict.tell), (Duration::from_millis(500), false), "{n}");
        }
    }

    // A bucket remembers 10 s of debt. Of hundreds of requests at once, all that came while it had so
    // much waited for these 10 s, and went on.
    #[test]
    fn peers_that_send_at_once_do_not_exceed_their_rate_together() {
        const PEERS: usize = 500;
        let (intake, rate) = (Intake::default(), 5_u64);
        let rates = IntakeRates { messages: Rate::per_second(rate), bytes: Rate::per_second(0) };
        // When each of them sends, or asks, next.
        let (mut next, mut accepted) = ([0_u64; PEERS], 0);
        for now in (0..60 * SECOND).step_by(MS as usize) {
            for at in next.iter_mut().filter(|at| **at <= now) {
                let deep = intake.deep(&rates, now, 1, 0);
                let verdict = deep.unwrap_or_else(|| intake.receive(&rates, now, 1, 0));
                accepted += u64::from(!verdict.again);
                *at = now + (verdict.wait.as_nanos() as u64).max(1);
            }
        }
        // The burst, and what waits at the end.
        assert!((60 * rate..=71 * rate).contains(&accepted), "{accepted}");
    }

    #[test]
    fn a_peer_that_stays_above_its_rate_is_told_every_10_s_and_one_that_pauses_is_not() {
        let intake = Intake::default();
        let (mut now, mut told) = (0, Vec::new());
        while now < 35 * SECOND {
            let Verdict { wait, tell, .. } = intake.receive(&RATES, now, 50, 0);
            told.extend(tell.then_some(now / SECOND));
            now += wait.as_nanos() as u64;
        }
        assert_eq!(told, [10, 20, 30]);
        // Also one whose next batch comes a little later than it may, or has no messages.
        let intake = Intake::default();
        let (mut now, mut told) = (0, Vec::new());
        while now < 35 * SECOND {
            let Verdict { wait, tell, .. } = intake.receive(&RATES, now, 50, 0);
            told.extend(tell.then_some(now / SECOND));
            now += wait.as_nanos() as u64 + 2 * MS;
            assert_eq!(intake.receive(&RATES, now, 0, 1), Verdict::default());
            assert_eq!(intake.receive(&RATES, now, 0, 1), Verdict::default());
        }
        assert_eq!(told, [10, 20, 30]);
        // One that has caught up begins anew.
        let intake = Intake::default();
        let mut now = 0;
        for _ in 0..10 {
            for _ in 0..18 {
                let Verdict { wait, tell, .. } = intake.receive(&RATES, now, 50, 0);
                assert!(!tell, "{now}");
                now += wait.as_nanos() as u64;
            }
            now += SECOND;
        }
    }
}
