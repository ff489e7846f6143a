//! Publications in flight: numbered, but without an answer. They outlive a session: the next one
//! sends them again, with the same numbers, so that the daemon counts each once.

use super::error::PublishError;
use crate::message::Receipt;
use crate::wire::realtime::Unacked;
use crate::wire::{Encoded, LARGE, MAX_ALIASES, encode_publish};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Maximum number of publications without an answer, and of the bytes of their payloads: 1,024 and
/// 64 MiB. A single payload may be larger.
pub(super) const MAX_PUBLICATIONS: usize = 1024;
pub(super) const MAX_BYTES: usize = 64 << 20;

/// How a publication ended. One that was sent in a datagram is accepted without a receipt.
pub(super) type PublishOutcome = Result<Option<Receipt>, PublishError>;

/// A large publication, which has a stream of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LargePublication {
    pub(super) alias: u32,
    pub(super) name: Arc<str>,
    pub(super) number: u64,
    pub(super) stamp: u64,
    pub(super) payload: Bytes,
}

/// How to send a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// On the publishing stream, or in a datagram.
    Small(u32, u64, Encoded),
    /// On a stream of its own.
    Large(LargePublication),
}

/// A publication to be numbered.
pub(super) struct Publication<'a> {
    pub(super) name: &'a str,
    pub(super) payload: &'a Bytes,
    /// The publisher's clock, µs since 1970.
    pub(super) stamp: u64,
    /// When it expires, µs since the client began.
    pub(super) expires: Option<u64>,
}

// A publication without an answer. `T` settles it.
struct Waiting<T> {
    // Its place among the publications of all topics.
    place: u64,
    token: T,
    outgoing: Outgoing,
    size: usize,
    expires: Option<u64>,
}

// The publications of one topic. Its alias stays the same in all sessions.
struct Topic<T> {
    name: Arc<str>,
    // Number of the newest publication.
    last: u64,
    // Publications without an answer, by number.
    waiting: BTreeMap<u64, Waiting<T>>,
    // Whether the alias was declared on the publishing stream of this session.
    declared: bool,
    // Whether the daemon has acknowledged a datagram of this session, and so knows the alias.
    acknowledged: bool,
}

/// Publications without an answer. A token of type `T` settles each of them.
pub(super) struct Outstanding<T> {
    max_publications: usize,
    max_bytes: usize,
    aliases: HashMap<Arc<str>, u32>,
    by_alias: Vec<Topic<T>>,
    count: usize,
    bytes: usize,
    places: u64,
    // Those with a lifetime, by the time at which they expire.
    expiries: BTreeSet<(u64, u32, u64)>,
    /// Those of them that were sent in datagrams of this session.
    pub(super) unacked: Unacked,
}

impl<T> Outstanding<T> {
    /// Creates a table with limits for the number of publications and the bytes of their payloads.
    pub(super) fn new(max_publications: usize, max_bytes: usize) -> Self {
        Self {
            max_publications: max_publications.clamp(1, MAX_PUBLICATIONS),
            max_bytes,
            aliases: HashMap::new(),
            by_alias: Vec::new(),
            count: 0,
            bytes: 0,
            places: 0,
            expiries: BTreeSet::new(),
            unacked: Unacked::new(),
        }
    }

