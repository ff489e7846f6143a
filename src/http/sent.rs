//! The progress of a stream of events, and so the id of its next event.
//!
//! The stream has sent everything up to a position, except overtaken items: messages that are still
//! arriving, and later ones in their topics. An id names topics with overtaken items, up to a limit.
//! If there are more, its position is before the first topic that it does not name. A client that
//! resumes from such an id misses nothing, and receives some events again.

use super::event_id::{EventId, OVERTAKEN};
use crate::engine::Overtaken;
use std::collections::{HashMap, HashSet};
use std::fmt;

pub(super) struct Sent {
    // The current id, with the topics that it names.
    id: EventId,
    // Everything up to here was sent, except overtaken items.
    position: u64,
    // Topics that the id does not name have no unsent item before this position.
    edge: u64,
    // The overtaken items of the last read, and the position of the first that cannot be named.
    behind: Vec<Overtaken>,
    behind_edge: u64,
    // The topics that the id of the resumed stream named, and its position. Until this stream has
    // reached the position, these topics remain unsent except for what this stream sends of them.
    claimed: Vec<Overtaken>,
    claims: u64,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// An item that was read but not sent: the topic's id, the sequence, and the position if it is known.
pub(super) type Unsent = (u64, u64, Option<u64>);

impl Sent {
    /// Creates the progress of a stream that resumes from the id `since`.
    pub(super) fn new(since: EventId) -> Self {
        // The positions of these are unknown. With 0 they are named first, and all of them fit.
        let before = |&(topic, next): &(u64, u64)| Overtaken { topic, next, position: 0 };
        let claimed = since.overtaken.iter().map(before).collect();
        let position = since.since.position;
        Self {
            position,
            id: since,
            edge: u64::MAX,
            behind: Vec::new(),
            behind_edge: u64::MAX,
            claimed,
            claims: position,
        }
    }

    /// Records a read up to the position `reached`, except `behind`, which is overtaken now. All items
    /// of earlier reads were sent before.
    pub(super) fn read(
        &mut self,
        reached: u64,
        behind: Vec<Overtaken>,
        unsent: impl DoubleEndedIterator<Item = Unsent>,
    ) {
        let rests = self.behind.is_empty() && self.claimed.is_empty();
        if rests && self.id.overtaken.is_empty() && behind.is_empty() {
            // The usual case: nothing is overtaken.
            return;
        }
        let mut first: HashMap<u64, (u64, Option<u64>)> = HashMap::new();
        // The iterator is reversed, so that the first item of each topic remains.
        first.extend(unsent.rev().map(|(topic, sequence, position)| (topic, (sequence, position))));
        // A topic that was overtaken before, or is now, stays open until an event of it is sent.
        let mut open = self.claimed.clone();
        if reached >= self.claims {
            self.claimed.clear();
        }
        let mut edge = u64::MAX;
        if first.is_empty() {
            open.clone_from(&self.claimed);
        } else {
            edge = self.behind_edge;
            add(&mut open, std::mem::take(&mut self.behind));
        }
        let new = behind.iter().map(|one| match first.get(&one.topic) {
            Some((sequence, position)) => Overtaken {
                next: *sequence,
                // Everything that was read before is sent.
                position: position.unwrap_or(self.position + 1),
                ..*one
            },
            None => *one,
        });
        add(&mut open, new);
        (self.behind, self.behind_edge) = cut(behind);
        let (named, rest) = cut(open);
        self.edge = edge.min(rest);
        self.id.overtaken = named.into_iter().map(|one| (one.topic, one.next)).collect();
        self.reached(self.position);
    }

    /// Records that everything up to this position was sent, or overtaken.
    pub(super) fn reached(&mut self, position: u64) {
        self.position = position;
        self.id.furthest = self.id.furthest.max(position);
        self.id.since.position = position.min(self.edge - 1);
    }

    /// Records a message that is sent, or a gap that ends with `sequence`, which has no position. The
    /// epoch is given if the filter is one topic.
    pub(super) fn event(
        &mut self,
        topic: u64,
        epoch: Option<u64>,
        sequence: u64,
        position: Option<u64>,
    ) {
        let named = self.id.overtaken.iter_mut().find(|(of, _)| *of == topic);
        let claimed = self.claimed.iter_mut().find(|one| one.topic == topic);
        for next in named.map(|(_, next)| next).into_iter().chain(claimed.map(|one| &mut one.next))
        {
            *next = (*next).max(sequence + 1);
        }
        if let Some(epoch) = epoch {
            self.id.topic = Some((epoch, sequence));
        }
        // An overtaken message is sent late, and does not advance the position.
        if let Some(position) = position.filter(|position| *position > self.position) {
            self.reached(position);
        }
    }
}

// Adds topics. An entry that exists already takes precedence.
fn add(open: &mut Vec<Overtaken>, more: impl IntoIterator<Item = Overtaken>) {
    let known: HashSet<u64> = open.iter().map(|one| one.topic).collect();
    open.extend(more.into_iter().filter(|one| !known.contains(&one.topic)));
}

// Keeps the oldest entries, as many as an id names. Returns the position of the first other one.
fn cut(mut open: Vec<Overtaken>) -> (Vec<Overtaken>, u64) {
    let mut edge = u64::MAX;
    if open.len() > OVERTAKEN {
        let (_, first, _) = open.select_nth_unstable_by_key(OVERTAKEN, |one| one.position);
        edge = first.position;
        open.truncate(OVERTAKEN);
        open.shrink_to_fit();
    }
    (open, edge)
}
