//! Topics that were forgotten while some subscription had not had all of them.

use super::start::{Kind, View};
use super::table::Subscription;
use crate::wire::{Code, Filter, Refusal};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    epoch: u64,
    // The oldest message that was in the log, what would have come next, and the position of the
    // last.
    first: u64,
    next: u64,
    moved: u64,
}

/// The last of these, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    topics: VecDeque<Topic>,
    // Number of the first of them; and the highest position of those before.
    number: u64,
    moved: u64,
}

impl Forgotten {
    /// The number that the next one will have.
    pub(crate) fn next(&self) -> u64 {
        self.number + self.topics.len() as u64
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether one that has looked at those below this number is to look soon, before others take
    /// the place of what it has not looked at.
    pub(crate) fn is_due(&self, seen: u64, most: usize) -> bool {
        self.next() - seen >= most as u64 / 2
    }

    /// A topic was forgotten, with these first and next sequences, and this position of its last
    /// message. So many are remembered at [most](super::discover::Portions::forgotten): whoever may
    /// have missed one before these is ended.
    pub(crate) fn push(
        &mut self,
        most: usize,
        name: Arc<str>,
        epoch: u64,
        (first, next): (u64, u64),
        moved: u64,
    ) {
        if self.topics.len() >= most
            && let Some(oldest) = self.topics.pop_front()
        {
            self.moved = self.moved.max(oldest.moved);
            self.number += 1;
        }
        self.topics.push_back(Topic { name, epoch, first, next, moved });
    }

    /// Refused is a subscription that has not had all of one of them.
    pub(crate) fn check(
        &self,
        s: &mut Subscription,
        filter: &Filter,
        run: u64,
    ) -> Result<(), Refusal> {
        // Of what has not moved since it has had all, or has a cursor, which finds it gone.
        let upto = s.had.max(s.upto);
        if s.forgotten < self.number && self.moved > upto {
            return Err(lost("a topic"));
        }
        let unseen = s.forgotten.saturating_sub(self.number) as usize;
        for topic in self.topics.iter().skip(unseen) {
            let unread = || match &s.start {
                Some(start) if s.had == 0 && topic.moved <= s.began => topic.is_wanted(start, run),
                _ => true,
            };
            if topic.moved > upto && filter.matches(&topic.name) && unread() {
                return Err(lost(&topic.name));
            }
        }
        s.forgotten = self.next();
        Ok(())
    }
}

impl Topic {
    fn is_wanted(&self, start: &Kind, run: u64) -> bool {
        let Self { name, epoch, first, next, .. } = self;
        let view = View { name, epoch: *epoch, first: *first, edge: *next };
        let last = || next.saturating_sub(1).max(*first);
        let unheard = |since| if self.moved > since { next - 1 } else { *next };
        start.begin(&view, run, last, unheard) < *next
    }
}

pub(crate) fn lost(topic: &str) -> Refusal {
    Refusal::new(
        Code::LAGGED,
        format!("fell behind the cache: {topic} was forgotten before all of it was read"),
    )
}
