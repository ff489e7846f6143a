//! Where a subscription begins, in a form that it can keep: made without the lock.

use crate::engine::topic::Topic;
use crate::wire::{self, Position};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher as _;

/// Where a subscription begins: a [`wire::Start`] whose list of topics has become a table.
#[derive(Debug, Clone, Default)]
pub struct Beginning(pub(crate) Kind);

#[derive(Debug, Clone, Default)]
pub(crate) enum Kind {
    #[default]
    New,
    Latest,
    All,
    Last(u64),
    Sequence(u64),
    Resume {
        since: Position,
        shown: Shown,
    },
}

/// Topics that a client has shown: epoch and next sequence, by name. The names stand in one piece
/// of memory, so that to drop a long list takes no time under the lock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    names: Box<str>,
    // By the hash of the name.
    topics: HashMap<u64, Entry, RandomState>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    // Of the name, in `names`.
    start: u32,
    end: u32,
    epoch: u64,
    next: u64,
}

/// What a shown topic costs beside its name, bytes.
const SHOWN_COST: usize = 96;

impl Shown {
    fn new(topics: &[wire::Resume<'_>]) -> Self {
        let mut names = String::with_capacity(topics.iter().map(|shown| shown.topic.len()).sum());
        let mut shown = Self::default();
        shown.topics.reserve(topics.len());
        // Of a topic shown twice, the first counts.
        for wire::Resume { topic, epoch, next } in topics.iter().rev() {
            let start = names.len() as u32;
            names.push_str(topic);
            let entry = Entry { start, end: names.len() as u32, epoch: *epoch, next: *next };
            shown.topics.insert(shown.hasher.hash_one(topic), entry);
        }
        shown.names = names.into();
        shown
    }

    fn get(&self, name: &str) -> Option<(u64, u64)> {
        if self.topics.is_empty() {
            return None;
        }
        let Entry { start, end, epoch, next } = self.topics.get(&self.hasher.hash_one(name))?;
        // Two names with one hash: then one is not in the list.
        let same = self.names.get(*start as usize..*end as usize) == Some(name);
        same.then_some((*epoch, *next))
    }

    fn cost(&self) -> usize {
        self.names.len() + self.topics.len() * SHOWN_COST
    }
}

impl From<&wire::Start<'_>> for Beginning {
    fn from(start: &wire::Start<'_>) -> Self {
        Self(match start {
            wire::Start::New => Kind::New,
            wire::Start::Latest => Kind::Latest,
            wire::Start::All => Kind::All,
            wire::Start::Last(n) => Kind::Last(*n),
            wire::Start::Sequence(sequence) => Kind::Sequence(*sequence),
            wire::Start::Resume { since, topics } => {
                Kind::Resume { since: *since, shown: Shown::new(topics) }
            }
        })
    }
}

impl Beginning {
    /// Bytes that it takes while the subscription has not come to what is new.
    pub(crate) fn cost(&self) -> usize {
        match &self.0 {
            Kind::Resume { shown, .. } => shown.cost(),
            _ => 0,
        }
    }
}

/// What the rules of beginning look at in a topic.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    pub(crate) name: &'a str,
    pub(crate) epoch: u64,
    // The oldest in the log; and the first of those accepted since the subscription began.
    pub(crate) first: u64,
    pub(crate) edge: u64,
}

impl Kind {
    /// The position in this run after which it goes on.
    pub(crate) fn since(&self, run: u64) -> Option<u64> {
        match self {
            Self::Resume { since, .. } if since.run == run => Some(since.position),
            _ => None,
        }
    }

    /// The first sequence that a subscription wants of a topic that was there when it began;
    /// `latest` and `since` look closer at it where that is needed.
    pub(crate) fn begin(
        &self,
        view: &View<'_>,
        run: u64,
        latest: impl FnOnce() -> u64,
        unheard: impl FnOnce(u64) -> u64,
    ) -> u64 {
        let View { name, epoch, first, edge } = *view;
        let begin = match self {
            Self::New | Self::Last(0) => edge,
            Self::Latest => first.max(latest()),
            Self::All => first,
            Self::Last(n) => first.max(latest().saturating_sub(*n - 1)),
            Self::Sequence(sequence) => (*sequence).clamp(1, edge),
            Self::Resume { since, shown } => match shown.get(name) {
                Some((shown, next)) if shown == epoch => next.clamp(1, edge),
                Some(_) => 1,
                None if since.run != run => 1,
                None => unheard(since.position),
            },
        };
        // What was accepted since is wanted in any case.
        begin.min(edge)
    }
}

/// Where in a topic what was accepted after a position begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// With this sequence; the message before it has this position, 0 if there is none.
    Exactly(u64, u64),
    /// With this one, or a later one: what has left the log cannot be told apart any more.
    AtLeast(u64),
}

impl Topic {
    /// The first message after a position.
    pub(crate) fn after(&self, position: u64) -> After {
        let log = &self.log;
        if self.born > position {
            return After::Exactly(1, 0);
        }
        if position < log.gone() {
            return match self.marks.find(position) {
                Some((sequence, before)) => After::Exactly(sequence, before),
                // They are no more than the positions they had.
                None => After::AtLeast(log.first().saturating_sub(log.gone() - position).max(1)),
            };
        }
        let at = |sequence: u64| log.get(sequence).map_or(0, |entry| entry.position);
        // From the end, in growing steps: mostly it is the last or one of the last.
        let (first, next) = (log.first(), log.next());
        let (mut low, mut high, mut step) = (next, next, 1);
        while low > first && at(low - 1) > position {
            high = low - 1;
            low = low.saturating_sub(step).max(first);
            step *= 2;
        }
        // Whatever is below `low` is not after it, and `high` is, or is the end.
        while low < high {
            let middle = low + (high - low) / 2;
            if at(middle) <= position {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let before = if low > first { at(low - 1) } else { log.gone() };
        After::Exactly(low, before)
    }
}
