//! Where a log that others order decides about publications: the broker hands the engine's proposals
//! over. Without the feature `jetstream` there is no such log.

use crate::engine::{Engine, Publication, Receipt};
#[cfg(feature = "jetstream")]
use crate::journal::proposals::ProposalQueue;
use crate::wire::Refusal;
#[cfg(feature = "jetstream")]
use std::sync::Arc;

/// The log that decides, if there is one.
#[derive(Clone, Default)]
pub(crate) struct LogSeam {
    #[cfg(feature = "jetstream")]
    queue: Option<Arc<ProposalQueue>>,
}

#[cfg(feature = "jetstream")]
impl LogSeam {
    pub(crate) fn new(queue: Arc<ProposalQueue>) -> Self {
        Self { queue: Some(queue) }
    }
}

impl LogSeam {
    /// Takes the engine's proposals. Returns whether there were any.
    pub(super) fn take(&self, engine: &mut Engine) -> bool {
        #[cfg(feature = "jetstream")]
        if let Some(queue) = self.queue.as_ref().filter(|_| engine.has_proposals()) {
            queue.push(engine);
            return true;
        }
        let _ = engine;
        false
    }

    /// Sends what was taken.
    pub(super) fn notify(&self) {
        #[cfg(feature = "jetstream")]
        if let Some(queue) = &self.queue {
            queue.notify();
        }
    }

    /// Returns the reason for which publications are to be refused.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        #[cfg(feature = "jetstream")]
        if let Some(queue) = self.queue.as_ref().filter(|queue| queue.refuses()) {
            return queue.refusal();
        }
        None
    }

    /// Waits until a proposal has room.
    pub(super) async fn room(&self) {
        #[cfg(feature = "jetstream")]
        if let Some(queue) = self.queue.as_ref().filter(|queue| !queue.has_room()) {
            let _ = tokio::time::timeout(super::recording::SLOW, queue.room()).await;
        }
    }
}

#[cfg(feature = "jetstream")]
impl<L: super::Lock> super::Broker<L> {
    /// Returns the proposals that are on their way, if a log decides.
    pub(crate) fn proposals(&self) -> Option<&Arc<ProposalQueue>> {
        self.log.queue.as_ref()
    }
}

impl<L: super::Lock> super::Broker<L> {
    /// Returns why the log takes no publications.
    pub(crate) fn log_refusal(&self) -> Option<Refusal> {
        self.log.refusal()
    }

    /// Publishes, or proposes the publication and waits for the log's decision.
    ///
    /// # Errors
    ///
    /// As of [`Engine::publish`]. A log may also give no answer.
    pub(crate) async fn publish(
        &self,
        now: u64,
        publication: &Publication<'_>,
    ) -> Result<Receipt, Refusal> {
        #[cfg(feature = "jetstream")]
        if let Some(queue) = self.proposals() {
            let mut caller = queue.caller();
            let reply_to = caller.reply_to();
            let known = self.with(|engine| engine.propose(now, publication, reply_to))?;
            return match known {
                Some(receipt) => Ok(receipt),
                None => caller.outcome().await,
            };
        }
        self.with(|engine| engine.publish(now, publication))
    }
}
