//! The one caller of the engine, for every face: the engine behind its lock, and the tasks to wake.
//! Lock, call, take the outputs, unlock, wake.
//!
//! Who waits for a subscription stands here by its whole id: an index alone may be another's by the
//! time that it is looked at. What has ended leaves the engine as wakes do, under the same lock.
//!
//! Those that have to [sweep](Engine::is_sweeping) over the names of topics stand in a line, however
//! many they are, and a few at a time have their [turn](Core::take_turns): else those who deliver
//! what is new would stand behind all of them.

pub(crate) mod admission;
pub(crate) mod failure;
pub(crate) mod pace;
pub(crate) mod subscription;
pub(crate) mod upload;

#[cfg(test)]
mod tests;

use crate::engine::{Engine, Item, ReadOptions, SubscriptionId};
use crate::wire::{Code, Refusal};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::DerefMut;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use tokio::sync::{Notify, SetOnce};

/// Sweeps that have a turn, of 50 µs, before others have theirs. A message passes through a dozen
/// tasks, and each of them may wait for that.
const TURNS: usize = 1;

/// Who reads a subscription, and for what.
struct Reader {
    of: SubscriptionId,
    // None of one that has its turn.
    waker: Option<Waker>,
    // It waits for its turn, and not for something new.
    in_line: bool,
}

/// The engine, and who waits for it.
pub(crate) struct Inner {
    engine: Engine,
    // By index of the subscription.
    readers: Vec<Option<Reader>>,
    // Those that wait for their turn, first come first served, and perhaps some that have ended.
    line: VecDeque<SubscriptionId>,
    // Nobody gives turns any more.
    closed: bool,
    ids: Vec<SubscriptionId>,
}

