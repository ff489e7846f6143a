//! The messages above a missing one that a subscription in any order has shown. No I/O.
//!
//! A client that resumes names the lowest sequence that it misses. In the epoch that it knows, it drops
//! what arrives again above that. A daemon that was killed continues under another epoch, and may not
//! have kept all of these messages. Their sequences stand for other messages then. A hash of each
//! payload tells which.

use bytes::Bytes;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;

/// Maximum number of messages of a subscription that are remembered, in all its topics. Beyond it,
/// messages may be shown twice.
const REMEMBERED: usize = 65_536;

/// Hashes of the payloads of one topic, by sequence.
pub(super) type Hashes = BTreeMap<u64, u64>;

/// How a message relates to what was shown at its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// Nothing was shown.
    New,
    /// The same message was shown.
    Same,
    /// Another message was shown, which was not kept.
    Other,
}

/// The messages that were shown above a missing one, by the id of their topic.
#[derive(Debug, Default)]
pub(super) struct Shown {
    topics: HashMap<u64, Hashes>,
    count: usize,
}

impl Shown {
    /// Continues a topic with what an earlier session has shown.
    pub(super) fn resume(&mut self, topic: u64, hashes: Hashes) {
        if !hashes.is_empty() && self.count + hashes.len() <= REMEMBERED {
            self.count += hashes.len();
            self.topics.insert(topic, hashes);
        }
    }

    /// Removes a topic that has ended.
    pub(super) fn forget(&mut self, topic: u64) {
        let hashes = self.topics.remove(&topic);
        self.count -= hashes.map_or(0, |hashes| hashes.len());
    }

    /// Returns the hashes of a topic.
    pub(super) fn of(&self, topic: u64) -> Hashes {
        self.topics.get(&topic).cloned().unwrap_or_default()
    }

    /// Compares a message that is new in its epoch, and remembers it. `next` is the lowest sequence of
    /// the topic that is missing after it.
    pub(super) fn compare(
        &mut self,
        hasher: &RandomState,
        (topic, sequence): (u64, u64),
        payload: &Bytes,
        next: u64,
    ) -> Compared {
        if sequence < next && !self.topics.contains_key(&topic) {
            return Compared::New;
        }
        let hashes = self.topics.entry(topic).or_default();
        let before = hashes.len();
        let hash = hasher.hash_one(payload);
        let compared = match hashes.remove(&sequence) {
            None => Compared::New,
            Some(shown) if shown == hash => Compared::Same,
            Some(_) => Compared::Other,
        };
        if sequence > next && self.count < REMEMBERED {
            hashes.insert(sequence, hash);
        }
        // The daemon sends nothing below it again.
        while hashes.first_key_value().is_some_and(|(sequence, _)| *sequence < next) {
            hashes.pop_first();
        }
        let after = hashes.len();
        if after == 0 {
            self.topics.remove(&topic);
        }
        self.count = self.count - before + after;
        compared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(shown: &mut Shown, hasher: &RandomState, sequence: u64, next: u64) -> Compared {
        shown.compare(hasher, (1, sequence), &Bytes::from(sequence.to_string()), next)
    }

    #[test]
    fn what_was_shown_above_a_missing_message_is_recognised() {
        let (mut shown, hasher) = (Shown::default(), RandomState::default());
        assert_eq!(compare(&mut shown, &hasher, 1, 2), Compared::New);
        assert!(shown.topics.is_empty());
        for sequence in [3, 4, 6] {
            assert_eq!(compare(&mut shown, &hasher, sequence, 2), Compared::New);
        }
        // Another epoch sends them again. One of them was not kept.
        let (mut again, hashes) = (Shown::default(), shown.of(1));
        assert_eq!(hashes.len(), 3);
        again.resume(1, hashes);
        assert_eq!(compare(&mut again, &hasher, 2, 3), Compared::New);
        assert_eq!(compare(&mut again, &hasher, 3, 4), Compared::Same);
        assert_eq!(again.compare(&hasher, (1, 4), &Bytes::from("x"), 5), Compared::Other);
        assert_eq!(compare(&mut again, &hasher, 5, 6), Compared::New);
        assert_eq!(compare(&mut again, &hasher, 6, 7), Compared::Same);
        assert!(again.topics.is_empty() && again.count == 0);
        shown.forget(1);
        assert_eq!(shown.count, 0);
    }

    // Without the limit, a subscription whose lowest message never arrives would remember all others.
    #[test]
    fn a_limited_number_is_remembered() {
        let (mut shown, hasher) = (Shown::default(), RandomState::default());
        for sequence in 2..REMEMBERED as u64 + 10 {
            assert_eq!(compare(&mut shown, &hasher, sequence, 1), Compared::New);
        }
        assert_eq!((shown.count, shown.of(1).len()), (REMEMBERED, REMEMBERED));
        let mut again = Shown::default();
        again.resume(2, shown.of(1));
        again.resume(3, shown.of(1));
        assert_eq!((again.count, again.topics.len()), (REMEMBERED, 1));
    }
}
