//! Between the engine and a log that others order: the proposals that are on their way, and who waits
//! for them.
#![cfg_attr(
    not(feature = "jetstream"),
    allow(dead_code, reason = "only a build with a log takes them, and decides")
)]

use crate::engine::replica::{LogChange, Proposal, ReplyTo};
use crate::engine::{Engine, Receipt};
use crate::wire::{Code, Refusal};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// Bytes of proposals on their way from which publishers wait, 8 MiB: what a log takes in a tenth of a
/// second.
const FULL: usize = 8 << 20;

/// Bytes from which publications are refused, 32 MiB. Publishers that did not wait may still hand
/// over what they had read.
const REFUSED: usize = 32 << 20;

/// Bytes of a proposal beside its payload.
const PROPOSAL: usize = 512;

/// Maximum time that a publisher waits for the log, 10 s. After that it is told to publish again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The log's decision about a publication.
pub(crate) type Outcome = Result<Receipt, Refusal>;

/// A publication of a peer: its alias, its number, the length of its payload, and whether it came in a
/// datagram.
pub(crate) type OfPeer = (u32, u64, u64, bool);

/// A session whose publications are proposed.
pub(crate) trait Proposer: Send + Sync {
    /// Tells the peer about its publication.
    fn answer(&self, publication: OfPeer, outcome: Outcome);
}

struct Pending {
    proposal: Proposal,
    since: Instant,
    cost: usize,
}

#[derive(Default)]
struct Inner {
    // All that are not decided yet, by their ids.
    pending: BTreeMap<u64, Pending>,
    // The id of the last one that was taken.
    taken: u64,
    bytes: usize,
    sessions: HashMap<u64, Weak<dyn Proposer>>,
    callers: HashMap<u64, oneshot::Sender<Outcome>>,
    next_caller: u64,
    refusal: Option<Refusal>,
}

/// The figures of a log.
#[derive(Debug, Default)]
pub(crate) struct LogState {
    /// The number of the last entry that was applied.
    pub(crate) applied: AtomicU64,
    /// The numbers of the first and the last entry that the stream had when it was looked at.
    pub(crate) first: AtomicU64,
    pub(crate) last: AtomicU64,
    /// The stream does not answer, or is not the one that was followed.
    pub(crate) cut_off: AtomicBool,
}

/// The proposals of one daemon that its log has not decided about yet.
#[derive(Default)]
pub(crate) struct ProposalQueue {
    inner: Mutex<Inner>,
    filled: Notify,
    emptied: Notify,
    bytes: AtomicU64,
    refuses: AtomicBool,
    pub(crate) state: LogState,
}

fn cost(change: &LogChange) -> usize {
    PROPOSAL
        + match change {
            LogChange::Publish { payload, .. } => payload.len(),
            LogChange::Chunk { bytes, .. } => bytes.len(),
            _ => 0,
        }
}

/// Someone who waits for a proposal within the process.
pub(crate) struct Caller<'a> {
    queue: &'a ProposalQueue,
    number: u64,
    outcome: oneshot::Receiver<Outcome>,
}

impl Caller<'_> {
    pub(crate) fn reply_to(&self) -> ReplyTo {
        ReplyTo::Caller(self.number)
    }

    /// Waits for the log's decision.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        (&mut self.outcome).await.unwrap_or_else(|_| Err(undecided()))
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.queue.inner().callers.remove(&self.number);
    }
}

impl ProposalQueue {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the engine's proposals over. It is called under the engine's lock, so that they stay in
    /// order; [notify](Self::notify) the task that sends them after the lock is released.
    pub(crate) fn push(&self, engine: &mut Engine) {
        let mut proposals = Vec::new();
        engine.take_proposals(&mut proposals);
        let since = Instant::now();
        let mut inner = self.inner();
        for proposal in proposals {
            let cost = cost(&proposal.change);
            inner.bytes += cost;
            inner.pending.insert(proposal.id, Pending { proposal, since, cost });
        }
        self.bytes.store(inner.bytes as u64, Ordering::Relaxed);
    }

    /// Wakes the task that sends proposals.
    pub(crate) fn notify(&self) {
        self.filled.notify_one();
    }

    /// Waits for proposals that were not sent yet, and returns them in order.
    pub(crate) async fn take(&self) -> Vec<Proposal> {
        loop {
            let filled = self.filled.notified();
            {
                let mut inner = self.inner();
                let after = inner.taken + 1;
                let new = inner.pending.range(after..).map(|(_, pending)| pending.proposal.clone());
                let new: Vec<Proposal> = new.collect();
                if let Some(last) = new.last() {
                    inner.taken = last.id;
                    return new;
                }
            }
            filled.await;
        }
    }

