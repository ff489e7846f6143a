//! The one caller of the engine, for every face: the engine behind its lock, and the tasks to wake.
//! Each call locks, calls, takes the outputs, unlocks, and wakes.
//!
//! A reader is kept under the whole id of its subscription, because its index alone may be reused
//! by another subscription. The engine reports subscriptions that have ended like wakes, under the
//! same lock.
//!
//! Subscriptions that [sweep](Engine::is_sweeping) over the names of topics wait in a line, and
//! take [turns](Broker::take_turns), one at a time. Otherwise live deliveries would wait behind all
//! of them.

pub(crate) mod admission;
pub(crate) mod clock;
pub(crate) mod counters;
mod expiring;
pub(crate) mod failure;
pub(crate) mod newcomers;
pub(crate) mod owned_item;
pub(crate) mod pace;
pub(crate) mod places;
mod proposing;
mod recording;
pub(crate) mod replaying;
pub(crate) mod resting;
#[cfg(any(feature = "otel", test))]
pub(crate) mod spans;
pub(crate) mod stop;
pub(crate) mod subscription;
pub(crate) mod throttle;
pub(crate) mod upload;

#[cfg(test)]
mod tests;

use crate::engine::{Engine, EngineFigures, Item, ReadOptions, SubscriptionId};
use crate::journal::proposals::ProposalQueue;
use crate::journal::queue::JournalQueue;
use crate::wire::{Code, Refusal};
use counters::Counters;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::DerefMut;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tokio::sync::{Notify, SetOnce};

/// Sweeps that take their turn, of 50 µs each, before other tasks run. A message passes through a
/// dozen tasks, and each of them may wait for these.
const TURNS: usize = 1;

/// The task that waits for a subscription.
struct Reader {
    subscription: SubscriptionId,
    // None while the subscription has its turn.
    waker: Option<Waker>,
    // The task waits for its turn, not for new messages.
    in_line: bool,
}

/// The engine, and the tasks that wait for it.
pub(crate) struct Inner {
    engine: Engine,
    // By index of the subscription.
    readers: Vec<Option<Reader>>,
    // Subscriptions that wait for their turn, in order. Some may have ended.
    line: VecDeque<SubscriptionId>,
    // The daemon has stopped, so that no more turns are given.
    closed: bool,
    // Kept for its memory.
    ids: Vec<SubscriptionId>,
    journal: Option<Arc<JournalQueue>>,
    log: Option<Arc<ProposalQueue>>,
    // The journal or the log has refused publications, and the engine knows it.
    refuses: bool,
}

/// The lock of the engine: a mutex, or one whose schedule a test controls.
pub(crate) trait Lock {
    /// None after a panic while it was locked.
    fn lock(&self) -> Option<impl DerefMut<Target = Inner>>;
    fn has_failed(&self) -> bool;
}

impl Lock for Mutex<Inner> {
    fn lock(&self) -> Option<impl DerefMut<Target = Inner>> {
        self.lock().ok()
    }

    fn has_failed(&self) -> bool {
        self.is_poisoned()
    }
}

/// The engine, shared.
///
/// An engine that has panicked is never called again, because it might assign a sequence twice, or
/// count twice. Every later call panics too, each session ends with a goodbye, and the daemon
/// stops. The restarted daemon has other epochs, by which clients detect the restart.
pub(crate) struct Broker<L = Mutex<Inner>> {
    inner: L,
    journal: Option<Arc<JournalQueue>>,
    // A log that others order. A daemon has this or a journal.
    log: Option<Arc<ProposalQueue>>,
    failed: SetOnce<()>,
    counters: Counters,
    // Notified when the line or the engine has work left.
    turns: Notify,
    // Notified when topic rules may have begun to need the time.
    timed: Notify,
    // Unique in the process, unlike an address, which may be reused.
    #[cfg(test)]
    pub(crate) number: u64,
}

