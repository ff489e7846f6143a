//! How a run begins, and how those who resume find their places in it.

use super::Engine;
use super::ids::Slot;
use super::runs::{PastRun, Runs, TornMessages, epoch_in};
use super::torn::TornCollector;
use crate::wire::Position;
use std::sync::Arc;

impl Engine {
    /// Begins another run, because messages may have been shown that were not kept. Every topic gets
    /// another epoch, and keeps its sequences. `run` is as for [`new`](Self::new).
    ///
    /// Call it before there are subscriptions. It visits every topic. Returns the run that has ended.
    pub fn renew(&mut self, run: u64, lossy: bool) -> PastRun {
        self.renew_after(run, self.ending(lossy))
    }

    /// The same, with more about the run that ends.
    pub fn renew_after(&mut self, run: u64, past: PastRun) -> PastRun {
        for slot in 0..self.topics.len() {
            self.change(slot, |topic| topic.end_run(past.run));
        }
        self.runs.renew(run, past);
        self.set_epochs();
        past
    }

    /// Returns the run that [`renew`](Self::renew) would end.
    pub fn ending(&self, lossy: bool) -> PastRun {
        let through = self.missing_after.unwrap_or(self.position);
        let (run, next_topic) = (self.runs.current(), self.next_topic);
        PastRun { run, through, next_topic, lossy, state: None }
    }

    /// Takes the name of a run that has begun with the journal. Call it while nothing was restored.
    pub fn adopt_run(&mut self, run: u64) {
        self.runs = Runs::new(run);
    }

    /// Ends restoring the runs. Missing messages concern only those before. It visits every message
    /// that came after one that is missing.
    pub fn go_on(&mut self) {
        self.missing_after = None;
        let mut torn = TornCollector::default();
        for topic in self.topics.iter_mut().flatten() {
            topic.past_mut().go_on();
            torn.add(topic, &self.runs);
        }
        self.runs.set_torn(torn.collected());
    }

    /// Returns the messages of an earlier run that may have been shown complete, and of which only a
    /// part was kept. Messages that left the cache before the last restart are not among them.
    pub fn torn_in(&self, run: u64) -> Option<TornMessages> {
        self.runs.torn_in(run).cloned()
    }

    /// Notes that messages of a topic are missing, from a sequence on.
    pub(super) fn miss(&mut self, slot: Slot, sequence: u64) {
        self.missing_after.get_or_insert(self.position);
        if let Some(topic) = self.topics.get_mut(slot).and_then(Option::as_deref_mut) {
            topic.past_mut().miss(sequence);
        }
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
        let was_in = |run| topic.past().end_in(run).is_some();
        let was_there = run == self.runs.current() || self.runs.known_as(run).is_some_and(was_in);
        was_there.then(|| (topic.name().clone(), epoch_in(run, id)))
    }

    /// Returns the name of the journal that this engine is restored from: it follows from the secret,
    /// which stays the same in all runs.
    pub fn journal(&self) -> u64 {
        Self::journal_of(&self.secret)
    }

    /// Returns the secret, which a journal keeps beside its snapshots.
    pub fn secret(&self) -> [u8; 32] {
        self.secret
    }

    /// Returns the name of the journal of an engine with this secret.
    pub fn journal_of(secret: &[u8; 32]) -> u64 {
        let digest = crate::wire::Digest::of(secret);
        digest.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
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
