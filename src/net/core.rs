//! The engine behind its lock, and the tasks to wake: lock, call, take the outputs, unlock, wake.
//!
//! Who waits for a subscription stands here by its whole id: an index alone may be another's by the
//! time that it is looked at. What has ended leaves the engine as wakes do, under the same lock.

use crate::engine::{Engine, Item, SubscriptionId, Wanted};
use crate::wire::Refusal;
use std::cell::RefCell;
use std::ops::DerefMut;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use tokio::sync::SetOnce;

/// The engine, and who waits for it.
pub(crate) struct Inner {
    engine: Engine,
    // By index of the subscription: which it is, and who reads it, while it has had everything.
    readers: Vec<Option<(SubscriptionId, Waker)>>,
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
pub(crate) struct Core<L = Mutex<Inner>> {
    inner: L,
    failed: SetOnce<()>,
    // Of all cores of the process; an address may be another's later.
    #[cfg(test)]
    pub(super) number: u64,
}

thread_local! {
    // Taken out under the lock, woken after it; kept, so that waking allocates nothing.
    static WAKING: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

impl Inner {
    fn new(engine: Engine) -> Self {
        Self { engine, readers: Vec::new(), ids: Vec::new() }
    }

    fn take(&mut self, id: SubscriptionId) -> Option<Waker> {
        let reader = self.readers.get_mut(id.index())?;
        reader.take_if(|(of, _)| *of == id).map(|(_, waker)| waker)
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

impl Core {
    pub(crate) fn new(engine: Engine) -> Self {
        Self::of(Mutex::new(Inner::new(engine)))
    }
}

impl<L: Lock> Core<L> {
    fn of(inner: L) -> Self {
        #[cfg(test)]
        static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Self {
            inner,
            failed: SetOnce::new(),
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

    /// Calls the engine from where something is dropped: not if it has panicked, which may be why.
    pub(crate) fn tidy(&self, call: impl FnOnce(&mut Engine)) {
        if !self.has_failed() {
            self.with(call);
        }
    }

    /// Calls the engine, and wakes whoever has something to read after it. What the engine leaves
    /// to be done is done in portions, between which others have their turn.
    pub(crate) fn with<T>(&self, call: impl FnOnce(&mut Engine) -> T) -> T {
        let mut waking = WAKING.take();
        let mut ended = Vec::new();
        let mut inner = self.lock();
        inner.engine.begin_work();
        let result = call(&mut inner.engine);
        loop {
            inner.outputs(&mut waking, &mut ended);
            let more = inner.engine.is_stirred();
            drop(inner);
            waking.drain(..).for_each(Waker::wake);
            // What a waker drops may call in here: not under the lock.
            ended.clear();
            if !more {
                break;
            }
            inner = self.lock();
            inner.engine.begin_work();
            inner.engine.tend();
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
        wanted: impl Into<Wanted>,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Poll<Result<bool, Refusal>> {
        let mut inner = self.lock();
        inner.engine.begin_work();
        let mut any = false;
        let again = inner.engine.read(id, wanted, &mut |item| {
            any = true;
            sink(item);
        })?;
        if any && !inner.engine.rest(id) {
            return Poll::Ready(Ok(true));
        }
        if !any && again {
            // It takes more than one call to find what there is: others have their turn first.
            drop(inner);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let index = id.index();
        if inner.readers.len() <= index {
            inner.readers.resize(index + 1, None);
        }
        let before = inner.readers[index].replace((id, context.waker().clone()));
        drop(inner);
        // Not under the lock, as above.
        drop(before);
        if any { Poll::Ready(Ok(false)) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests;
