//! A subscription from within the process.

use super::rights_end::{RightsEnd, SubscriptionPlace, rights_ended};
use crate::broker::Broker;
use crate::broker::counters::Mode;
use crate::broker::subscription::Subscription;
use crate::engine::{Item, LargePayloads, MessageRef, ReadOptions, Rope};
use crate::message::{CachedDigest, Event, Gap, Message, SubscribeOptions};
use crate::net::now;
use crate::wire::{Delivery, Filter, GapCause, Refusal, nonzero};
use bytes::Bytes;
use futures_core::Stream;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A subscription from within the process: a [`Stream`] of events.
#[derive(Debug)]
#[must_use = "a subscription ends when it is dropped"]
pub struct LocalSubscription {
    subscription: Subscription,
    // Maximum age of a delivered message, µs; 0 means no limit.
    deadline: u64,
    // The items of one read.
    events: VecDeque<OwnedEvent>,
    ended: bool,
    // Of a peer whose rights end, and that has a number of subscriptions.
    rights: Option<RightsEnd>,
    _place: Option<SubscriptionPlace>,
}

/// Bytes of one read.
const BATCH: usize = 16 << 10;

impl LocalSubscription {
    /// Subscribes without restrictions.
    pub(super) fn begin(broker: &Arc<Broker>, filter: Filter, options: &SubscribeOptions) -> Self {
        let deadline = match options.delivery {
            Delivery::Realtime => u64::from(options.deadline_ms()) * 1000,
            Delivery::Ordered | Delivery::Unordered => 0,
        };
        let (start, lag) = (options.start.to_wire(), options.lag);
        let id = broker.with(|engine| engine.subscribe(filter, &start, lag));
        Self {
            subscription: Subscription::new(broker.clone(), id),
            deadline,
            events: VecDeque::new(),
            ended: false,
            rights: None,
            _place: None,
        }
    }

    /// Ends the subscription with the rights of a peer, and releases its place then.
    pub(super) fn of_peer(self, expires: Option<u64>, place: SubscriptionPlace) -> Self {
        Self { rights: expires.map(RightsEnd::new), _place: Some(place), ..self }
    }

    /// Returns the next event, or `None` after an error. After the daemon has stopped, these are the
    /// events that its cache still has, and then the error
    /// [`Code::SHUTTING_DOWN`](crate::wire::Code::SHUTTING_DOWN).
    pub async fn next(&mut self) -> Option<Result<Event, Refusal>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for LocalSubscription {
    type Item = Result<Event, Refusal>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.ended
            && let Some(rights) = &mut this.rights
            && rights.poll_end(context).is_ready()
        {
            this.ended = true;
            this.events.clear();
            return Poll::Ready(Some(Err(rights_ended())));
        }
        loop {
            if let Some(event) = this.events.pop_front() {
                return Poll::Ready(Some(Ok(event.into_event())));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let Self { subscription, deadline, events, .. } = this;
            let wanted = ReadOptions {
                accepted_since: if *deadline == 0 { 0 } else { now().saturating_sub(*deadline) },
                // The subscription waits for large messages that are arriving. Others may overtake
                // them.
                large: LargePayloads::WhenComplete,
                ..BATCH.into()
            };
            // A panic of the read ends the subscription.
            this.ended = true;
            let (mut messages, mut bytes) = (0, 0);
            let read = subscription.poll_read(context, wanted, &mut |item| {
                if let Item::Message(message) = &item {
                    messages += 1;
                    bytes += message.size() as u64;
                }
                events.extend(keep(&item));
            });
            if messages > 0 {
                subscription.broker().counters().deliver(Mode::Local, messages, bytes);
            }
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

/// A payload that was read under the lock. The chunks of a large one are joined without the lock.
#[derive(Debug)]
pub(super) enum OwnedPayload {
    Small(Bytes),
    Large(Arc<Rope>),
}

impl OwnedPayload {
    /// Returns the payload in contiguous bytes.
    pub(super) fn join(&self) -> Bytes {
        match self {
            Self::Small(payload) => payload.clone(),
            Self::Large(rope) => rope.join(),
        }
    }
}

/// Copies a message that is read under the lock. The payload is returned separately, and is empty in
/// the message.
pub(super) fn owned(message: &MessageRef<'_>) -> (Message, OwnedPayload) {
    let without = Message {
        topic: message.topic().clone(),
        epoch: message.epoch(),
        sequence: message.sequence(),
        count: message.count(),
        stamp: nonzero(message.stamp()),
        payload: Bytes::new(),
        digest: CachedDigest(Some(message.digest())),
    };
    let whole = message.whole().map(|rope| OwnedPayload::Large(rope.clone()));
    (without, whole.unwrap_or_else(|| OwnedPayload::Small(message.payload())))
}

// An item that was read under the lock.
#[derive(Debug)]
enum OwnedEvent {
    Gap(Gap),
    // A message with an empty payload, and its payload.
    Message(Message, OwnedPayload),
}

impl OwnedEvent {
    fn into_event(self) -> Event {
        match self {
            Self::Gap(gap) => Event::Gap(gap),
            Self::Message(message, payload) => {
                Event::Message(Message { payload: payload.join(), ..message })
            }
        }
    }
}

fn keep(item: &Item<'_>) -> Option<OwnedEvent> {
    match item {
        Item::Message(message) => {
            let (without, payload) = owned(message);
            Some(OwnedEvent::Message(without, payload))
        }
        // The program has these.
        Item::Gap { cause: GapCause::Had, .. } => None,
        Item::Gap { name, epoch, first, last, cause, .. } => Some(OwnedEvent::Gap(Gap {
            topic: (*name).clone(),
            epoch: *epoch,
            first: *first,
            last: *last,
            cause: *cause,
        })),
        // Announcements, and items that the read options exclude.
        _ => None,
    }
}
