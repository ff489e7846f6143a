//! The newest message of a topic: aborted messages may be above it, and arriving ones.

use super::{ABORTED, Topic};

impl Topic {
    // Returns the sequence of the newest message that is complete or arrives. All messages above it
    // were aborted.
    pub(super) fn newest(&self) -> u64 {
        self.latest.max(self.arriving.last().copied().unwrap_or(0))
    }

    /// Returns the sequence of the newest message that is complete, if it is in the log.
    pub(crate) fn latest(&self) -> Option<u64> {
        Some(self.latest).filter(|latest| *latest >= self.log.first())
    }

    /// Returns the sequence at which a subscription from `latest` begins: that of the newest complete
    /// message, else of the newest that arrives, else of the next one.
    pub(crate) fn begin_latest(&self) -> u64 {
        let arriving = self.arriving.last().copied();
        self.latest().or(arriving).unwrap_or(self.log.next())
    }

    /// As [`begin_latest`](Self::begin_latest), among the messages below a sequence.
    pub(crate) fn begin_latest_before(&self, edge: u64) -> u64 {
        let latest = self.begin_latest();
        if latest < edge || edge >= self.log.next() {
            return latest;
        }
        let is_complete =
            |at: &u64| self.log.get(*at).is_some_and(|entry| entry.body.is_complete());
        let mut below = (self.log.first()..edge).rev();
        let found = below.by_ref().take(ABORTED as usize).find(is_complete);
        found.unwrap_or(match below.next() {
            // It may be further back than is searched. All messages are better than none.
            Some(_) => self.log.first(),
            // No message is complete: the newest that arrives, also below aborted ones.
            None => {
                let arriving = self.arriving.range(..edge).next_back().copied();
                arriving.unwrap_or(edge.saturating_sub(1).max(1))
            }
        })
    }

    /// Returns the newest message that was complete at an earlier moment: no message from `edge` on
    /// had begun, and so many uploads were complete. None if it has left the log, or is far back.
    pub(crate) fn latest_of(&self, edge: u64, uploads: u64) -> Option<u64> {
        let was_complete =
            |at: &u64| self.log.get(*at).is_some_and(|entry| entry.body.was_complete(uploads));
        let latest = self.latest().filter(|latest| *latest < edge).filter(was_complete);
        latest.or_else(|| (self.log.first()..edge).rev().take(ABORTED as usize).find(was_complete))
    }
}
