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

    /// Replaces the limits of the peer's identity.
    pub(crate) fn set_identity(&self, limits: Option<Shared>) {
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// The same peer, for what an identity with limits sends.
    pub(crate) fn with_identity(&self, limits: Shared) -> Self {
        Self { identity: Arc::new(RwLock::new(Some(limits))), ..self.clone() }
    }

    // Calls something with everything that limits this peer.
    fn each_limit(&self, mut call: impl FnMut(&IntakeRates, &Intake)) {
        if !self.rates.is_unlimited() {
            call(&self.rates, &self.intake);
            if let Some((rates, together)) = &self.together {
                call(rates, together);
            }
        }
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

    /// The same for what cannot be refused. Its peer is not told here, so that it still is with a
    /// publication.
    pub(crate) fn receive_untold(&self, messages: usize, bytes: u64) -> Received {
        let (mut now, mut deep, mut wait) = (None, Duration::ZERO, Duration::ZERO);
        self.each_limit(|rates, intake| {
            let now = *now.get_or_insert_with(|| self.clock.now());
            deep = deep.max(intake.depth(rates, now, messages as u64, bytes));
        });
        if deep.is_zero() {
            self.each_limit(|rates, intake| {
                let now = *now.get_or_insert_with(|| self.clock.now());
                wait = wait.max(intake.spend(rates, now, messages as u64, bytes));
            });
        }
        if deep.max(wait).is_zero() {
            return Received::default();
        }
        self.counts.add(Limit::Slowed);
        let resume_at = Some(Instant::now() + deep.max(wait));
        Received { resume_at, tell: false, again: !deep.is_zero() }
    }

    /// Counts what one of several that share the limits has sent. Returns whether that alone has been above
    /// the first limit for 10 s: that of the peer, or else that of its identity.
    pub(crate) fn is_over(&self, own: &Intake, messages: usize, bytes: u64) -> bool {
        let (mut first, mut over) = (true, false);
        self.each_limit(|rates, _| {
            if std::mem::take(&mut first) {
                let now = self.clock.now();
                over = own.receive(rates, now, messages as u64, bytes).tell;
            }
        });
        over
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
