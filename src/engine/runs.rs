//! The runs of one engine: the one that goes on now, and those before it that its journal has kept.
//!
//! A run ends when the daemon ends without having kept everything that it had shown to somebody.
//! The next run has other epochs, so that no epoch and sequence ever stand for two payloads. Every
//! epoch follows from a run and a topic's id. So a client that resumes with an epoch of an earlier
//! run is recognised, and nothing has to be kept for each topic.

use crate::wire::{Digest, Position};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Maximum number of earlier runs that are remembered, 48 bytes each. A client that was away for longer
/// receives everything that is cached. A daemon that is killed once a second takes a minute to end so
/// many runs, and a client finds its way back in less.
const REMEMBERED: usize = 64;

/// A run that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredRun", into = "StoredRun")]
pub struct PastRun {
    /// Its name.
    pub run: u64,
    /// The position of its last message that was kept.
    pub through: u64,
    /// The id that its next topic would have had. Topics with higher ids were not kept.
    pub next_topic: u64,
    /// Whether publications that were acknowledged may be missing, because the machine stopped.
    pub lossy: bool,
    /// A number that its journal had when it ended, and that no other copy of the journal has.
    pub state: Option<u64>,
}

/// The same as it is stored. Early versions stored `lossy` as a boolean, and no state. The first two kinds
/// of an end have the same bytes.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct StoredRun {
    run: u64,
    through: u64,
    next_topic: u64,
    end: StoredEnd,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum StoredEnd {
    Kept,
    Lossy,
    KeptIn { state: u64 },
    LossyIn { state: u64 },
}

impl From<PastRun> for StoredRun {
    fn from(past: PastRun) -> Self {
        let PastRun { run, through, next_topic, lossy, state } = past;
        let end = match (lossy, state) {
            (false, None) => StoredEnd::Kept,
            (true, None) => StoredEnd::Lossy,
            (false, Some(state)) => StoredEnd::KeptIn { state },
            (true, Some(state)) => StoredEnd::LossyIn { state },
        };
        Self { run, through, next_topic, end }
    }
}

impl From<StoredRun> for PastRun {
    fn from(stored: StoredRun) -> Self {
        let StoredRun { run, through, next_topic, end } = stored;
        let (lossy, state) = match end {
            StoredEnd::Kept => (false, None),
            StoredEnd::Lossy => (true, None),
            StoredEnd::KeptIn { state } => (false, Some(state)),
            StoredEnd::LossyIn { state } => (true, Some(state)),
        };
        Self { run, through, next_topic, lossy, state }
    }
}

impl PastRun {
    /// Returns the name of the run after this one, if the disk is full and cannot keep its name.
    ///
    /// Nothing is published in that run before its name is kept, so that it has what was restored,
    /// and nothing else. If it ends before, this name is known all the same: clients find their
    /// places in the next run, and receive nothing twice. Another copy of the journal names another run.
    pub fn unkept(&self) -> u64 {
        let Self { run, through, next_topic, lossy, state } = *self;
        let from = [run, through, next_topic, lossy.into(), state.unwrap_or(0)];
        let from = from.map(u64::to_le_bytes);
        let digest = Digest::of(from.as_flattened());
        let first = digest.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        // As many bits as a random name has.
        (first >> 12).max(1)
    }
}

/// A message of an earlier run that may have been shown complete, and of which only a part was kept.
/// Others that were accepted after it were kept.
#[derive(Debug, Clone)]
pub struct TornMessage {
    /// Name and id of the topic.
    pub topic: (Arc<str>, u64),
    /// Its sequence.
    pub sequence: u64,
    /// Its position in the order of the run.
    pub position: u64,
}

/// The torn messages of one run.
#[derive(Debug, Clone)]
pub struct TornMessages {
    /// They are not sorted.
    pub known: Arc<[TornMessage]>,
    /// How many more there are.
    pub more: u64,
}

/// Maximum number of topics that one run has created and not kept, 2^24. Epochs beyond it are not
/// taken for that run's.
const NOT_KEPT: u64 = 1 << 24;

#[derive(Debug, Clone)]
pub(crate) struct Runs {
    current: u64,
    // Newest last.
    past: Vec<PastRun>,
    // For each of these, the name of the run after it that may not have been kept.
    unkept: Vec<u64>,
    // By the name of the run.
    torn: Vec<(u64, TornMessages)>,
}

impl Runs {
    pub(super) fn new(run: u64) -> Self {
        Self { current: run, past: Vec::new(), unkept: Vec::new(), torn: Vec::new() }
    }

    /// Replaces the torn messages of all runs, by the names of the runs.
    pub(super) fn set_torn(&mut self, torn: Vec<(u64, TornMessages)>) {
        self.torn = torn;
    }

