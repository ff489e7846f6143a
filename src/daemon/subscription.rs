//! A subscription from within the process.

use crate::broker::Broker;
use crate::broker::subscription::Subscription;
use crate::engine::{Item, LargePayloads, MessageRef, ReadOptions, Rope, SubscriptionId};
use crate::message::{CachedDigest, Event, Gap, Message};
use crate::net::now;
use crate::wire::Refusal;
use bytes::Bytes;
use futures_core::Stream;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A subscription from within the process: a [`Stream`] of events.
#[derive(Debug)]
pub struct LocalSubscription {
    subscription: Subscription,
    // How old a message may be that is handed out, µs; 0 is any.
    deadline: u64,
    // At most what one read hands out.
    events: VecDeque<Read>,
    ended: bool,
}

/// Bytes taken from the engine at once.
const BATCH: usize = 16 << 10;

impl LocalSubscription {
    pub(super) fn new(broker: Arc<Broker>, id: SubscriptionId, deadline: u64) -> Self {
        Self {
            subscription: Subscription::new(broker, id),
            deadline,
            events: VecDeque::new(),
            ended: false,
        }
    }

    /// The next event; none after an error. Once the daemon has stopped these are what it still had
    /// in its cache, and then [`Code::SHUTTING_DOWN`](crate::wire::Code::SHUTTING_DOWN).
    pub async fn next(&mut self) -> Option<Result<Event, Refusal>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for LocalSubscription {
    type Item = Result<Event, Refusal>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(read) = this.events.pop_front() {
                return Poll::Ready(Some(Ok(read.event())));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let Self { subscription, deadline, events, .. } = this;
            let wanted = ReadOptions {
                accepted_since: if *deadline == 0 { 0 } else { now().saturating_sub(*deadline) },
                // One that arrives is waited for, and others may overtake it.
                large: LargePayloads::WhenComplete,
                ..BATCH.into()
            };
            // For if this panics, which ends it.
            this.ended = true;
            let read =
                subscription.poll_read(context, wanted, &mut |item| events.extend(read(&item)));
            if let Poll::Ready(Err(refusal)) = read {
                return Poll::Ready(Some(Err(refusal)));
            }
            this.ended = false;
            if read.is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// A payload as it was read under the lock, to be put together without it.
#[derive(Debug)]
pub(super) enum Taken {
    Small(Bytes),
    Large(Arc<Rope>),
}

impl Taken {
    /// The payload in one piece.
    pub(super) fn join(&self) -> Bytes {
        match self {
            Self::Small(payload) => payload.clone(),
            Self::Large(rope) => rope.join(),
        }
    }
}

/// A message as it is taken from under the lock: without its payload, which comes beside it.
pub(super) fn taken(message: &MessageRef<'_>) -> (Message, Taken) {
    let without = Message {
        topic: message.topic().clone(),
        epoch: message.epoch(),
        sequence: message.sequence(),
        count: message.count(),
        stamp: Some(message.stamp()).filter(|stamp| *stamp > 0),
        payload: Bytes::new(),
        known: CachedDigest(Some(message.digest())),
    };
    let whole = message.whole().map(|rope| Taken::Large(rope.clone()));
    (without, whole.unwrap_or_else(|| Taken::Small(message.payload())))
}

// What was read under the lock.
#[derive(Debug)]
enum Read {
    Event(Event),
    // Without its payload, which comes beside it.
    Message(Message, Taken),
}

impl Read {
    fn event(self) -> Event {
        match self {
            Self::Event(event) => event,
            Self::Message(message, payload) => {
                Event::Message(Message { payload: payload.join(), ..message })
            }
        }
    }
}

fn read(item: &Item<'_>) -> Option<Read> {
    match item {
        Item::Message(message) => {
            let (without, payload) = taken(message);
            Some(Read::Message(without, payload))
        }
        Item::Gap { name, epoch, first, last, cause, .. } => Some(Read::Event(Event::Gap(Gap {
            topic: (*name).clone(),
            epoch: *epoch,
            first: *first,
            last: *last,
            cause: *cause,
        }))),
        // Announcements; and what is not asked for.
        _ => None,
    }
}
