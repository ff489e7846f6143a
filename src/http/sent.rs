//! How far a stream of events has come: the id of its next event.
//!
//! Everything up to a position has been sent, but for what others have overtaken: messages that
//! still arrive, and what follows these in their topics. An id names some topics of which this is
//! so; where there are more it stands before the first that it does not name. Whoever goes on from
//! it then misses nothing, and has some events again.

use super::event_id::{EventId, OVERTAKEN};
use crate::engine::Overtaken;
use std::collections::{HashMap, HashSet};
use std::fmt;

pub(super) struct Sent {
    // With the topics that are named.
    id: EventId,
    // Up to here everything was sent, but for what was overtaken.
    position: u64,
    // Of topics that are not named nothing stands before this, and was not sent.
    edge: u64,
    // What is overtaken, as of the last read; and where what is too much to be named begins.
    behind: Vec<Overtaken>,
    behind_edge: u64,
    // What the id named from which the stream goes on, and how far that had come: until the stream
    // is there, who goes on from it has had no more of these than what is sent of them here.
    claimed: Vec<Overtaken>,
    claims: u64,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// What was read and is not sent: the topic's id, the sequence, and the position, if it is known.
pub(super) type Unsent = (u64, u64, Option<u64>);

impl Sent {
    /// Of one that goes on where another ended: `since` names what was overtaken there.
    pub(super) fn new(since: EventId) -> Self {
        // Where these stand is not known. They are named first, and all fit.
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

    /// Some was read, up to the position `reached`, but for `behind`, which is overtaken now. All
    /// that was read before has been sent.
    pub(super) fn read(
        &mut self,
        reached: u64,
        behind: Vec<Overtaken>,
        unsent: impl DoubleEndedIterator<Item = Unsent>,
    ) {
        let rests = self.behind.is_empty() && self.claimed.is_empty();
        if rests && self.id.overtaken.is_empty() && behind.is_empty() {
            // Mostly nothing is overtaken.
            return;
        }
        let mut first: HashMap<u64, (u64, Option<u64>)> = HashMap::new();
        // The first of each topic stands last here.
        first.extend(unsent.rev().map(|(topic, sequence, position)| (topic, (sequence, position))));
        // What was overtaken before, or is now, has not been had until an event of it is sent.
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
                // Nothing else that was read before was not sent.
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

    /// Up to this position there is nothing that was not sent, or overtaken.
    pub(super) fn reached(&mut self, position: u64) {
        self.position = position;
        self.id.since.position = position.min(self.edge - 1);
    }

    /// A message is sent, or a gap without a position that ends with `sequence`. Of one topic alone
    /// the epoch is named.
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
        // One that was overtaken comes late.
        if let Some(position) = position.filter(|position| *position > self.position) {
            self.reached(position);
        }
    }
}

// Of a topic what is there goes before what is added.
fn add(open: &mut Vec<Overtaken>, more: impl IntoIterator<Item = Overtaken>) {
    let known: HashSet<u64> = open.iter().map(|one| one.topic).collect();
    open.extend(more.into_iter().filter(|one| !known.contains(&one.topic)));
}

// As many as an id names, the oldest; and where the others begin.
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
