//! The start of a subscription, in a form that it can keep. It is made before the lock is taken.

use super::had::HadRanges;
use super::kept::end_of_run;
use crate::engine::cost::RESUMED_COST;
use crate::engine::runs::Runs;
use crate::engine::topic::Topic;
use crate::wire::{self, Position, TopicCursor};
use foldhash::fast::RandomState;
use std::collections::{HashMap, hash_map};
use std::hash::BuildHasher as _;

/// The start of a subscription: a [`wire::Start`] whose list of topics has become a table.
#[derive(Debug, Clone, Default)]
pub struct PreparedStart {
    pub(super) from: StartFrom,
    pub(super) had: Option<Box<HadRanges>>,
}

/// As [`wire::Start`].
#[derive(Debug, Clone, Default)]
pub(crate) enum StartFrom {
    #[default]
    New,
    Latest,
    All,
    Last(u64),
    Sequence(u64),
    Resume {
        since: Position,
        cursors: ResumedCursors,
    },
}

/// The cursors with which a client resumes, by the names of their topics. The names are in one
/// piece of memory, so that a long list is freed quickly under the lock.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResumedCursors {
    names: Box<str>,
    // By the hash of the name.
    cursors: HashMap<u64, Entry, RandomState>,
    hasher: RandomState,
}

/// Maximum number of topics in a list that is looked through for those that were not kept. A list of this
/// length takes 0.1 ms.
const UNRESOLVED: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Entry {
    // Range of the name in `names`.
    start: u32,
    end: u32,
    cursor: TopicCursor,
}

impl ResumedCursors {
    fn new(topics: &[wire::Resume<'_>]) -> Self {
        let cursor =
            |resume: &wire::Resume<'_>| TopicCursor { epoch: resume.epoch, next: resume.next };
        let mut all = Self::collect(topics.iter().map(|resume| (resume.topic, cursor(resume))));
        // A list may have one topic any number of times.
        all.cursors.shrink_to_fit();
        all
    }

    // If a topic is there twice, the first one counts.
    fn collect<'a>(topics: impl ExactSizeIterator<Item = (&'a str, TopicCursor)>) -> Self {
        let (mut names, mut all) = (String::new(), Self::default());
        all.cursors.reserve(topics.len());
        for (topic, cursor) in topics {
            if let hash_map::Entry::Vacant(vacant) = all.cursors.entry(all.hasher.hash_one(topic)) {
                let start = names.len() as u32;
                names.push_str(topic);
                vacant.insert(Entry { start, end: names.len() as u32, cursor });
            }
        }
        all.names = names.into();
        all
    }

    fn name(&self, entry: &Entry) -> Option<&str> {
        self.names.get(entry.start as usize..entry.end as usize)
    }

    fn get(&self, name: &str) -> Option<TopicCursor> {
        if self.cursors.is_empty() {
            return None;
        }
        let entry = self.cursors.get(&self.hasher.hash_one(name))?;
        // If two names have one hash, one of them is not in the table.
        (self.name(entry) == Some(name)).then_some(entry.cursor)
    }

    fn remove(&mut self, name: &str) {
        self.cursors.remove(&self.hasher.hash_one(name));
    }

    fn cost(&self) -> usize {
        self.names.len() + self.cursors.len() * RESUMED_COST
    }
}

impl From<&wire::Start<'_>> for PreparedStart {
    fn from(start: &wire::Start<'_>) -> Self {
        let mut shown = None;
        let from = match start {
            wire::Start::New => StartFrom::New,
            wire::Start::Latest => StartFrom::Latest,
            wire::Start::All => StartFrom::All,
            wire::Start::Last(n) => StartFrom::Last(*n),
            wire::Start::Sequence(sequence) => StartFrom::Sequence(*sequence),
            wire::Start::Resume { since, topics } => {
                StartFrom::Resume { since: *since, cursors: ResumedCursors::new(topics) }
            }
            wire::Start::ResumeWith { since, topics, had } => {
                shown = HadRanges::new(topics, had);
                StartFrom::Resume { since: *since, cursors: ResumedCursors::new(topics) }
            }
        };
        Self { from, had: shown }
    }
}

impl PreparedStart {
    /// Returns the bytes that it takes until the subscription has received what was cached, without
    /// the ranges of what the client has received.
    pub(crate) fn cost(&self) -> usize {
        self.from.cost()
    }
}

/// Messages that were shown, and not kept when their run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Returns whether a client has received a sequence, by its cursor and what it has shown beside that.
pub(super) fn has_received<'a>(
    name: &'a str,
    TopicCursor { epoch, next }: TopicCursor,
    had: Option<&'a HadRanges>,
) -> impl Fn(u64) -> bool + 'a {
    move |sequence| sequence < next || had.is_some_and(|had| had.has(name, epoch, sequence))
}

