//! Records of topics that were forgotten before some subscription had received all of them.

use super::refusals::topic_forgotten;
use super::start::{StartFrom, TopicView};
use super::subscription::Subscription;
use crate::engine::runs::{Runs, TopicPast};
use crate::engine::topic::Topic;
use crate::wire::{Filter, Refusal, TopicCursor};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
struct Record {
    name: Arc<str>,
    epoch: u64,
    past: TopicPast,
    // The oldest sequence that was kept, and the one that its next message would have had.
    first: u64,
    next: u64,
    last_position: u64,
}

/// The newest records, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    records: VecDeque<Record>,
    // The number of the first record, and the highest position in those that were dropped.
    number: u64,
    dropped: u64,
}

impl Forgotten {
    /// Returns the number that the next record will have.
    pub(crate) fn next(&self) -> u64 {
        self.number + self.records.len() as u64
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether a subscription that has checked the records below a number is to check again
    /// soon, before records that it has not checked are dropped.
    pub(crate) fn is_due(&self, checked: u64, most: usize) -> bool {
        self.next() - checked >= most as u64 / 2
    }

    /// Records a topic that is forgotten. At
    /// [`most`](super::portions::Portions::forgotten) records, the oldest is dropped: subscriptions
    /// that may have missed its messages are ended.
    pub(crate) fn push(&mut self, most: usize, topic: &Topic) {
        if self.records.len() >= most
            && let Some(oldest) = self.records.pop_front()
        {
            self.dropped = self.dropped.max(oldest.last_position);
            self.number += 1;
        }
        self.records.push_back(Record {
            name: topic.name().clone(),
            epoch: topic.epoch(),
            past: topic.past().clone(),
            first: topic.kept_from(),
            next: topic.next_sequence(),
            last_position: topic.last_position(),
        });
    }

    /// Refuses a subscription that had not received all of one of the topics.
    pub(super) fn check(
        &self,
        s: &mut Subscription,
        filter: &Filter,
        runs: &Runs,
    ) -> Result<(), Refusal> {
        // Topics without messages after this position are skipped. The subscription had received all
        // of such a topic, or has a cursor in it, which will find it forgotten.
        let received = s.delivered_through.max(s.window_end);
        if s.forgotten_checked < self.number && self.dropped > received {
            return Err(topic_forgotten("a topic"));
        }
        let checked = s.forgotten_checked.saturating_sub(self.number) as usize;
        for record in self.records.iter().skip(checked) {
            let unread = || match &s.start {
                Some(start) if s.delivered_through == 0 && record.last_position <= s.began_at => {
                    record.is_wanted(start, runs)
                }
                _ => true,
            };
            if record.last_position > received && filter.matches(&record.name) && unread() {
                return Err(topic_forgotten(&record.name));
            }
        }
        s.forgotten_checked = self.next();
        Ok(())
    }
}

impl Record {
    fn is_wanted(&self, start: &StartFrom, runs: &Runs) -> bool {
        let Self { name, epoch, past, first, next, .. } = self;
        let end = |cursor: TopicCursor| runs.of_epoch(past, cursor.epoch).map(|(_, end)| end);
        let view = TopicView { name, epoch: *epoch, end: &end, first: *first, edge: *next };
        let latest = || next.saturating_sub(1).max(*first);
        let after = |since| if self.last_position > since { next - 1 } else { *next };
        start.begin(&view, runs, latest, after) < *next
    }
}
