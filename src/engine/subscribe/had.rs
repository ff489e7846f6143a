//! The sequences that a client has received above the next one that it needs, as it shows them when
//! it resumes. The subscription skips them.

use super::kept::end_of_run;
use crate::engine::runs::Runs;
use crate::engine::topic::Topic;
use crate::engine::topic::after::After;
use crate::wire;
use foldhash::fast::RandomState;
use std::hash::BuildHasher as _;

/// Ranges of sequences, by topic. A subscription keeps them in two pieces of memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct HadRanges {
    // In the order of the hashes.
    topics: Box<[HadTopic]>,
    ranges: Box<[(u64, u64)]>,
    hasher: RandomState,
}

// The name is not kept. If the hashes of two names are the same, their epochs still differ.
#[derive(Debug, Clone, Copy)]
struct HadTopic {
    hash: u64,
    epoch: u64,
    // The first sequence that was not received.
    next: u64,
    // Place of the topic's ranges.
    start: u32,
    end: u32,
}

impl HadRanges {
    /// Makes the table of a list. None if it has no range.
    pub(super) fn new(topics: &[wire::Resume<'_>], list: &[wire::Had]) -> Option<Box<Self>> {
        let hasher = RandomState::default();
        let (mut all, mut ranges) = (Vec::new(), Vec::new());
        for had in list {
            // An entry without a topic has no meaning.
            let Some(resume) = topics.get(had.topic as usize) else {
                continue;
            };
            let start = ranges.len() as u32;
            ranges.extend(had.sequences(resume.next));
            let (hash, end) = (hasher.hash_one(resume.topic), ranges.len() as u32);
            if start < end {
                let (epoch, next) = (resume.epoch, resume.next);
                all.push(HadTopic { hash, epoch, next, start, end });
            }
        }
        // If a topic is in the list twice, the first one counts.
        all.sort_by_key(|topic| topic.hash);
        all.dedup_by_key(|topic| topic.hash);
        let any = !all.is_empty();
        any.then(|| Box::new(Self { topics: all.into(), ranges: ranges.into(), hasher }))
    }

    /// Returns the bytes that it takes.
    pub(super) fn cost(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.topics) + size_of_val(&*self.ranges)
    }

    /// Returns the highest sequence that was received of a topic in an epoch.
    pub(super) fn highest(&self, name: &str, epoch: u64) -> Option<u64> {
        let Shown { ranges, .. } = self.shown(name).filter(|shown| shown.epoch == epoch)?;
        ranges.last().map(|(_, last)| *last)
    }

    /// Returns whether a sequence of a topic was received in an epoch.
    pub(super) fn has(&self, name: &str, epoch: u64, sequence: u64) -> bool {
        let shown = self.shown(name).filter(|shown| shown.epoch == epoch);
        shown.is_some_and(|shown| shown.has(sequence))
    }

    /// Returns the ranges of a topic. They are sequences of its epoch, or of an earlier run of it.
    /// Messages after the position `began_at`, or after the last one that the earlier run has kept,
    /// are not among them.
    pub(super) fn of(&self, topic: &Topic, runs: &Runs, began_at: u64) -> Had<'_> {
        let Some(shown) = self.shown(topic.name()) else {
            return Had::default();
        };
        let Shown { epoch, ranges, .. } = shown;
        // If the exact sequence is not known any more, fewer are skipped.
        let (After::Exactly(here, _) | After::AtLeast(here)) = topic.after(began_at);
        let end = if epoch == topic.epoch() {
            here
        } else {
            let end = end_of_run(topic, runs, epoch, |sequence| shown.has(sequence));
            end.map_or(0, |(_, end)| end.min(here))
        };
        Had { ranges, end }
    }

    fn shown(&self, name: &str) -> Option<Shown<'_>> {
        let hash = self.hasher.hash_one(name);
        let at = self.topics.binary_search_by_key(&hash, |topic| topic.hash).ok()?;
        let HadTopic { epoch, next, start, end, .. } = *self.topics.get(at)?;
        Some(Shown { epoch, next, ranges: self.ranges.get(start as usize..end as usize)? })
    }
}

// The epoch and sequences of a topic that a client has shown.
#[derive(Clone, Copy)]
struct Shown<'a> {
    epoch: u64,
    next: u64,
    ranges: &'a [(u64, u64)],
}

impl Shown<'_> {
    fn has(&self, sequence: u64) -> bool {
        let at = self.ranges.partition_point(|(_, last)| *last < sequence);
        sequence < self.next || self.ranges.get(at).is_some_and(|(first, _)| *first <= sequence)
    }
}

/// The sequences of one topic that the client has received.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Had<'a> {
    // In order.
    ranges: &'a [(u64, u64)],
    // Sequences from here on were not received.
    end: u64,
}

impl Had<'_> {
    /// Returns the first range that ends at this sequence or later.
    pub(super) fn at(&self, sequence: u64) -> Option<(u64, u64)> {
        let at = self.ranges.partition_point(|(_, last)| *last < sequence);
        let (first, last) = *self.ranges.get(at)?;
        let last = last.min(self.end.saturating_sub(1));
        (first <= last && sequence <= last).then_some((first, last))
    }

    /// Returns the next sequence from this one on that was received.
    pub(super) fn next(&self, sequence: u64) -> u64 {
        self.at(sequence).map_or(u64::MAX, |(first, _)| first.max(sequence))
    }

    /// Returns the number of sequences from this one on that were received.
    pub(super) fn count(&self, from: u64) -> u64 {
        let ranges = self.ranges.iter().map(|(first, last)| {
            (last.saturating_add(1)).min(self.end).saturating_sub(*first.max(&from))
        });
        ranges.sum()
    }
}
