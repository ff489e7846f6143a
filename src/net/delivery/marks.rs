//! How far a subscription with wildcards has come, told from time to time: so a client that comes
//! back names only the topics of which something came since.

use crate::broker::Broker;
use crate::engine::SubscriptionId;
use crate::wire::DaemonFrame;
use bytes::Bytes;

/// Messages and gaps after which it is told. A client then lists at most as many topics, and those
/// of the batches around: with the longest names 0.6 MiB, where 1 MiB is the most.
const EVERY: usize = 1024;

/// The marks of one subscription.
#[derive(Debug)]
pub(crate) struct Marks {
    // The last one, or where the subscription began; none where no marks are told.
    last: Option<u64>,
    since: usize,
}

impl Marks {
    /// `begins` is the position of `Subscribed`; none for a filter that is one topic.
    pub(crate) fn new(begins: Option<u64>) -> Self {
        Self { last: begins, since: 0 }
    }

    /// So many messages and gaps were handed out.
    pub(crate) fn count(&mut self, items: usize) {
        self.since += items;
    }

    /// Whether there are any.
    pub(crate) fn are_told(&self) -> bool {
        self.last.is_some()
    }

    /// Whether one is due.
    pub(crate) fn are_due(&self) -> bool {
        self.since >= EVERY && self.last.is_some()
    }

    /// The frame, if the subscription has come further than with the last. It stands after all that
    /// was read.
    pub(crate) fn take(&mut self, broker: &Broker, id: SubscriptionId) -> Option<Bytes> {
        let last = self.last.as_mut().filter(|_| self.since >= EVERY)?;
        let position = broker.with(|engine| engine.delivered_through(id));
        if position <= *last {
            return None;
        }
        (*last, self.since) = (position, 0);
        Some(DaemonFrame::Mark { position }.to_bytes())
    }
}
