//! How fast a peer may send, and be sent what was published before. `access/quota` decides.

use super::clock::Clock;
use crate::access::limit_counts::{Limit, LimitCounts};
use crate::access::limits::ANSWER;
use crate::access::quota::{Bucket, Intake, IntakeRates, Rate, Verdict};
use crate::wire::{Code, Refusal};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Maximum time for which an answer over HTTP waits for its turn, 10 s. After that it is refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// Counts a refusal by its code, and the limit of memory, size or time that has caused it.
pub(crate) fn count_refusal(counts: &LimitCounts, code: Code) {
    if code == Code::DONE {
        return;
    }
    counts.add_refusal(code);
    counts.add(match code {
        Code::TOO_MANY_SUBSCRIPTIONS => Limit::Subscriptions,
        Code::PAYLOAD_TOO_LARGE => Limit::Payload,
        Code::FRAME_TOO_LARGE => Limit::Frame,
        Code::OVERLOADED => Limit::Memory,
        Code::TIMED_OUT => Limit::Time,
        _ => return,
    });
}

/// How fast one peer may send and be sent.
#[derive(Debug, Clone)]
pub(crate) struct Budgets {
    pub(crate) throttle: Throttle,
    pub(crate) replay: ReplayBudget,
}

impl Budgets {
    /// Budgets without limits, for requests that are no peer's.
    pub(crate) fn unlimited() -> Self {
        let (clock, counts) = (Clock::start(), Arc::<LimitCounts>::default());
        let none = Rate::per_second(0);
        let intake = IntakeRates { messages: none, bytes: none };
        Self {
            throttle: Throttle::new((intake, Arc::default(), None), clock, counts.clone()),
            replay: ReplayBudget::new((none, Arc::default(), None), clock, counts),
        }
    }
}

/// The consequence for what was received.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Received {
    /// Until when it waits, and its reader with it.
    pub(crate) resume_at: Option<Instant>,
    /// The peer is to be told that it is too fast.
    pub(crate) tell: bool,
    /// It was not counted, and is to be counted then.
    pub(crate) again: bool,
}

/// How fast one peer sends: a session, or over HTTP all requests of an address.
#[derive(Debug, Clone)]
pub(crate) struct Throttle {
    rates: IntakeRates,
    intake: Arc<Intake>,
    // Of all sessions of its address.
    together: Option<Shared>,
    // Of all sessions and requests of its identity. Replaced when the peer shows who it is.
    identity: Arc<RwLock<Option<Shared>>>,
    clock: Clock,
    counts: Arc<LimitCounts>,
}

/// How fast one peer is sent earlier messages and answers: a session, or over HTTP all requests of an
/// address. Live delivery does not count. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ReplayBudget {
    rate: Rate,
    bucket: Arc<Bucket>,
    // Of all sessions of its address.
    together: Option<(Rate, Arc<Bucket>)>,
    clock: Clock,
    counts: Arc<LimitCounts>,
}

/// The rates of several peers together, and what they have sent.
pub(crate) type Shared = (IntakeRates, Arc<Intake>);

/// Rates and what they limit, and those of all sessions of an address.
type Limited<R, T> = (R, Arc<T>, Option<(R, Arc<T>)>);

impl Throttle {
    pub(crate) fn new(
        (rates, intake, together): Limited<IntakeRates, Intake>,
        clock: Clock,
        counts: Arc<LimitCounts>,
    ) -> Self {
        Self { rates, intake, together, identity: Arc::default(), clock, counts }
    }

    /// Replaces the limits of the peer's identity. Returns whether they are those of another.
    pub(crate) fn set_identity(&self, limits: Option<Shared>) -> bool {
        let mut current = self.identity.write().unwrap_or_else(PoisonError::into_inner);
        let same = matches!((&*current, &limits), (Some(a), Some(b)) if Arc::ptr_eq(&a.1, &b.1));
        *current = limits;
        !same
    }

    /// Counts, for the identity alone, frames that were counted before their peer had shown who it is.
    /// Returns false if the identity has sent too much already.
    pub(crate) fn receive_shown(&self, messages: usize, bytes: u64) -> bool {
        let identity = self.identity.read().unwrap_or_else(PoisonError::into_inner);
        let Some((rates, intake)) = &*identity else { return true };
        let (now, messages) = (self.clock.now(), messages as u64);
        let has_room = intake.depth(rates, now, messages, bytes).is_zero();
        if has_room {
            intake.spend(rates, now, messages, bytes);
        }
        has_room
    }

    /// The same peer, for what an identity with limits sends.
    pub(crate) fn with_identity(&self, limits: Shared) -> Self {
        Self { identity: Arc::new(RwLock::new(Some(limits))), ..self.clone() }
    }

    // Calls something with everything that limits this peer, but for its identity.
    fn each_limit_of_address(&self, mut call: impl FnMut(&IntakeRates, &Intake)) {
        if !self.rates.is_unlimited() {
            call(&self.rates, &self.intake);
            if let Some((rates, together)) = &self.together {
                call(rates, together);
            }
        }
    }

    // Calls something with everything that limits this peer.
    fn each_limit(&self, mut call: impl FnMut(&IntakeRates, &Intake)) {
        self.each_limit_of_address(&mut call);
        let identity = self.identity.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((rates, intake)) = &*identity {
            call(rates, intake);
        }
    }

