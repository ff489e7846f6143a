//! The engine behind its lock, and the tasks to wake: lock, call, take the outputs, unlock, wake.

use crate::engine::{Engine, Item, MessageRef, Rope, SubscriptionId, Wanted};
use crate::wire::Refusal;
use bytes::Bytes;
use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use tokio::sync::SetOnce;

struct Inner {
    engine: Engine,
    // By index of the subscription: who reads it, while it has had everything.
    readers: Vec<Option<Waker>>,
    named: Vec<SubscriptionId>,
}

/// The engine, shared.
///
/// An engine that has panicked half-way may have given a sequence twice, or counted twice, the next
/// time that it is called. So it is not called again: whoever tries panics too, each session ends and
/// is told, and the daemon stops. What starts anew has other epochs, by which clients know.
pub(crate) struct Core {
    inner: Mutex<Inner>,
    failed: SetOnce<()>,
}

/// A payload as it was read under the lock, to be put together without it.
#[derive(Debug)]
pub(crate) enum Taken {
    Whole(Bytes),
    Pieces {
        /// The topic's id.
        topic: u64,
        sequence: u64,
        rope: Rope,
    },
}

impl Taken {
    pub(crate) fn of(message: &MessageRef<'_>) -> Self {
        match message.rope().filter(|rope| rope.pieces().count() > 1) {
            Some(rope) => Self::Pieces {
                topic: message.topic_id(),
                sequence: message.sequence(),
                rope: rope.clone(),
            },
            None => Self::Whole(message.payload()),
        }
    }
}

thread_local! {
    // Taken out under the lock, woken after it; kept, so that waking allocates nothing.
    static WAKING: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

impl Core {
    pub(crate) fn new(engine: Engine) -> Self {
        let inner = Mutex::new(Inner { engine, readers: Vec::new(), named: Vec::new() });
        Self { inner, failed: SetOnce::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let Ok(inner) = self.inner.lock() else {
            self.has_failed();
            panic!("the engine panicked before: it is not called any more");
        };
        inner
    }

    /// Whether the engine has panicked. If so, the daemon is told.
    pub(crate) fn has_failed(&self) -> bool {
        let failed = self.inner.is_poisoned();
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

    /// Calls the engine and wakes whoever has something to read after it.
    pub(crate) fn with<T>(&self, call: impl FnOnce(&mut Engine) -> T) -> T {
        let mut waking = WAKING.take();
        let mut inner = self.lock();
        let Inner { engine, readers, named } = &mut *inner;
        let result = call(engine);
        engine.take_wakes(named);
        // Who is not here is reading just now, and will find it.
        let wakers = named.drain(..).filter_map(|id| readers.get_mut(id.index())?.take());
        waking.extend(wakers);
        drop(inner);
        waking.drain(..).for_each(Waker::wake);
        WAKING.set(waking);
        result
    }

    /// Reads a subscription: ready when there was something, or when it lagged and is to end. Says
    /// whether to read again before waiting; if not, that was all, and the context is woken when
    /// there is more.
    pub(crate) fn poll_read(
        &self,
        id: SubscriptionId,
        context: &mut Context<'_>,
        wanted: impl Into<Wanted>,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Poll<Result<bool, Refusal>> {
        let mut inner = self.lock();
        let any = inner.engine.read(id, wanted, sink)?;
        if any && !inner.engine.rest(id) {
            return Poll::Ready(Ok(true));
        }
        let index = id.index();
        if inner.readers.len() <= index {
            inner.readers.resize(index + 1, None);
        }
        // What a waker drops may call in here: not under the lock.
        let before = inner.readers[index].replace(context.waker().clone());
        drop(inner);
        drop(before);
        if any { Poll::Ready(Ok(false)) } else { Poll::Pending }
    }

    /// A payload in one piece: put together once, for whoever needs it so after this one.
    pub(crate) fn join(&self, taken: Taken) -> Bytes {
        match taken {
            Taken::Whole(payload) => payload,
            Taken::Pieces { topic, sequence, rope } => {
                let joined = rope.join();
                drop(rope);
                self.with(|engine| engine.join(topic, sequence, joined))
            }
        }
    }

    /// Forgets the reader of a subscription that has ended.
    pub(crate) fn forget(&self, id: SubscriptionId) {
        if self.has_failed() {
            return;
        }
        let reader = self.lock().readers.get_mut(id.index()).and_then(Option::take);
        drop(reader);
    }
}
