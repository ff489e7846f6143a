//! Where a log that others order decides about publications: the broker hands the engine's proposals
//! over. Without the feature `jetstream` there is no such log.

use crate::engine::Engine;
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

    /// Returns whether publications need not wait for room.
    pub(super) fn has_room(&self) -> bool {
        #[cfg(feature = "jetstream")]
        if let Some(queue) = &self.queue {
            return queue.has_room();
        }
        true
    }

    /// Waits until [`has_room`](Self::has_room).
    pub(super) async fn room(&self) {
        #[cfg(feature = "jetstream")]
        if let Some(queue) = &self.queue {
            queue.room().await;
        }
    }

    /// Returns the proposals that are on their way, if a log decides.
    #[cfg(feature = "jetstream")]
    pub(super) fn queue(&self) -> Option<&Arc<ProposalQueue>> {
        self.queue.as_ref()
    }
}
