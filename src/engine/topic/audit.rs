//! For tests: the payloads in their order of use, and whether the accounts are right.

use super::body::Body;
use super::*;

impl Topic {
    /// Returns the payloads in the cache, the most recently used first.
    pub(crate) fn payloads(&self) -> Vec<Digest> {
        let used = |sequence: &u64| match self.lookups.get(sequence) {
            // After a publication, and before the next.
            Some(lookup) => (self.looked_up[lookup].before - 1, *lookup),
            None => (self.cached(*sequence).unwrap().position, 0),
        };
        let mut all: Vec<_> = self.payloads.iter().map(|(_, sequence)| sequence).collect();
        all.sort_unstable_by_key(|sequence| std::cmp::Reverse(used(sequence)));
        let digest = |sequence: &u64| self.cached(*sequence).unwrap().digest;
        all.into_iter().map(digest).collect()
    }

    /// Returns the number of payloads that the table has room for.
    pub(crate) fn table(&self) -> usize {
        self.payloads.capacity()
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Returns the cost of the marks, bytes.
    pub(crate) fn marks_cost(&self) -> usize {
        self.marks.cost()
    }

    /// Returns the cost of the producers, bytes.
    pub(crate) fn producers_cost(&self) -> usize {
        self.producers.cost()
    }

    /// Returns the cost of log slots without a message, bytes.
    pub(crate) fn slack(&self) -> usize {
        self.log.slack()
    }

    /// Recounts the bytes, and finds payloads without bytes and messages without payload.
    pub(crate) fn audit(&self) {
        self.audit_retention();
        let entries = || (self.log.first()..self.log.next()).filter_map(|at| self.log.get(at));
        let kept = || self.looked_up.values().filter_map(|looked_up| looked_up.kept.as_deref());
        let bytes: usize = entries().chain(kept()).map(|entry| entry.cost).sum();
        assert_eq!(self.bytes, bytes);
        let arriving = entries().filter(|entry| matches!(entry.body, Body::Arriving(_)));
        assert_eq!(self.arriving_bytes, arriving.map(|entry| entry.cost).sum::<usize>());
        let complete = || entries().chain(kept()).filter(|entry| entry.body.is_complete());
        let cached = |entry: &Entry| self.payloads.contains_key(&self.payload_key(&entry.digest));
        assert!(complete().all(cached));
        for entry in entries().filter(|entry| !entry.body.is_complete()) {
            assert_eq!(entry.cost, entry.own_cost());
        }
        let numbered = || (self.log.first()..self.log.next()).zip(entries());
        let arriving = numbered().filter(|(_, entry)| matches!(entry.body, Body::Arriving(_)));
        assert!(arriving.map(|(sequence, _)| sequence).eq(self.arriving.iter().copied()));
        let latest = numbered().filter(|(_, entry)| entry.body.is_complete()).last();
        assert_eq!(self.latest(), latest.map(|(sequence, _)| sequence));
        for sequence in self.overtaken.keys() {
            let entry = self.cached(*sequence).expect("the count of a payload without bytes");
            assert_eq!(self.payloads.get(&self.payload_key(&entry.digest)), Some(sequence));
        }
        for entry in entries().filter(|entry| entry.body.is_complete()) {
            // Only its newest publication pays for the payload.
            let newest = self.peek(&entry.digest).map(|newest| newest.position);
            let (own, shared) = (entry.own_cost(), entry.body.shared_cost());
            let is_newest = newest == Some(entry.position);
            assert_eq!(entry.cost, if is_newest { own + shared } else { own });
        }
        for (key, sequence) in self.payloads.iter() {
            let entry = self.cached(*sequence).expect("a payload without bytes");
            assert_eq!(self.payload_key(&entry.digest), *key);
        }
        assert_eq!(self.looked_up.len(), self.lookups.len());
        for (sequence, lookup) in &self.lookups {
            let looked_up = &self.looked_up[lookup];
            assert_eq!(looked_up.sequence, *sequence);
            let logged = self.log.get(*sequence).filter(|entry| entry.body.is_complete());
            assert_eq!(looked_up.kept.is_some(), logged.is_none());
        }
    }
}