thread_local! {
    // Filled under the lock, and woken after it. Kept, so that waking does not allocate.
    static WAKING: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

impl Inner {
    fn new(
        engine: Engine,
        journal: Option<Arc<JournalQueue>>,
        log: Option<Arc<ProposalQueue>>,
    ) -> Self {
        let (readers, line, ids) = (Vec::new(), VecDeque::new(), Vec::new());
        Self { engine, readers, line, closed: false, ids, journal, log, refuses: false }
    }

    fn reader(&mut self, id: SubscriptionId) -> &mut Option<Reader> {
        let index = id.index();
        if self.readers.len() <= index {
            self.readers.resize_with(index + 1, || None);
        }
        &mut self.readers[index]
    }

    fn take(&mut self, id: SubscriptionId) -> Option<Waker> {
        let reader = self.readers.get_mut(id.index())?;
        reader.take_if(|reader| reader.subscription == id)?.waker
    }

    // Whether the subscription may be read now. If not, it waits for its turn, and its previous
    // waker is returned.
    fn may_read(&mut self, id: SubscriptionId, waker: &Waker) -> Result<(), Option<Waker>> {
        if self.closed || !self.engine.is_sweeping(id) {
            return Ok(());
        }
        let reader = self.reader(id);
        match reader.as_mut().filter(|reader| reader.subscription == id) {
            Some(reader) if reader.in_line => Err(reader.waker.replace(waker.clone())),
            // The subscription has its turn.
            Some(Reader { waker: None, .. }) => {
                *reader = None;
                Ok(())
            }
            _ => Err(self.line_up(id, waker)),
        }
    }

    fn line_up(&mut self, id: SubscriptionId, waker: &Waker) -> Option<Waker> {
        let Self { line, readers, .. } = self;
        if line.len() >= 64 && line.len() >= 2 * readers.len() {
            let waits = |id: &SubscriptionId| {
                let reader = readers.get(id.index()).and_then(Option::as_ref);
                reader.is_some_and(|reader| reader.subscription == *id && reader.in_line)
            };
            line.retain(waits);
        }
        line.push_back(id);
        let reader = Reader { subscription: id, waker: Some(waker.clone()), in_line: true };
        self.reader(id).replace(reader).and_then(|before| before.waker)
    }

    // Gives the next subscriptions in line their turn. Returns whether more wait.
    fn turns(&mut self, waking: &mut Vec<Waker>) -> bool {
        let mut turns = 0;
        while turns < TURNS
            && let Some(id) = self.line.pop_front()
        {
            let reader = self.readers.get_mut(id.index()).and_then(Option::as_mut);
            if let Some(reader) =
                reader.filter(|reader| reader.subscription == id && reader.in_line)
            {
                reader.in_line = false;
                waking.extend(reader.waker.take());
                turns += 1;
            }
        }
        !self.line.is_empty()
    }

    // Collects the tasks to wake, and those that wait for subscriptions that have ended.
    // Returns whether the journal is to be notified.
    fn outputs(&mut self, waking: &mut Vec<Waker>, ended: &mut Vec<Waker>) -> bool {
        let recorded = self.record();
        let mut ids = std::mem::take(&mut self.ids);
        self.engine.take_ended(&mut ids);
        ended.extend(ids.drain(..).filter_map(|id| self.take(id)));
        self.engine.take_wakes(&mut ids);
        // A subscription without a waker is being read at this moment, and will see the new
        // message.
        waking.extend(ids.drain(..).filter_map(|id| self.take(id)));
        self.ids = ids;
        recorded
    }
}

impl Broker {
    /// Shares an engine. With a journal, receipts are given once their records are
    /// [kept](Self::kept). With a log, that one decides about publications.
    pub(crate) fn with_log(
        engine: Engine,
        journal: Option<Arc<JournalQueue>>,
        log: Option<Arc<ProposalQueue>>,
    ) -> Self {
        let inner = Inner::new(engine, journal.clone(), log.clone());
        Self::of(Mutex::new(inner), journal, log)
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn new(engine: Engine, journal: Option<Arc<JournalQueue>>) -> Self {
        Self::with_log(engine, journal, None)
    }
}

impl<L: Lock> Broker<L> {
    fn of(inner: L, journal: Option<Arc<JournalQueue>>, log: Option<Arc<ProposalQueue>>) -> Self {
        #[cfg(test)]
        static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Self {
            inner,
            journal,
            log,
            failed: SetOnce::new(),
            counters: Counters::default(),
            turns: Notify::new(),
            timed: Notify::new(),
            #[cfg(test)]
            number: NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        }
    }

    /// The counters of all faces.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the numbers of the engine. None after a panic.
    pub(crate) fn figures(&self) -> Option<EngineFigures> {
        self.inner.lock().map(|inner| inner.engine.figures())
    }

    fn lock(&self) -> impl DerefMut<Target = Inner> {
        let Some(inner) = self.inner.lock() else {
            self.has_failed();
            panic!("the engine has panicked before, and is not called again");
        };
        inner
    }

    /// Whether the engine has panicked. If so, [`failed`](Self::failed) resolves.
    pub(crate) fn has_failed(&self) -> bool {
        let failed = self.inner.has_failed();
        if failed {
            // An error means that it was set before.
            let _ = self.failed.set(());
        }
        failed
    }

    /// Waits until a panic of the engine has been detected.
    pub(crate) async fn failed(&self) {
        self.failed.wait().await;
    }

    /// Gives subscriptions in line their turns, and wakes the subscriptions of one publication in
    /// portions. Between turns, every task that is ready runs. It runs until the daemon stops.
    /// After that, readers get what is left, and then the refusal `SHUTTING_DOWN`.
    pub(crate) async fn take_turns(&self) {
        let _closing = Closing(self);
        loop {
            self.turns.notified().await;
            while self.give_turns() {
                tokio::task::yield_now().await;
            }
        }
    }

    fn close(&self) {
        // Wakes that are still to be done come first, so that every reader gets accepted messages
        // before the end.
        while self.inner.lock().is_some_and(|mut inner| {
            let more = inner.engine.has_deferred() && inner.engine.run_deferred();
            inner.record();
            more
        }) {}
        let Some(mut inner) = self.inner.lock() else {
            return;
        };
        inner.closed = true;
        let readers = std::mem::take(&mut inner.readers);
        drop(inner);
        readers.into_iter().flatten().filter_map(|reader| reader.waker).for_each(Waker::wake);
    }

    fn give_turns(&self) -> bool {
        let Some(mut inner) = self.inner.lock() else {
            self.has_failed();
            return false;
        };
        let (mut waking, mut ended) = (WAKING.take(), Vec::new());
        let mut more = inner.turns(&mut waking);
        let mut recorded = false;
        if inner.engine.has_deferred() {
            inner.begin_work();
            more |= inner.engine.run_deferred();
            recorded = inner.outputs(&mut waking, &mut ended);
        }
        drop(inner);
        // Subscribers first: waking the journal's thread may take their core.
        waking.drain(..).for_each(Waker::wake);
        self.notify_journal(recorded);
        WAKING.set(waking);
        more
    }

    /// Calls the engine when something is dropped. Does nothing after a panic, which may be why.
    pub(crate) fn tidy(&self, call: impl FnOnce(&mut Engine)) {
        if !self.has_failed() {
            self.with(call);
        }
    }

    /// Calls the engine, and wakes the tasks that have something to read after it. Work that the
    /// engine has left is done in portions, and the lock is released in between. It is done here if
    /// it is pressing, and with the [turns](Self::take_turns) otherwise.
    pub(crate) fn with<T>(&self, call: impl FnOnce(&mut Engine) -> T) -> T {
        let mut waking = WAKING.take();
        let mut ended = Vec::new();
        let mut inner = self.lock();
        inner.begin_work();
        let before = inner.engine.deferred_wakes();
        let result = call(&mut inner.engine);
        let deferred = loop {
            let recorded = inner.outputs(&mut waking, &mut ended);
            let must_run = inner.engine.must_run_deferred(before);
            let deferred = inner.engine.has_deferred();
            drop(inner);
            waking.drain(..).for_each(Waker::wake);
            self.notify_journal(recorded);
            // Dropped without the lock, because dropping a waker may call the broker.
            ended.clear();
            if !must_run {
                break deferred;
            }
            inner = self.lock();
            inner.begin_work();
            inner.engine.run_deferred();
        };
        if deferred {
            self.turns.notify_one();
        }
        WAKING.set(waking);
        result
    }

    /// Reads a subscription. Ready when there was something to read, or with the reason for its
    /// end. Returns whether there is more. If not, the context is woken when there is.
    pub(crate) fn poll_read(
        &self,
        id: SubscriptionId,
        context: &mut Context<'_>,
        options: impl Into<ReadOptions>,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Poll<Result<bool, Refusal>> {
        let mut inner = self.lock();
        if let Err(before) = inner.may_read(id, context.waker()) {
            drop(inner);
            // Dropped without the lock, because dropping a waker may call the broker.
            drop(before);
            self.turns.notify_one();
            return Poll::Pending;
        }
        inner.tell_time();
        inner.engine.begin_work();
        let mut any = false;
        let again = inner.engine.read(id, options, &mut |item| {
            any = true;
            sink(item);
        })?;
        if any && !inner.engine.park_if_idle(id) {
            return Poll::Ready(Ok(true));
        }
        if !any && inner.closed {
            drop(inner);
            if again {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Err(stopped()));
        }
        if !any && again {
            // The search takes more than one call. Others take their turns first.
            let before = inner.line_up(id, context.waker());
            drop(inner);
            drop(before);
            self.turns.notify_one();
            return Poll::Pending;
        }
        let reader =
            Reader { subscription: id, waker: Some(context.waker().clone()), in_line: false };
        let before = inner.reader(id).replace(reader);
        drop(inner);
        drop(before);
        if any { Poll::Ready(Ok(false)) } else { Poll::Pending }
    }

    /// Ready when there is something to read, or a reason to end. Otherwise the context is woken
    /// when there is.
    pub(crate) fn poll_unread(&self, id: SubscriptionId, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.closed || !inner.engine.park_if_idle(id) {
            return Poll::Ready(());
        }
        let reader =
            Reader { subscription: id, waker: Some(context.waker().clone()), in_line: false };
        let before = inner.reader(id).replace(reader);
        drop(inner);
        drop(before);
        Poll::Pending
    }
}

// Closes the broker when it is dropped, because the daemon stops.
struct Closing<'a, L: Lock>(&'a Broker<L>);

impl<L: Lock> Drop for Closing<'_, L> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn stopped() -> Refusal {
    Refusal::new(Code::SHUTTING_DOWN, "the daemon has stopped: subscribe to another one")
}
