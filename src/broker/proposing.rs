//! A log that others order: the broker hands it the engine's proposals, and lets callers wait for what it
//! decides.

use super::{Broker, Inner, Lock};
use crate::engine::{Publication, Receipt, UploadError, UploadId};
use crate::journal::proposals::ProposalQueue;
use crate::wire::{Digest, Refusal};
use std::sync::Arc;

impl Inner {
    // Hands over what is proposed. Returns whether there was anything.
    pub(super) fn propose(&mut self) -> bool {
        match &self.log {
            Some(log) if self.engine.has_proposals() => {
                log.push(&mut self.engine);
                true
            }
            _ => false,
        }
    }
}

impl<L: Lock> Broker<L> {
    /// Returns the proposals that are on their way, if a log decides.
    pub(crate) fn proposals(&self) -> Option<&Arc<ProposalQueue>> {
        self.log.as_ref()
    }

    /// Publishes, or proposes the publication and waits for the log's decision.
    ///
    /// # Errors
    ///
    /// As of [`Engine::publish`](crate::engine::Engine::publish). A log may also give no answer.
    pub(crate) async fn publish(
        &self,
        now: u64,
        publication: &Publication<'_>,
    ) -> Result<Receipt, Refusal> {
        let Some(log) = &self.log else {
            return self.with(|engine| engine.publish(now, publication));
        };
        let mut caller = log.caller();
        let reply_to = caller.reply_to();
        match self.with(|engine| engine.propose(now, publication, reply_to))? {
            Some(receipt) => Ok(receipt),
            None => caller.outcome().await,
        }
    }

    /// Ends an upload, or proposes that and waits for the log's decision.
    pub(crate) async fn end_upload(
        &self,
        now: u64,
        upload: UploadId,
        digest: Digest,
    ) -> Result<Receipt, UploadError> {
        let Some(log) = &self.log else {
            return self.with(|engine| engine.end(now, upload, digest));
        };
        let mut caller = log.caller();
        let reply_to = caller.reply_to();
        self.with(|engine| engine.propose_end(upload, digest, reply_to))?;
        caller.outcome().await.map_err(UploadError::Refused)
    }
}
