//! How far a subscription with wildcards has been delivered, sent to the client from time to time.
//! A client that reconnects then lists only the topics that had messages since the last mark.

use crate::broker::Broker;
use crate::engine::SubscriptionId;
use crate::journal::queue::JournalQueue;
use crate::wire::DaemonFrame;
use bytes::Bytes;

/// Messages and gaps after which a mark is sent. A client that resumes lists at most as many
/// topics, and those of the batches around. With the longest names that is 0.6 MiB, and 1 MiB is
/// the limit.
const EVERY: usize = 1024;

/// The marks of one subscription.
#[derive(Debug)]
pub(crate) struct Marks {
    // The position of the last mark, or with which the subscription began. None without marks.
    last: Option<u64>,
    // Messages and gaps handed out since the last mark.
    items: usize,
}

impl Marks {
    /// `begins` is the position of `Subscribed`. A filter that is one topic has none, and gets no
    /// marks.
    pub(crate) fn new(begins: Option<u64>) -> Self {
        Self { last: begins, items: 0 }
    }

    /// Adds messages and gaps that were handed out.
    pub(crate) fn count(&mut self, items: usize) {
        self.items += items;
    }

    /// Whether the subscription gets marks.
    pub(crate) fn are_sent(&self) -> bool {
        self.last.is_some()
    }

    /// Whether a mark is due.
    pub(crate) fn is_due(&self) -> bool {
        self.items >= EVERY && self.last.is_some()
    }

    /// The frame `Mark`, if one is due and the position has advanced since the last. The caller
    /// sends it after everything that was read.
    pub(crate) fn take(&mut self, broker: &Broker, id: SubscriptionId) -> Option<Bytes> {
        let last = self.last.as_mut().filter(|_| self.items >= EVERY)?;
        let position = broker.with(|engine| engine.delivered_through(id));
        // A client that resumes after a crash lists the topics of messages that were not kept.
        let kept = broker.journal().map_or(u64::MAX, JournalQueue::kept_position);
        let position = position.min(kept);
        if position <= *last {
            return None;
        }
        (*last, self.items) = (position, 0);
        Some(DaemonFrame::Mark { position }.to_bytes())
    }
}