    /// Counts what was received, unless those who share its limits have sent too much already.
    pub(crate) fn receive(&self, messages: usize, bytes: u64) -> Received {
        // Asking for the time takes as long as all the rest. A peer without limits is not asked.
        let (mut now, mut sum) = (None, Verdict::default());
        self.each_limit(|rates, intake| {
            let now = *now.get_or_insert_with(|| self.clock.now());
            if let Some(verdict) = intake.deep(rates, now, messages as u64, bytes) {
                sum.add(verdict);
            }
        });
        if !sum.again {
            self.each_limit(|rates, intake| {
                let now = *now.get_or_insert_with(|| self.clock.now());
                sum.add(intake.receive(rates, now, messages as u64, bytes));
            });
        }
        let Verdict { wait, tell, again } = sum;
        if wait.is_zero() {
            return Received::default();
        }
        self.counts.add(Limit::Slowed);
        Received { resume_at: Some(Instant::now() + wait), tell, again }
    }

    /// The same for frames that carry nothing and cannot be refused. The limits of an identity are those of
    /// its publications. Returns for how long to wait. The peer is not told here, so that it still is with a
    /// publication.
    pub(crate) fn receive_bare(&self, now: u64, messages: usize, bytes: u64) -> Duration {
        let (messages, mut wait) = (messages as u64, Duration::ZERO);
        self.each_limit_of_address(|rates, intake| {
            wait = wait.max(intake.depth(rates, now, messages, bytes));
        });
        if wait.is_zero() {
            self.each_limit_of_address(|rates, intake| {
                wait = wait.max(intake.spend(rates, now, messages, bytes));
            });
        }
        if !wait.is_zero() {
            self.counts.add(Limit::Slowed);
        }
        wait
    }

    /// Counts what one of several that share the limits has sent, by the limits of one peer. Returns for how
    /// long that alone has to wait, and whether it has been above them for 10 s.
    pub(crate) fn receive_own(
        &self,
        own: &Intake,
        now: u64,
        (messages, bytes): (usize, u64),
    ) -> (Duration, bool) {
        if self.rates.is_unlimited() {
            return (Duration::ZERO, false);
        }
        let verdict = own.receive(&self.rates, now, messages as u64, bytes);
        (verdict.wait, verdict.tell)
    }

    /// The time, in nanoseconds, of the buckets.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Counts a datagram, which cannot be slowed. Returns false if the peer is too fast.
    pub(crate) fn try_receive(&self, messages: usize, bytes: usize) -> bool {
        let (mut now, mut free) = (None, true);
        self.each_limit(|rates, intake| {
            let now = *now.get_or_insert_with(|| self.clock.now());
            free = free && intake.try_receive(rates, now, messages as u64, bytes as u64);
        });
        free
    }

    /// How often each limit has taken effect.
    pub(crate) fn counts(&self) -> &LimitCounts {
        &self.counts
    }

    /// Returns the refusal of a publication, and counts it.
    pub(crate) fn refuse(&self) -> Refusal {
        self.counts.add(Limit::RateLimited);
        Refusal::new(
            Code::RATE_LIMITED,
            "too fast for limits.messages or limits.bytes, or for the limits of the token: publish more \
             slowly, and this one again",
        )
    }
}

impl ReplayBudget {
    pub(crate) fn new(
        (rate, bucket, together): Limited<Rate, Bucket>,
        clock: Clock,
        counts: Arc<LimitCounts>,
    ) -> Self {
        Self { rate, bucket, together, clock, counts }
    }

    /// Counts bytes that are sent.
    pub(crate) fn spend(&self, bytes: u64) {
        if !self.rate.is_unlimited() && bytes > 0 {
            let now = self.clock.now();
            self.bucket.spend(self.rate, now, bytes);
            if let Some((rate, together)) = &self.together {
                together.spend(*rate, now, bytes);
            }
        }
    }

    /// Counts an answer, which costs something even if it is short.
    pub(crate) fn spend_answer(&self, bytes: usize) {
        self.spend(ANSWER.max(bytes as u64));
    }

    /// Returns for how long the next read has to wait, if it has to, and counts that.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.debt().inspect(|_| self.counts.add(Limit::Replay))
    }

    fn debt(&self) -> Option<Duration> {
        if self.rate.is_unlimited() {
            return None;
        }
        let now = self.clock.now();
        let of_all = |(rate, together): &(Rate, Arc<Bucket>)| together.debt(*rate, now);
        let of_all = self.together.as_ref().map(of_all).unwrap_or_default();
        let debt = self.bucket.debt(self.rate, now).max(of_all);
        (!debt.is_zero()).then_some(debt)
    }

    /// Waits until more may be sent. A future that is large and rarely needed: box it.
    pub(crate) async fn ready(&self) {
        let Some(mut wait) = self.wait() else { return };
        // Others that wait may come first.
        loop {
            sleep(wait).await;
            wait = match self.debt() {
                Some(wait) => wait,
                None => return,
            };
        }
    }

    /// Waits until more may be sent, or refuses an answer that has waited for too long.
    pub(crate) async fn ready_soon(&self) -> Result<(), Refusal> {
        timeout(PATIENCE, self.ready()).await.map_err(|_| {
            Refusal::new(
                Code::RATE_LIMITED,
                "this address has requested more than limits.replay bytes a second: try again later",
            )
        })
    }
}