/// A topic, as the rules of starting see it.
#[derive(Clone, Copy)]
pub(super) struct TopicView<'a> {
    pub(super) name: &'a str,
    pub(super) epoch: u64,
    // In an earlier run with this epoch: the first sequence that a client has to receive anew, which has
    // received everything before the given one.
    pub(super) end: &'a dyn Fn(TopicCursor) -> Option<u64>,
    // The oldest sequence in the log.
    pub(super) first: u64,
    // The first sequence that was accepted after the subscription began.
    pub(super) edge: u64,
}

impl StartFrom {
    /// Returns the position in this run after which the subscription resumes.
    pub(super) fn since(&self, runs: &Runs) -> Option<u64> {
        match self {
            Self::Resume { since, .. } => runs.position(*since),
            _ => None,
        }
    }

    /// Returns the part of the start that remains when everything that was there has been received. It has the
    /// topics that an earlier run had and did not keep, and that may still come. None if there are none, or
    /// if the list is too long to look through.
    pub(super) fn unresolved(self, runs: &Runs, may_come: impl Fn(&str) -> bool) -> Option<Self> {
        let Self::Resume { since, cursors } = self else {
            return None;
        };
        if runs.past().is_empty() || cursors.cursors.len() > UNRESOLVED {
            return None;
        }
        let was_not_kept = |entry: &&Entry| runs.was_not_kept(entry.cursor.epoch);
        let named = |entry: &Entry| Some((cursors.name(entry)?, entry.cursor));
        let all = cursors.cursors.values().filter(was_not_kept).filter_map(named);
        let rest: Vec<_> = all.filter(|(name, _)| may_come(name)).collect();
        let cursors = ResumedCursors::collect(rest.into_iter());
        (!cursors.cursors.is_empty()).then_some(Self::Resume { since, cursors })
    }

    /// Returns the bytes that it takes.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Resume { cursors, .. } => cursors.cost(),
            _ => 0,
        }
    }

    /// The client was told of a topic. Returns whether there are others.
    pub(super) fn resolve(&mut self, name: &str) -> bool {
        let Self::Resume { cursors, .. } = self else {
            return false;
        };
        cursors.remove(name);
        !cursors.cursors.is_empty()
    }

    /// Returns what a client that resumes has to be told of a topic: the sequences of the epoch that
    /// it knows that were shown and not kept.
    pub(super) fn lost(&self, topic: &Topic, runs: &Runs, had: Option<&HadRanges>) -> Option<Lost> {
        let Self::Resume { cursors, .. } = self else {
            return None;
        };
        let name = topic.name();
        let cursor = cursors.get(name)?;
        let TopicCursor { epoch, next } = cursor;
        let highest = had.and_then(|had| had.highest(name, epoch)).unwrap_or(0);
        let received = next.saturating_sub(1).max(highest);
        let (first, last) = match end_of_run(topic, runs, epoch, has_received(name, cursor, had)) {
            _ if epoch == topic.epoch() => return None,
            // If the machine has stopped, there may have been messages after the last one that was
            // kept.
            Some((past, end)) => (end, if past.lossy { received.max(end) } else { received }),
            None if runs.was_not_kept(epoch) => (1, received),
            None => return None,
        };
        (last >= first).then_some(Lost { first, last })
    }

    /// Returns the first sequence that the subscription receives of a topic that existed when it
    /// began. `latest` returns the newest complete message, and `after` the first one after a
    /// position; they are called only if that is needed.
    pub(super) fn begin(
        &self,
        view: &TopicView<'_>,
        runs: &Runs,
        latest: impl FnOnce() -> u64,
        after: impl FnOnce(u64) -> u64,
    ) -> u64 {
        let TopicView { name, epoch, end, first, edge } = *view;
        let begin = match self {
            Self::New | Self::Last(0) => edge,
            Self::Latest => first.max(latest()),
            Self::All => first,
            Self::Last(n) => first.max(latest().saturating_sub(*n - 1)),
            Self::Sequence(sequence) => (*sequence).clamp(1, edge),
            Self::Resume { since, cursors } => match cursors.get(name) {
                Some(cursor) if cursor.epoch == epoch => cursor.next.clamp(1, edge),
                Some(cursor) => match end(cursor) {
                    Some(end) => cursor.next.clamp(1, edge).min(end),
                    None => 1,
                },
                None => match runs.position(*since) {
                    Some(position) => after(position),
                    None => 1,
                },
            },
        };
        // Messages accepted since then are always received.
        begin.min(edge)
    }
}
