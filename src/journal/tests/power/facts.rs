//! The facts, whatever the journal says.

use crate::engine::PublicationId;
use crate::wire::Digest;
use std::collections::{HashMap, HashSet};

/// The end that a publication survives, as its receipt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    Nothing,
    Kill,
    Power,
}

/// A publication that the engine has accepted.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) topic: usize,
    pub(super) id: u64,
    pub(super) sequence: u64,
    pub(super) digest: Digest,
    pub(super) count: u64,
    pub(super) origin: Option<PublicationId>,
    /// Number of its payload.
    pub(super) payload: usize,
    /// Its first record, and the one by which it was accepted.
    pub(super) begun: u64,
    pub(super) record: u64,
    pub(super) promise: Promise,
}

#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The payloads that subscribers have seen under an epoch and a sequence, in all runs.
    pub(super) shown: HashMap<(u64, u64), (usize, Digest)>,
    /// Everything that was ever accepted: topic, its id, sequence, payload and count.
    pub(super) ever: HashSet<(usize, u64, u64, Digest, u64)>,
    /// How often a payload was ever accepted.
    pub(super) times: HashMap<(usize, Digest), u64>,
    /// The publications that the engine has accepted, and has not lost.
    pub(super) said: Vec<Said>,
    /// The publications that a start has lost, so that their publishers send them again.
    pub(super) again: Vec<Said>,
}

impl Facts {
    /// A subscriber sees a payload, or its beginning.
    pub(super) fn show(&mut self, epoch: u64, sequence: u64, topic: usize, digest: Digest) {
        let before = self.shown.insert((epoch, sequence), (topic, digest));
        assert!(
            before.is_none_or(|before| before == (topic, digest)),
            "topic {topic}: two payloads under epoch {epoch} and sequence {sequence}"
        );
    }

    pub(super) fn accept(&mut self, said: Said) {
        let Said { topic, id, sequence, digest, count, .. } = said;
        self.ever.insert((topic, id, sequence, digest, count));
        *self.times.entry((topic, digest)).or_default() += 1;
        self.said.push(said);
    }

    /// Records up to a number are kept, as far as a promise says. `missing` were given up.
    pub(super) fn promise(&mut self, through: u64, promise: Promise, missing: &[(u64, u64)]) {
        for said in &mut self.said {
            let whole = missing.iter().all(|(from, to)| said.record < *from || *to < said.begun);
            if said.record <= through && whole {
                said.promise = said.promise.max(promise);
            }
        }
    }
}
