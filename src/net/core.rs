//! The engine behind its lock, and the tasks to wake: lock, call, take the outputs, unlock, wake.

use crate::engine::{Engine, Item, MessageRef, Rope, SubscriptionId, Wanted};
use crate::wire::Refusal;
use bytes::Bytes;
use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

struct Inner {
    engine: Engine,
    // By index of the subscription: who reads it, while it has had everything.
    readers: Vec<Option<Waker>>,
    named: Vec<SubscriptionId>,
}

/// The engine, shared.
pub(crate) struct Core(Mutex<Inner>);

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
        Self(Mutex::new(Inner { engine, readers: Vec::new(), named: Vec::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let reader = self.lock().readers.get_mut(id.index()).and_then(Option::take);
        drop(reader);
    }
}
