//! What goes when room is needed.

use super::body::Waiting;
use super::{Body, Count, Digest, Entry, Key, Topic};
use crate::engine::reading::Reading;

/// Messages that are looked at to give one up, among those that arrive or were aborted: 10 ns each.
const LOOKED: u64 = 16;

/// What eviction has taken: perhaps nothing yet.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// The payload that is not in the cache any more, and its count.
    pub(crate) payload: Option<(Key, Count)>,
    /// Who waited for more of a message that was still arriving.
    pub(crate) arriving: Option<[Waiting; 2]>,
}

impl Topic {
    /// Gives up whatever was used longest ago, the newest message last; and what arrives only if
    /// there is nothing else, because its publisher would have to begin again. What some subscription
    /// that reads has not had is remembered.
    pub(in crate::engine) fn evict(&mut self, reading: Option<&Reading>) -> Left {
        match self.evict_kept(false) {
            Some(left) => left,
            None if self.arriving.first() == Some(&self.log.first()) => match self.hollow_out() {
                Some(left) => left,
                None => match self.evict_kept(true) {
                    Some(left) => left,
                    None => self.evict_oldest(reading),
                },
            },
            None => self.evict_oldest(reading),
        }
    }

    // A payload that outlived its publication goes when its last use is the longest ago, or when
    // the newest message is all that is left in the log.
    pub(crate) fn evict_kept(&mut self, any: bool) -> Option<Left> {
        if self.asked.is_empty() {
            return None;
        }
        let oldest = self.log.oldest().map(|entry| entry.position);
        let last = any || self.newest() <= self.log.first();
        let mut asked = self.asked.iter().take(if last { 2 } else { 1 });
        let (lookup, _) = asked.find(|(_, asked)| {
            asked.kept.is_some() && (last || oldest.is_none_or(|position| asked.before <= position))
        })?;
        let kept = self.asked.remove(&{ *lookup })?;
        self.lookups.remove(&kept.sequence);
        let (sequence, kept) = (kept.sequence, kept.kept?);
        let key = self.key(&kept.digest);
        self.bytes -= kept.cost;
        // Its count may be another topic's by now: that of the same name, which began anew.
        Some(self.lose(sequence, key, kept.count))
    }

    // The oldest message is still arriving: the next one that is complete gives up what it has, and
    // its place stays. It is looked for a few at a time.
    fn hollow_out(&mut self) -> Option<Left> {
        self.hollow = self.hollow.max(self.log.first());
        let stays = [self.newest(), self.latest];
        let end = self.hollow + LOOKED;
        while self.hollow < self.log.next() {
            let sequence = self.hollow;
            if sequence == end {
                return Some(Left::default());
            }
            self.hollow += 1;
            if stays.contains(&sequence) {
                continue;
            }
            let Some(entry) = self.log.get_mut(sequence).filter(|entry| entry.body.is_complete())
            else {
                continue;
            };
            let upload = match entry.body {
                Body::Large { upload, .. } => upload,
                _ => 0,
            };
            let body = Body::Evicted { upload };
            let place = Entry {
                position: entry.position,
                accepted: entry.accepted,
                origin: None,
                stamp: 0,
                count: Count { count: 0, since: 0 },
                digest: Digest([0; 32]),
                cost: body.own_cost(),
                body,
            };
            self.bytes += place.cost;
            let entry = std::mem::replace(entry, place);
            self.bytes -= entry.cost;
            return Some(self.leave(sequence, entry));
        }
        None
    }

    fn evict_oldest(&mut self, reading: Option<&Reading>) -> Left {
        let (sequence, from) = (self.log.first(), self.log.gone());
        let Some(entry) = self.log.oldest() else {
            return Left::default();
        };
        let Entry { position, origin, cost, .. } = *entry;
        let whole = (self.key(&entry.digest), entry.count);
        let whole = Some(whole).filter(|_| entry.body.is_complete());
        if let Some(reading) = reading.filter(|reading| reading.any(from, position)) {
            let needed = |from, to| reading.any(from, to);
            self.marks.push((from, position), sequence, needed);
        }
        self.bytes -= cost;
        if let Some(origin) = origin {
            self.producers.left(origin.producer, sequence + 1, self.log.len() - 1);
        }
        if let Some((key, count)) = whole
            && !self.lookups.contains_key(&sequence)
        {
            self.log.drop_oldest();
            return self.lose(sequence, key, count);
        }
        let Some(mut entry) = self.log.pop_oldest() else {
            return Left::default();
        };
        if whole.is_some() {
            return self.leave(sequence, entry);
        }
        let arriving = entry.body.arriving().map(|arriving| {
            self.arriving_bytes -= cost;
            self.arriving.remove(&sequence);
            arriving.take_all()
        });
        if let Some(origin) = origin {
            self.begun.remove(&origin);
        }
        Left { payload: None, arriving }
    }

    // A complete message has left the log. Its payload stays if it has been asked for.
    fn leave(&mut self, sequence: u64, entry: Entry) -> Left {
        let key = self.key(&entry.digest);
        if let Some(lookup) = self.lookups.get(&sequence)
            && let Some(asked) = self.asked.get_mut(lookup)
            && self.payloads.get(&key) == Some(&sequence)
        {
            self.bytes += entry.cost;
            asked.kept = Some(Box::new(entry));
            return Left::default();
        }
        // Nothing of it is kept: that it was asked for would stand before what is, for ever.
        self.answered(sequence);
        self.lose(sequence, key, entry.count)
    }

    // A payload is not in the cache any more, if this was its newest publication.
    fn lose(&mut self, sequence: u64, key: Key, count: Count) -> Left {
        if !self.payloads.remove_at(&key, sequence) {
            return Left::default();
        }
        let count = self.take_count_of(sequence, count);
        Left { payload: Some((key, count)), arriving: None }
    }

    /// The count of a payload, of a topic that was forgotten and is published to again; it is
    /// known here no more.
    pub(crate) fn bequeath(&mut self, digest: &Digest) -> Option<Count> {
        let ranked = self.top.remove(digest);
        let key = self.key(digest);
        let cached = self.payloads.get(&key).copied().and_then(|sequence| {
            let count = self.at(sequence).filter(|entry| entry.digest == *digest)?.count;
            self.payloads.remove(&key);
            let lookup = self.lookups.get(&sequence);
            if lookup.is_some_and(|lookup| self.asked[lookup].kept.is_none()) {
                self.answered(sequence);
            }
            Some(self.take_count_of(sequence, count))
        });
        cached.or(ranked)
    }
}