    /// Sends all that are not decided once more, from the oldest on: the connection is another one.
    pub(crate) fn send_again(&self) {
        self.inner().taken = 0;
        self.filled.notify_one();
    }

    /// Registers a session. It is forgotten with the session.
    pub(crate) fn register(&self, session: u64, proposer: Weak<dyn Proposer>) {
        self.inner().sessions.insert(session, proposer);
    }

    /// Forgets a session.
    pub(crate) fn forget(&self, session: u64) {
        self.inner().sessions.remove(&session);
    }

    /// Registers a caller within the process.
    pub(crate) fn caller(&self) -> Caller<'_> {
        let (sender, outcome) = oneshot::channel();
        let mut inner = self.inner();
        inner.next_caller += 1;
        let number = inner.next_caller;
        inner.callers.insert(number, sender);
        Caller { queue: self, number, outcome }
    }

    /// The log has decided about a proposal. One that is not known any more has been told already.
    pub(crate) fn decided(&self, id: u64, outcome: Outcome) {
        let mut inner = self.inner();
        if let Some(reply) = inner.remove(id) {
            let room = inner.bytes < FULL;
            self.bytes.store(inner.bytes as u64, Ordering::Relaxed);
            let waiting = inner.who_waits(reply);
            drop(inner);
            waiting.tell(outcome);
            if room {
                self.emptied.notify_waiters();
            }
        }
    }

    /// Gives up the proposals that wait for too long. The log may still take them, so a publisher that
    /// repeats one has to repeat it under its number or key.
    pub(crate) fn expire(&self, now: Instant) {
        loop {
            let inner = self.inner();
            let oldest = inner.pending.first_key_value();
            let late = oldest.filter(|(_, pending)| now.duration_since(pending.since) >= PATIENCE);
            let Some((id, _)) = late else { return };
            let id = *id;
            drop(inner);
            self.decided(id, Err(undecided()));
        }
    }

    /// Refuses publications, or accepts them again.
    pub(crate) fn refuse(&self, why: Option<Refusal>) {
        let mut inner = self.inner();
        self.refuses.store(why.is_some(), Ordering::Release);
        inner.refusal = why;
        drop(inner);
        self.emptied.notify_waiters();
    }

    /// Returns whether publications are to be refused.
    pub(crate) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Acquire) || self.is_full()
    }

    /// Returns the reason for which publications are to be refused.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let given = self.inner().refusal.clone();
        given.or_else(|| self.is_full().then(too_slow))
    }

    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > REFUSED as u64
    }

    /// Returns whether publications need not wait for room.
    pub(crate) fn has_room(&self) -> bool {
        self.refuses.load(Ordering::Acquire) || self.bytes.load(Ordering::Relaxed) < FULL as u64
    }

    /// Waits until [`has_room`](Self::has_room).
    pub(crate) async fn room(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.has_room() {
                return;
            }
            emptied.await;
        }
    }
}

enum Waiting {
    Session(Arc<dyn Proposer>, OfPeer),
    Caller(oneshot::Sender<Outcome>),
    Nobody,
}

impl Waiting {
    fn tell(self, outcome: Outcome) {
        match self {
            Self::Session(session, publication) => session.answer(publication, outcome),
            // The caller may have gone.
            Self::Caller(caller) => drop(caller.send(outcome)),
            Self::Nobody => {}
        }
    }
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<ReplyTo> {
        let pending = self.pending.remove(&id)?;
        self.bytes -= pending.cost;
        Some(pending.proposal.reply_to)
    }

    fn who_waits(&mut self, reply_to: ReplyTo) -> Waiting {
        match reply_to {
            ReplyTo::Session { session, alias, number, size, datagram } => {
                let session = self.sessions.get(&session).and_then(Weak::upgrade);
                session.map_or(Waiting::Nobody, |session| {
                    Waiting::Session(session, (alias, number, size, datagram))
                })
            }
            ReplyTo::Nobody => Waiting::Nobody,
            ReplyTo::Caller(number) => {
                self.callers.remove(&number).map_or(Waiting::Nobody, Waiting::Caller)
            }
        }
    }
}

fn too_slow() -> Refusal {
    Refusal::new(
        Code::UNAVAILABLE,
        "the log of this daemon is too slow for what is published: publish it again later",
    )
}

fn undecided() -> Refusal {
    Refusal::new(
        Code::UNAVAILABLE,
        "the log of this daemon has not answered for 10 s, and may still take the publication: publish it \
         again under the same number or key",
    )
}