    /// Returns the torn messages of an earlier run. None if it has none. A run after it that was not kept
    /// has none: its clients were told of them when it began.
    pub(super) fn torn_in(&self, run: u64) -> Option<&TornMessages> {
        self.torn.iter().find(|(of, _)| *of == run).map(|(_, torn)| torn)
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

    pub(super) fn renew(&mut self, run: u64, past: PastRun) {
        self.remember([past]);
        self.current = run;
    }

    pub(super) fn remember(&mut self, past: impl IntoIterator<Item = PastRun>) {
        self.past.extend(past);
        let beyond = self.past.len().saturating_sub(REMEMBERED);
        self.past.drain(..beyond);
        self.unkept = self.past.iter().map(PastRun::unkept).collect();
    }

    // Returns the earlier run with a name, or the one after which a run with this name was not kept:
    // it has had the same messages.
    fn find(&self, is_it: impl Fn(u64) -> bool) -> Option<&PastRun> {
        let unkept = self.past.iter().zip(&self.unkept);
        let unkept = unkept.filter(|(_, name)| is_it(**name)).map(|(past, _)| past);
        self.past.iter().filter(|past| is_it(past.run)).chain(unkept).next()
    }

    /// Returns the name by which an earlier run is known.
    pub(crate) fn known_as(&self, run: u64) -> Option<u64> {
        Some(self.find(|name| name == run)?.run)
    }

    /// Returns the position in the order of this run up to which a client has received everything
    /// that was kept. None if its run is not known.
    pub(crate) fn position(&self, since: Position) -> Option<u64> {
        if since.run == self.current {
            return Some(since.position);
        }
        let past = self.find(|name| name == since.run)?;
        Some(since.position.min(past.through))
    }

    /// Returns the earlier run in which a topic had an epoch, and the topic's first sequence that
    /// was not kept then.
    pub(crate) fn of_epoch(&self, topic: &TopicPast, epoch: u64) -> Option<(&PastRun, u64)> {
        let past = self.find(|name| epoch_in(name, topic.id) == epoch)?;
        Some((past, topic.end_in(past.run)?))
    }

    /// Returns whether an earlier run had a topic with this epoch that was not kept at all.
    pub(crate) fn was_not_kept(&self, epoch: u64) -> bool {
        let not_kept = |past: &PastRun| {
            let first = epoch_in(past.run, past.next_topic.max(1));
            epoch.wrapping_sub(first) < NOT_KEPT
        };
        self.past.iter().any(not_kept)
    }
}

/// A topic in the earlier runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopicPast {
    pub(crate) id: u64,
    // By the name of the run, oldest first: the first sequence that was not kept. Only runs in which
    // it was there.
    ends: Vec<(u64, u64)>,
    // While an engine is restored: the first sequence that is missing, also for runs that had it;
    // 0 is none.
    missing_from: u64,
}

impl TopicPast {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, ..Self::default() }
    }

    /// Returns the first sequence that was not kept in a run, if the topic was there.
    pub(crate) fn end_in(&self, run: u64) -> Option<u64> {
        self.ends.iter().rev().find(|(name, _)| *name == run).map(|(_, end)| *end)
    }

    /// Notes that a sequence is missing.
    pub(crate) fn miss(&mut self, sequence: u64) {
        if self.missing_from == 0 || sequence < self.missing_from {
            self.missing_from = sequence;
        }
    }

    /// Forgets what is missing: a run begins or goes on.
    pub(crate) fn go_on(&mut self) {
        self.missing_from = 0;
    }

    /// Notes that a run has ended. `next` is the sequence after the last one that was kept.
    pub(crate) fn end(&mut self, run: u64, next: u64) {
        let end = if self.missing_from > 0 { next.min(self.missing_from) } else { next };
        self.ends.drain(..(self.ends.len() + 1).saturating_sub(REMEMBERED));
        self.ends.push((run, end));
    }

    /// Returns the ends in all runs that are remembered.
    pub(crate) fn ends(&self) -> &[(u64, u64)] {
        &self.ends
    }

    pub(crate) fn put_ends(&mut self, ends: &[(u64, u64)]) {
        self.ends = ends[ends.len().saturating_sub(REMEMBERED)..].to_vec();
    }

    /// Returns the bytes that are charged for it.
    pub(crate) fn cost(&self) -> usize {
        self.ends.capacity() * size_of::<(u64, u64)>()
    }
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
        let (mut runs, mut topic) = (Runs::new(1_000), TopicPast::new(3));
        let (first, since) = (runs.epoch(topic.id), Position { run: 1_000, position: 9 });
        let renew = |runs: &mut Runs, topic: &mut TopicPast, run, through| {
            let past =
                PastRun { run: runs.current(), through, next_topic: 4, lossy: false, state: None };
            topic.end(past.run, through);
            runs.renew(run, past);
        };
        for n in 1..=REMEMBERED as u64 {
            renew(&mut runs, &mut topic, 1_000 + 10 * n, 4 + n);
        }
        let found = runs.of_epoch(&topic, first).map(|(past, end)| (past.through, end));
        assert_eq!(found, Some((5, 5)));
        assert_eq!(runs.position(since), Some(5));
        renew(&mut runs, &mut topic, 5, 100);
        assert!(runs.of_epoch(&topic, first).is_none());
        assert_eq!((runs.position(since), runs.past().len()), (None, REMEMBERED));
    }
}
