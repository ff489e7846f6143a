//! A subscription in the engine that ends when it is dropped.

use super::Core;
use crate::engine::{Item, SubscriptionId, Wanted};
use crate::wire::{GapCause, Refusal};
use std::sync::Arc;
use std::task::{Context, Poll};

/// Held by whoever reads the subscription and has no session that would end it.
#[derive(Debug)]
pub(crate) struct Subscription {
    core: Arc<Core>,
    id: SubscriptionId,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.core.tidy(|engine| engine.unsubscribe(self.id));
    }
}

impl Subscription {
    /// Takes over a subscription that the engine has begun.
    pub(crate) fn new(core: Arc<Core>, id: SubscriptionId) -> Self {
        Self { core, id }
    }

    /// Subscribes to exactly one large message, or returns why that message will not come.
    pub(crate) fn follow(core: &Arc<Core>, topic: u64, sequence: u64) -> Result<Self, GapCause> {
        let id = core.with(|engine| engine.follow(topic, sequence))?;
        Ok(Self::new(core.clone(), id))
    }

    pub(crate) fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Reads what there is: see [`Core::poll_read`].
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        wanted: impl Into<Wanted>,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Poll<Result<bool, Refusal>> {
        self.core.poll_read(self.id, context, wanted, sink)
    }

    /// Waits until there is something to read: see [`Core::poll_unread`].
    pub(crate) fn poll_unread(&self, context: &mut Context<'_>) -> Poll<()> {
        self.core.poll_unread(self.id, context)
    }
}
