//! How a run begins, and how those who resume find their places in it.

use super::Engine;
use super::runs::{PastRun, Runs, epoch_in};
use crate::wire::Position;
use std::sync::Arc;

impl Engine {
    /// Begins another run, because messages may have been shown that were not kept. Every topic gets
    /// another epoch, and keeps its sequences. `run` is as for [`new`](Self::new).
    ///
    /// Call it before there are subscriptions. It visits every topic.
    pub fn renew(&mut self, run: u64, lossy: bool) {
        self.runs.renew(run, self.position, lossy);
        self.set_epochs();
    }

    /// Returns the position in the order of this run up to which a client has received everything
    /// that was kept, and how many positions after it were not kept. None if its run is not known.
    pub fn resumed_from(&self, since: Position) -> Option<(u64, u64)> {
        let position = self.runs.position(since)?.min(self.position);
        let is_past = since.run != self.runs.current();
        Some((position, if is_past { since.position.saturating_sub(position) } else { 0 }))
    }

    /// Returns the name of a topic, and the epoch that it had in a run. None if it was not there.
    pub fn topic_in_run(&self, run: u64, id: u64) -> Option<(Arc<str>, u64)> {
        let topic = self.topic(*self.by_id.get(&id)?)?;
        let was_there = run == self.runs.current() || {
            let mut past = self.runs.past().iter();
            past.any(|past| past.run == run && topic.created_at() <= past.through)
        };
        was_there.then(|| (topic.name().clone(), epoch_in(run, id)))
    }

    /// Returns the earlier runs, oldest first.
    pub fn past_runs(&self) -> &[PastRun] {
        self.runs.past()
    }

    /// Continues the runs of an earlier engine.
    pub(super) fn continue_runs(&mut self, run: u64, past: &[PastRun]) {
        self.runs = Runs::new(run);
        self.runs.remember(past.iter().copied());
        self.set_epochs();
    }

    fn set_epochs(&mut self) {
        for topic in self.topics.iter_mut().flatten() {
            topic.set_epoch(self.runs.epoch(topic.id()));
        }
    }
}