/// What the engine stands behind: a mutex, or one whose turns a test decides on.
pub(crate) trait Lock {
    /// None once somebody has panicked while it was locked.
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
/// An engine that has panicked half-way may have given a sequence twice, or counted twice, the next
/// time that it is called. So it is not called again: whoever tries panics too, each session ends and
/// is told, and the daemon stops. What starts anew has other epochs, by which clients know.
pub(crate) struct Broker<L = Mutex<Inner>> {
    inner: L,
    failed: SetOnce<()>,
    // Somebody stands in the line.
    turns: Notify,
    // Of all cores of the process; an address may be another's later.
    #[cfg(test)]
    pub(crate) number: u64,
}

thread_local! {
    // Taken out under the lock, woken after it; kept, so that waking allocates nothing.
    static WAKING: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

impl Inner {
    fn new(engine: Engine) -> Self {
        Self { engine, readers: Vec::new(), line: VecDeque::new(), closed: false, ids: Vec::new() }
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
        reader.take_if(|reader| reader.of == id)?.waker
    }

    // Whether the subscription may be read now: if not, it waits for its turn, and the waker that
    // it waited with before is given back.
    fn may_read(&mut self, id: SubscriptionId, waker: &Waker) -> Result<(), Option<Waker>> {
        if self.closed || !self.engine.is_sweeping(id) {
            return Ok(());
        }
        let reader = self.reader(id);
        match reader.as_mut().filter(|reader| reader.of == id) {
            Some(reader) if reader.in_line => Err(reader.waker.replace(waker.clone())),
            // It has its turn.
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
            let stands = |id: &SubscriptionId| {
                let reader = readers.get(id.index()).and_then(Option::as_ref);
                reader.is_some_and(|reader| reader.of == *id && reader.in_line)
            };
            line.retain(stands);
        }
        line.push_back(id);
        let reader = Reader { of: id, waker: Some(waker.clone()), in_line: true };
        self.reader(id).replace(reader).and_then(|before| before.waker)
    }

    // The next few have their turn. Says whether there are more.
    fn turns(&mut self, waking: &mut Vec<Waker>) -> bool {
        let mut turns = 0;
        while turns < TURNS
            && let Some(id) = self.line.pop_front()
        {
            let reader = self.readers.get_mut(id.index()).and_then(Option::as_mut);
            if let Some(reader) = reader.filter(|reader| reader.of == id && reader.in_line) {
                reader.in_line = false;
                waking.extend(reader.waker.take());
                turns += 1;
            }
        }
        !self.line.is_empty()
    }

    // Who is to be woken; and who waits for what has ended.
    fn outputs(&mut self, waking: &mut Vec<Waker>, ended: &mut Vec<Waker>) {
        let mut ids = std::mem::take(&mut self.ids);
        self.engine.take_ended(&mut ids);
        ended.extend(ids.drain(..).filter_map(|id| self.take(id)));
        self.engine.take_wakes(&mut ids);
        // Who is not here is reading just now, and will find it.
        waking.extend(ids.drain(..).filter_map(|id| self.take(id)));
        self.ids = ids;
    }
}

impl Broker {
    pub(crate) fn new(engine: Engine) -> Self {
        Self::of(Mutex::new(Inner::new(engine)))
    }
}

impl<L: Lock> Broker<L> {
    fn of(inner: L) -> Self {
        #[cfg(test)]
        static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Self {
            inner,
            failed: SetOnce::new(),
            turns: Notify::new(),
            #[cfg(test)]
            number: NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        }
    }

    fn lock(&self) -> impl DerefMut<Target = Inner> {
        let Some(inner) = self.inner.lock() else {
            self.has_failed();
            panic!("the engine panicked before: it is not called any more");
        };
        inner
    }

    /// Whether the engine has panicked. If so, the daemon is told.
    pub(crate) fn has_failed(&self) -> bool {
        let failed = self.inner.has_failed();
        if failed {
            // Once is enough.
            let _ = self.failed.set(());
        }
        failed
    }

    /// Waits until somebody has found that the engine has panicked.
    pub(crate) async fn failed(&self) {
        self.failed.wait().await;
    }

    /// Gives those that stand in line their turns, a few at a time, and wakes in portions those whom
    /// one publication concerns: between turns everybody who is ready to run does so. Runs for as
    /// long as the daemon does: who still reads then has what is left, and is told that it has ended.
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
        // Whoever was to be told of what was accepted has it to read before it is told of the end.
        while self
            .inner
            .lock()
            .is_some_and(|mut inner| inner.engine.has_deferred() && inner.engine.run_deferred())
        {
        }
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
        if inner.engine.has_deferred() {
            inner.engine.begin_work();
            more |= inner.engine.run_deferred();
            inner.outputs(&mut waking, &mut ended);
        }
        drop(inner);
        waking.drain(..).for_each(Waker::wake);
        WAKING.set(waking);
        more
    }

    /// Calls the engine from where something is dropped: not if it has panicked, which may be why.
    pub(crate) fn tidy(&self, call: impl FnOnce(&mut Engine)) {
        if !self.has_failed() {
            self.with(call);
        }
    }

    /// Calls the engine, and wakes whoever has something to read after it. What the engine leaves
    /// to be done is done in portions, between which others have their turn: here, if it is
    /// pressing, and else with the [turns](Self::take_turns).
    pub(crate) fn with<T>(&self, call: impl FnOnce(&mut Engine) -> T) -> T {
        let mut waking = WAKING.take();
        let mut ended = Vec::new();
        let mut inner = self.lock();
        inner.engine.begin_work();
        let before = inner.engine.deferred_wakes();
        let result = call(&mut inner.engine);
        let stirred = loop {
            inner.outputs(&mut waking, &mut ended);
            let (pressed, stirred) =
                (inner.engine.must_run_deferred(before), inner.engine.has_deferred());
            drop(inner);
            waking.drain(..).for_each(Waker::wake);
            // What a waker drops may call in here: not under the lock.
            ended.clear();
            if !pressed {
                break stirred;
            }
            inner = self.lock();
            inner.engine.begin_work();
            inner.engine.run_deferred();
        };
        if stirred {
            self.turns.notify_one();
        }
        WAKING.set(waking);
        result
    }

    /// Reads a subscription: ready when there was something, or when it is to end. Says whether to
    /// read again before waiting; if not, that was all, and the context is woken when there is
    /// more.
    pub(crate) fn poll_read(
        &self,
        id: SubscriptionId,
        context: &mut Context<'_>,
        wanted: impl Into<ReadOptions>,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Poll<Result<bool, Refusal>> {
        let mut inner = self.lock();
        if let Err(before) = inner.may_read(id, context.waker()) {
            drop(inner);
            // Not under the lock: what a waker drops may call in here.
            drop(before);
            self.turns.notify_one();
            return Poll::Pending;
        }
        inner.engine.begin_work();
        let mut any = false;
        let again = inner.engine.read(id, wanted, &mut |item| {
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
            // It takes more than one call to find what there is: others have their turn first.
            let before = inner.line_up(id, context.waker());
            drop(inner);
            drop(before);
            self.turns.notify_one();
            return Poll::Pending;
        }
        let reader = Reader { of: id, waker: Some(context.waker().clone()), in_line: false };
        let before = inner.reader(id).replace(reader);
        drop(inner);
        drop(before);
        if any { Poll::Ready(Ok(false)) } else { Poll::Pending }
    }

    /// Ready when there is something to read, or to end for; the context is woken when there is.
    pub(crate) fn poll_unread(&self, id: SubscriptionId, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.closed || !inner.engine.park_if_idle(id) {
            return Poll::Ready(());
        }
        let reader = Reader { of: id, waker: Some(context.waker().clone()), in_line: false };
        let before = inner.reader(id).replace(reader);
        drop(inner);
        drop(before);
        Poll::Pending
    }
}

// The daemon stops when this is dropped.
struct Closing<'a, L: Lock>(&'a Broker<L>);

impl<L: Lock> Drop for Closing<'_, L> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn stopped() -> Refusal {
    Refusal::new(Code::SHUTTING_DOWN, "the daemon has stopped: subscribe to one that runs")
}
