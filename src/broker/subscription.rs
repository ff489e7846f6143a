//! A subscription in the engine that ends when it is dropped.

use super::Broker;
use crate::engine::{Item, ReadOptions, SubscriptionId};
use crate::wire::{GapCause, Refusal};
use std::sync::Arc;
use std::task::{Context, Poll};

/// Held by a reader without a session, which would otherwise end the subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    broker: Arc<Broker>,
    id: SubscriptionId,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.broker.tidy(|engine| engine.unsubscribe(self.id));
    }
}

impl Subscription {
    /// Takes over a subscription that the engine has begun.
    pub(crate) fn new(broker: Arc<Broker>, id: SubscriptionId) -> Self {
        Self { broker, id }
    }

    /// Subscribes to exactly one large message, or returns why that message is lost.
    pub(crate) fn follow(
        broker: &Arc<Broker>,
        topic: u64,
        sequence: u64,
    ) -> Result<Self, GapCause> {
        let id = broker.with(|engine| engine.follow(topic, sequence))?;
        Ok(Self::new(broker.clone(), id))
    }

    /// Returns why a message that it read is not in the cache any more.
    pub(crate) fn why_missing(&self, topic: u64, sequence: u64) -> GapCause {
        self.broker.with(|engine| engine.why_missing(topic, sequence))
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(crate) fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Reads the subscription: see [`Broker::poll_read`].
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        options: impl Into<ReadOptions>,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Poll<Result<bool, Refusal>> {
        self.broker.poll_read(self.id, context, options, sink)
    }

    /// Waits until there is something to read: see [`Broker::poll_unread`].
    pub(crate) fn poll_unread(&self, context: &mut Context<'_>) -> Poll<()> {
        self.broker.poll_unread(self.id, context)
    }
}
