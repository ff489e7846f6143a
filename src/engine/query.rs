//! Looking things up: one message, or the highest counts.

use super::topic::body::Body;
use super::topic::log::Entry;
use super::{Engine, MessageRef};
use crate::wire::{Code, Digest, ProducerId, Refusal, Which, check_topic};

/// A payload among the most counted of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking {
    /// Digest of the payload.
    pub digest: Digest,
    /// Its count.
    pub count: u64,
    /// As in [`Receipt::since`](super::Receipt::since).
    pub since: u64,
    /// Sequence of its newest publication.
    pub sequence: u64,
    /// Length, bytes.
    pub size: u64,
    /// The payload, if it is still cached and short enough to come along: 1 KiB.
    pub payload: Option<bytes::Bytes>,
}

const COMES_ALONG: usize = 1024;

impl Engine {
    /// Which of a producer's numbers a topic has accepted: all up to the first value, as far as
    /// they were not given up; and of those above it, from the lowest bit on, those set.
    pub fn accepted(&self, topic: &str, producer: ProducerId) -> Option<(u64, u64)> {
        self.topic(self.slot(topic)?)?.producers.accepted(producer)
    }

    /// One message of a topic. To ask for a payload is to use it: it moves to the young end of
    /// the LRU.
    pub fn get(&mut self, topic: &str, which: Which) -> Result<MessageRef<'_>, Refusal> {
        check_topic(topic).map_err(crate::wire::NameError::of_topic)?;
        let before = self.position + 1;
        let slot = self.slot(topic).ok_or_else(|| no_topic(topic))?;
        let Some(found) = self.topics[slot].as_deref_mut() else {
            return Err(no_topic(topic));
        };
        let (first, next) = (found.log.first(), found.log.next());
        let latest = found.latest();
        let digest = match which {
            Which::Digest(digest) => digest,
            Which::Latest => match latest.and_then(|latest| found.log.get(latest)) {
                Some(newest) => newest.digest,
                None if first > 1 => return Err(evicted(topic, first - 1)),
                None => return Err(no_topic(topic)),
            },
            Which::Sequence(sequence) => match found.log.get(sequence) {
                Some(entry) if entry.body.is_complete() => entry.digest,
                Some(entry) => return Err(incomplete(topic, sequence, entry)),
                None if (1..first).contains(&sequence) => return Err(evicted(topic, sequence)),
                None => return Err(no_sequence(topic, sequence, next)),
            },
        };
        let forgotten = found.top.find(&digest).is_some();
        let Some((newest, _)) = found.find(&digest, before) else {
            return Err(if forgotten {
                Refusal::new(
                    Code::EVICTED,
                    format!("the payload {digest} of {topic} has left the cache"),
                )
            } else {
                Refusal::new(
                    Code::NOT_FOUND,
                    format!("no payload {digest} in the cache of {topic}"),
                )
            });
        };
        let found = &*found;
        let (sequence, entry): (u64, Option<&Entry>) = match which {
            Which::Sequence(sequence) => (sequence, found.log.get(sequence)),
            Which::Latest => {
                let latest = latest.unwrap_or(newest);
                (latest, found.log.get(latest))
            }
            Which::Digest(digest) => (newest, found.peek(&digest)),
        };
        let entry = entry.ok_or_else(|| no_topic(topic))?;
        Ok(MessageRef::new(found, sequence, entry))
    }

    /// The epoch of a topic, and the sequence that its next message will have; none before its
    /// first.
    pub fn head(&self, topic: &str) -> Option<(u64, u64)> {
        let found = self.topic(self.slot(topic)?)?;
        Some((found.epoch, found.log.next()))
    }

    /// The most counted payloads of a topic, highest first; at most 100.
    pub fn top(&self, topic: &str, k: usize) -> Result<Vec<Ranking>, Refusal> {
        check_topic(topic).map_err(crate::wire::NameError::of_topic)?;
        let slot = self.by_use.peek(topic).copied();
        let Some(found) = slot.and_then(|slot| self.topic(slot)) else {
            return Err(no_topic(topic));
        };
        let ranking = found.top.iter().take(k).map(|ranked| Ranking {
            digest: ranked.digest,
            count: ranked.count.count,
            since: ranked.count.since,
            sequence: ranked.sequence,
            size: ranked.size,
            payload: found.peek(&ranked.digest).and_then(|entry| match &entry.body {
                Body::Small(encoded) if encoded.size() <= COMES_ALONG => Some(encoded.payload()),
                _ => None,
            }),
        });
        Ok(ranking.collect())
    }
}

fn no_topic(topic: &str) -> Refusal {
    Refusal::new(Code::NOT_FOUND, format!("nothing was published to {topic} yet"))
}

fn no_sequence(topic: &str, sequence: u64, next: u64) -> Refusal {
    Refusal::new(
        Code::NOT_FOUND,
        format!("{topic} has no message {sequence}: its newest is {}", next - 1),
    )
}

fn incomplete(topic: &str, sequence: u64, entry: &Entry) -> Refusal {
    let reason = match entry.body {
        Body::Evicted { .. } => return evicted(topic, sequence),
        Body::Aborted { .. } => "was never completed: its publisher went away",
        _ => "is still arriving",
    };
    Refusal::new(Code::NOT_FOUND, format!("message {sequence} of {topic} {reason}"))
}

fn evicted(topic: &str, sequence: u64) -> Refusal {
    Refusal::new(Code::EVICTED, format!("message {sequence} of {topic} has left the cache"))
}
