//! The runs of one engine: the one that goes on now, and those before it that its journal has kept.
//!
//! A run ends when the daemon ends without having kept everything that it had shown to somebody.
//! The next run has other epochs, so that no epoch and sequence ever stand for two payloads. Every
//! epoch follows from a run and a topic's id. So a client that resumes with an epoch of an earlier
//! run is recognised, and nothing has to be kept for each topic.

use crate::wire::Position;
use serde::{Deserialize, Serialize};

/// Maximum number of earlier runs that are remembered, 24 bytes each. A client that was away for longer
/// receives everything that is cached. A daemon that is killed once a second takes a minute to end so
/// many runs, and a client finds its way back in less.
const REMEMBERED: usize = 64;

/// A run that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRun {
    /// Its name.
    pub run: u64,
    /// The position of its last message that was kept.
    pub through: u64,
    /// Whether publications that were acknowledged may be missing, because the machine stopped.
    pub lossy: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Runs {
    current: u64,
    // Newest last.
    past: Vec<PastRun>,
}

impl Runs {
    pub(super) fn new(run: u64) -> Self {
        Self { current: run, past: Vec::new() }
    }

    pub(crate) fn current(&self) -> u64 {
        self.current
    }

    pub(super) fn past(&self) -> &[PastRun] {
        &self.past
    }

    /// Returns the epoch of the topic with this id. Epochs are only compared between runs of one
    /// topic. In two random runs, one topic has the same epoch with a chance of 2^-52.
    pub(super) fn epoch(&self, id: u64) -> u64 {
        epoch_in(self.current, id)
    }

    pub(super) fn renew(&mut self, run: u64, through: u64, lossy: bool) {
        let past = PastRun { run: self.current, through, lossy };
        self.remember([past]);
        self.current = run;
    }

    pub(super) fn remember(&mut self, past: impl IntoIterator<Item = PastRun>) {
        self.past.extend(past);
        let beyond = self.past.len().saturating_sub(REMEMBERED);
        self.past.drain(..beyond);
    }

    /// Returns the position in the order of this run up to which a client has received everything
    /// that was kept. None if its run is not known.
    pub(crate) fn position(&self, since: Position) -> Option<u64> {
        if since.run == self.current {
            return Some(since.position);
        }
        let past = self.past.iter().find(|past| past.run == since.run)?;
        Some(since.position.min(past.through))
    }

    /// Returns the earlier run in which a topic had an epoch.
    pub(crate) fn of_epoch(&self, topic: &TopicAge, before: u64) -> Option<&PastRun> {
        let had = |past: &&PastRun| {
            epoch_in(past.run, topic.id) == before && topic.created_at <= past.through
        };
        self.past.iter().find(had)
    }
}

/// Which topic it is, and since when it has been there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopicAge {
    pub(crate) id: u64,
    // The engine's position when it was created.
    pub(crate) created_at: u64,
}

pub(super) fn epoch_in(run: u64, id: u64) -> u64 {
    run.wrapping_add(id - 1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A topic of the first run is found after this many further runs, and after one more it is not.
    #[test]
    fn as_many_earlier_runs_are_remembered_as_are_allowed() {
        let (mut runs, topic) = (Runs::new(1_000), TopicAge { id: 3, created_at: 1 });
        let (first, since) = (runs.epoch(topic.id), Position { run: 1_000, position: 9 });
        for n in 1..=REMEMBERED as u64 {
            runs.renew(1_000 + 10 * n, 4 + n, false);
        }
        assert_eq!(runs.of_epoch(&topic, first).map(|past| past.through), Some(5));
        assert_eq!(runs.position(since), Some(5));
        runs.renew(5, 100, false);
        assert_eq!(runs.of_epoch(&topic, first), None);
        assert_eq!((runs.position(since), runs.past().len()), (None, REMEMBERED));
    }
}
