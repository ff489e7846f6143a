//! Publications of faces without a session: accepted by the engine, or decided by the log.

use super::{Broker, Lock};
use crate::engine::{Publication, Receipt};
#[cfg(feature = "jetstream")]
use crate::journal::proposals::ProposalQueue;
use crate::wire::Refusal;
#[cfg(feature = "jetstream")]
use std::sync::Arc;

#[cfg(feature = "jetstream")]
impl<L: Lock> Broker<L> {
    /// Returns the proposals that are on their way, if a log decides.
    pub(crate) fn proposals(&self) -> Option<&Arc<ProposalQueue>> {
        self.log.queue()
    }
}

impl<L: Lock> Broker<L> {
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
