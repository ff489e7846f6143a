//! Where a subscription begins, in a form that it can keep: made without the lock.

use super::topic::Topic;
use crate::wire::{self, Position};
use foldhash::fast::RandomState;
use std::hash::BuildHasher as _;

/// Where a subscription begins: a [`wire::Start`] whose list of topics has become a table.
#[derive(Debug, Clone, Default)]
pub struct Beginning(pub(super) Kind);

#[derive(Debug, Clone, Default)]
pub(super) enum Kind {
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

/// Topics that a client has shown: epoch and next sequence, by name. They stand in three pieces of
/// memory, however many they are, so that to give them up takes no time.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    names: String,
    // Where the name begins, and how long it is.
    topics: Vec<(u32, u32, u64, u64)>,
    // By hash: index of a topic, or none; at least half of them are none.
    places: Vec<u32>,
    hasher: RandomState,
}

const NONE: u32 = u32::MAX;

/// What a shown topic costs beside its name, bytes: 24, and up to four places of 4.
const SHOWN_COST: usize = 40;

impl Shown {
    fn new(topics: &[wire::Resume<'_>]) -> Self {
        let size = topics.iter().map(|shown| shown.topic.len()).sum();
        let mut all = Self {
            names: String::with_capacity(size),
            topics: Vec::with_capacity(topics.len()),
            places: vec![NONE; (2 * topics.len()).next_power_of_two()],
            hasher: RandomState::default(),
        };
        for wire::Resume { topic, epoch, next } in topics {
            // Of a topic shown twice, the first counts.
            if let Err(place) = all.find(topic) {
                all.places[place] = all.topics.len() as u32;
                all.topics.push((all.names.len() as u32, topic.len() as u32, *epoch, *next));
                all.names.push_str(topic);
            }
        }
        all
    }

    // The index of a topic, or the place for it.
    fn find(&self, name: &str) -> Result<usize, usize> {
        let places = self.places.len();
        let mut place = self.hasher.hash_one(name) as usize % places;
        loop {
            let index = self.places[place];
            let Some((at, length, ..)) = self.topics.get(index as usize) else {
                return Err(place);
            };
            let (from, to) = (*at as usize, (*at + *length) as usize);
            if self.names.get(from..to) == Some(name) {
                return Ok(index as usize);
            }
            place = (place + 1) % places;
        }
    }

    fn get(&self, name: &str) -> Option<(u64, u64)> {
        if self.topics.is_empty() {
            return None;
        }
        let (.., epoch, next) = self.topics[self.find(name).ok()?];
        Some((epoch, next))
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
    pub(super) fn cost(&self) -> usize {
        match &self.0 {
            Kind::Resume { shown, .. } => SHOWN_COST * shown.topics.len() + shown.names.len(),
            _ => 0,
        }
    }
}

/// What the rules of beginning look at in a topic.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    pub(super) name: &'a str,
    pub(super) epoch: u64,
    // The oldest in the log; and the first of those accepted since the subscription began.
    pub(super) first: u64,
    pub(super) edge: u64,
}

impl Kind {
    /// The position in this run after which it goes on.
    pub(super) fn since(&self, run: u64) -> Option<u64> {
        match self {
            Self::Resume { since, .. } if since.run == run => Some(since.position),
            _ => None,
        }
    }

    /// The first sequence that a subscription wants of a topic that was there when it began;
    /// `latest` and `since` look closer at it where that is needed.
    pub(super) fn begin(
        &self,
        view: &View<'_>,
        run: u64,
        latest: impl FnOnce() -> u64,
        unheard: impl FnOnce(u64) -> u64,
    ) -> u64 {
        let View { name, epoch, first, edge } = *view;
        let begin = match self {
            Self::New | Self::Last(0) => edge,
            Self::Latest => latest(),
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
pub(super) enum After {
    /// With this sequence; the message before it has this position, 0 if there is none.
    Exactly(u64, u64),
    /// With this one, or a later one: what has left the log cannot be told apart any more.
    AtLeast(u64),
}

impl Topic {
    /// The first message after a position.
    pub(super) fn after(&self, position: u64) -> After {
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