    /// Returns whether every publication is settled.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the number of publications, and the bytes of their payloads.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.count, self.bytes)
    }

    /// Numbers a publication, and keeps it with its `token` until it is settled. Returns how to send
    /// it, or `None` if it has to wait until others are settled.
    pub(super) fn push(
        &mut self,
        publication: &Publication<'_>,
        window: u32,
        token: &mut Option<T>,
    ) -> Result<Option<Outgoing>, PublishError> {
        let Publication { name, payload, stamp, expires } = *publication;
        let size = payload.len();
        let fits = self.count == 0
            || (self.count < self.max_publications && self.bytes + size <= self.max_bytes);
        if !fits {
            return Ok(None);
        }
        let place = self.places;
        let (alias, topic) = self.topic(name).ok_or(PublishError::TooManyTopics)?;
        let number = topic.last + 1;
        let oldest = topic.waiting.first_key_value().map_or(number, |(oldest, _)| *oldest);
        if number >= oldest + u64::from(window) {
            return Ok(None);
        }
        let Some(token) = token.take() else {
            return Ok(None);
        };
        let outgoing = if size > LARGE {
            let (name, payload) = (topic.name.clone(), payload.clone());
            Outgoing::Large(LargePublication { alias, name, number, stamp, payload })
        } else {
            Outgoing::Small(alias, number, encode_publish(alias, number, stamp, payload))
        };
        topic.last = number;
        let waiting = Waiting { place, token, outgoing: outgoing.clone(), size, expires };
        topic.waiting.insert(number, waiting);
        self.places += 1;
        self.count += 1;
        self.bytes += size;
        self.expiries.extend(expires.map(|at| (at, alias, number)));
        Ok(Some(outgoing))
    }

    /// Returns whether the alias still has to be declared on the publishing stream: true once in
    /// each session.
    pub(super) fn declare(&mut self, alias: u32) -> Option<Arc<str>> {
        let topic = self.by_alias.get_mut(alias as usize)?;
        let declared = std::mem::replace(&mut topic.declared, true);
        (!declared).then(|| topic.name.clone())
    }

    /// Removes a publication that has its answer. Returns its token.
    pub(super) fn settle(&mut self, alias: u32, number: u64) -> Option<T> {
        self.unacked.settled(alias, number);
        let topic = self.by_alias.get_mut(alias as usize)?;
        let Waiting { token, size, expires, .. } = topic.waiting.remove(&number)?;
        self.count -= 1;
        self.bytes -= size;
        if let Some(at) = expires {
            self.expiries.remove(&(at, alias, number));
        }
        Some(token)
    }

    /// Applies the daemon's acknowledgement of publications in datagrams. Returns their tokens.
    pub(super) fn acknowledge(&mut self, alias: u32, floor: u64, seen: u64) -> Vec<T> {
        if let Some(topic) = self.by_alias.get_mut(alias as usize) {
            topic.acknowledged = true;
        }
        let mut settled = Vec::new();
        self.unacked.acknowledged(alias, floor, seen, &mut |_, number| settled.push(number));
        settled.into_iter().filter_map(|number| self.settle(alias, number)).collect()
    }

    /// Returns whether a publication is not settled yet.
    pub(super) fn waits(&self, alias: u32, number: u64) -> bool {
        let topic = self.by_alias.get(alias as usize);
        topic.is_some_and(|topic| topic.waiting.contains_key(&number))
    }

    /// Returns the topic's name if the daemon may not know the alias yet.
    pub(super) fn undeclared(&self, alias: u32) -> Option<&str> {
        let topic = self.by_alias.get(alias as usize).filter(|topic| !topic.acknowledged);
        topic.map(|topic| &*topic.name)
    }

    /// Begins a session. Returns all publications, in the order in which they were numbered, to send
    /// them again. None of them is sent in a datagram, because the round trip is not known yet.
    pub(super) fn begin_session(&mut self) -> Vec<Outgoing> {
        self.unacked = Unacked::new();
        let mut again = Vec::with_capacity(self.count);
        for topic in &mut self.by_alias {
            (topic.declared, topic.acknowledged) = (false, false);
            again.extend(topic.waiting.values().map(|waiting| (waiting.place, &waiting.outgoing)));
        }
        again.sort_unstable_by_key(|(place, _)| *place);
        again.into_iter().map(|(_, outgoing)| outgoing.clone()).collect()
    }

    /// Returns when to call [`expire`](Self::expire), µs since the client began.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.expiries.first().map(|(at, ..)| *at)
    }

    /// Removes the publications that have expired by `now`, and returns their tokens. They are not
    /// sent again.
    pub(super) fn expire(&mut self, now: u64) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some((at, alias, number)) = self.expiries.first().copied()
            && at <= now
        {
            self.expiries.pop_first();
            expired.extend(self.settle(alias, number));
        }
        expired
    }

    /// Drops all publications with their tokens.
    pub(super) fn clear(&mut self) {
        self.unacked = Unacked::new();
        self.by_alias.iter_mut().for_each(|topic| topic.waiting.clear());
        self.expiries.clear();
        (self.count, self.bytes) = (0, 0);
    }

    // Returns the topic and its alias, a new one if it has none. Returns `None` if the client has as
    // many topics as it may have.
    fn topic(&mut self, name: &str) -> Option<(u32, &mut Topic<T>)> {
        let alias = match self.aliases.get(name) {
            Some(alias) => *alias,
            None if self.by_alias.len() >= MAX_ALIASES => return None,
            None => {
                let alias = self.by_alias.len() as u32;
                let name: Arc<str> = name.into();
                self.aliases.insert(name.clone(), alias);
                let waiting = BTreeMap::new();
                let (declared, acknowledged) = (false, false);
                self.by_alias.push(Topic { name, last: 0, waiting, declared, acknowledged });
                alias
            }
        };
        Some((alias, self.by_alias.get_mut(alias as usize)?))
    }
}

#[cfg(test)]
mod tests;
