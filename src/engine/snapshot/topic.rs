//! A topic's state beside its messages, and how it is put back.

use super::{SavedBody, SavedCount, SavedKey, SavedMessage, SavedRank, TopicState};
use crate::engine::limits::Limits;
use crate::engine::payload::Payload;
use crate::engine::publication::Receipt;
use crate::engine::record::{Place, Total};
use crate::engine::topic::Topic;
use crate::engine::topic::body::{Arriving, Body};
use crate::engine::topic::counts::Count;
use crate::engine::topic::log::Entry;
use crate::wire::Digest;
use std::sync::Arc;

impl Topic {
    pub(super) fn save(&self, recorded: u64) -> TopicState {
        let keys = self.keys().map(|(key, receipt)| {
            let Receipt { sequence, count, since, digest, .. } = *receipt;
            SavedKey { key: *key, sequence, total: Total { digest, count, since } }
        });
        let top = self.top().map(|ranked| {
            let Count { count, since } = ranked.count;
            let total = Total { digest: ranked.digest, count, since };
            SavedRank { total, sequence: ranked.sequence, size: ranked.size }
        });
        let overtaken = self.overtaken().iter();
        TopicState {
            id: self.id(),
            name: self.name().clone(),
            created_at: self.created_at(),
            next: self.next_sequence(),
            evicted_through: self.evicted_through(),
            recorded,
            windows: self.windows(),
            keys: keys.collect(),
            top: top.collect(),
            overtaken: overtaken.map(|(at, count)| (*at, count.count, count.since)).collect(),
            ends: self.past().ends().to_vec(),
        }
    }

    pub(super) fn save_message(&self, sequence: u64) -> Option<SavedMessage> {
        let entry = self.entry(sequence)?;
        let Entry { position, accepted, stamp, origin, .. } = *entry;
        let Count { count, since } = entry.count;
        let total = Total { digest: entry.digest, count, since };
        let body = match &entry.body {
            body if body.is_complete() => SavedBody::Complete(total, body.kept()),
            Body::Arriving(arriving) => {
                SavedBody::Arriving(arriving.size as u64, Arc::new(arriving.rope.clone()).into())
            }
            Body::Aborted { .. } => SavedBody::Aborted,
            _ => SavedBody::Evicted,
        };
        let place = Place { position, accepted, stamp, origin };
        Some(SavedMessage { sequence, place, body })
    }

    /// Puts back what was saved without the messages. The list of the most counted payloads
    /// follows with [`finish`](Self::finish), because messages would change it.
    pub(super) fn put_state(&mut self, limits: &Limits, state: &TopicState) {
        self.start_at(state.next, state.evicted_through);
        self.past_mut().put_ends(&state.ends);
        for window in &state.windows {
            self.put_window(window, limits);
        }
        for SavedKey { key, sequence, total } in &state.keys {
            let Total { digest, count, since } = *total;
            let sequence = *sequence;
            let receipt = Receipt { sequence, count, since, digest, duplicate: false };
            self.put_key(*key, receipt, limits);
        }
    }

    /// Appends a message that was saved.
    pub(super) fn put_message(&mut self, limits: &Limits, message: &SavedMessage, body: Body) {
        let Place { position, accepted, stamp, origin } = message.place;
        let (count, digest) = match &message.body {
            SavedBody::Complete(total, _) => {
                (Count { count: total.count, since: total.since }, total.digest)
            }
            _ => (Count { count: 0, since: 0 }, Digest([0; 32])),
        };
        let entry = Entry { position, accepted, origin, stamp, count, digest, body, cost: 0 };
        self.put_entry(limits, entry);
    }

    /// Puts back what messages would have changed.
    pub(super) fn finish(&mut self, state: &TopicState) {
        self.put_top(state.top.iter().map(|rank| {
            let Total { digest, count, since } = rank.total;
            crate::engine::topic::counts::Ranked {
                digest,
                count: Count { count, since },
                sequence: rank.sequence,
                size: rank.size,
            }
        }));
        for (sequence, count, since) in &state.overtaken {
            self.put_overtaken(*sequence, Count { count: *count, since: *since });
        }
    }

    /// Copies the counts of the next payloads that have outlived their messages. Returns the
    /// look-up after which to go on, or none at the end.
    pub(super) fn save_kept(
        &self,
        after: u64,
        most: usize,
        out: &mut Vec<SavedCount>,
    ) -> Option<u64> {
        let mut last = None;
        for (lookup, digest, count) in self.kept_after(after).take(most) {
            out.extend(count.map(|count| saved(self.payload_key(&digest).words(), count)));
            last = Some(lookup);
        }
        last
    }
}

pub(super) fn saved(key: [u64; 2], Count { count, since }: Count) -> SavedCount {
    SavedCount { key, count, since }
}

/// Returns the body of a message that arrives. None if it has more bytes than it may.
pub(super) fn arriving(size: u64, bytes: &Payload) -> Option<Body> {
    let size = usize::try_from(size).ok().filter(|size| bytes.len() <= *size)?;
    let mut arriving = Box::new(Arriving::new(size));
    bytes.pieces().for_each(|piece| arriving.rope.push(piece.clone()));
    Some(Body::Arriving(arriving))
}
