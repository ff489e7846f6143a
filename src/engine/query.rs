//! Look-ups: one message, or the most counted payloads; and the numbers of the engine.

use super::Engine;
use super::figures::EngineFigures;
use super::subscribe::item::MessageRef;
use super::topic::body::Body;
use super::topic::log::Entry;
use crate::wire::{Code, Digest, ProducerId, Refusal, TopicCursor, Which, check_readable_topic};

/// One of the most counted payloads of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ranking {
    /// Digest of the payload.
    pub digest: Digest,
    /// Its count.
    pub count: u64,
    /// As in [`Receipt::since`](super::publication::Receipt::since).
    pub since: u64,
    /// Sequence of its newest publication.
    pub sequence: u64,
    /// Length, bytes.
    pub size: u64,
    /// The payload, if it is cached and at most 1 KiB long.
    pub payload: Option<bytes::Bytes>,
}

/// Maximum length of a payload in a ranking, bytes.
const RANKED_PAYLOAD: usize = 1024;

impl Engine {
    /// Returns which of a producer's numbers a topic has accepted.
    ///
    /// All numbers up to the first value were accepted, or passed by the window. The bits of the
    /// second value, from the lowest on, are set for accepted numbers above that.
    pub fn accepted(&self, topic: &str, producer: ProducerId) -> Option<(u64, u64)> {
        self.topic(self.slot(topic)?)?.accepted(producer)
    }

    /// Returns one message of a topic. That counts as a use of its payload, which moves to the young
    /// end of the LRU.
    ///
    /// # Errors
    ///
    /// The topic is malformed, or the message is not in the cache.
    pub fn get(&mut self, topic: &str, which: Which) -> Result<MessageRef<'_>, Refusal> {
        check_readable_topic(topic).map_err(crate::wire::NameError::of_topic)?;
        self.figures.lookups += 1;
        let (before, now) = (self.position + 1, self.now);
        let slot = self.slot(topic).ok_or_else(|| no_topic(topic))?;
        let Some(found) = self.topics[slot].as_deref_mut() else {
            return Err(no_topic(topic));
        };
        let (first, next) = (found.first_sequence(), found.next_sequence());
        let latest = found.latest();
        let digest = match which {
            Which::Digest(digest) => digest,
            Which::Latest => match latest.and_then(|latest| Some((latest, found.entry(latest)?))) {
                Some((latest, newest)) => {
                    if let Some(gone) = found.why_gone(latest, now) {
                        return Err(gone.refusal(topic, latest));
                    }
                    newest.digest
                }
                None if first > 1 => return Err(evicted(topic, first - 1)),
                None => return Err(no_topic(topic)),
            },
            Which::Sequence(sequence) => match found.entry(sequence) {
                Some(entry) if entry.body.is_complete() => {
                    if let Some(gone) = found.why_gone(sequence, now) {
                        return Err(gone.refusal(topic, sequence));
                    }
                    entry.digest
                }
                Some(entry) => return Err(incomplete(topic, sequence, entry)),
                None if (1..first).contains(&sequence) => return Err(evicted(topic, sequence)),
                None => return Err(no_sequence(topic, sequence, next)),
            },
        };
        if let Which::Digest(digest) = which
            && let Some((newest, Some(gone))) = found.find(&digest, now)
        {
            return Err(gone.refusal(topic, newest));
        }
        let is_counted = found.top_count(&digest).is_some();
        let Some((newest, _)) = found.look_up(&digest, before) else {
            return Err(if is_counted {
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
            Which::Sequence(sequence) => (sequence, found.entry(sequence)),
            Which::Latest => {
                let latest = latest.unwrap_or(newest);
                (latest, found.entry(latest))
            }
            Which::Digest(digest) => (newest, found.peek(&digest)),
        };
        let entry = entry.ok_or_else(|| no_topic(topic))?;
        self.figures.hits += 1;
        Ok(MessageRef::new(found, sequence, entry))
    }

    /// Returns whether a subscription has a filter that matches a topic.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let mut found = false;
        self.filters.tree.matching(topic, None, |group| {
            found |= group.is_some();
            !found
        });
        found
    }

    /// Returns the cursor at the head of a topic: the sequence that its next message will have. None
    /// before its first message.
    pub fn head(&self, topic: &str) -> Option<TopicCursor> {
        let found = self.topic(self.slot(topic)?)?;
        Some(TopicCursor { epoch: found.epoch(), next: found.next_sequence() })
    }

    /// Returns the numbers of this engine. It takes less than a microsecond, whatever the engine
    /// holds.
    pub fn figures(&self) -> EngineFigures {
        let lowest = self.subscriptions.positions.lowest();
        EngineFigures {
            forgotten_counts: self.evicted_counts.forgotten(),
            topics: self.topics() as u64,
            subscriptions: self.subscriptions() as u64,
            backlog: lowest.map_or(0, |lowest| self.position.saturating_sub(lowest)),
            topic_bytes: self.bytes as u64,
            held_bytes: self.budget.held() as u64,
            count_bytes: (self.limits.cache / 4) as u64,
            cache_bytes: self.limits.cache as u64,
            ..self.figures
        }
    }

    /// Returns the most counted payloads of a topic, highest count first; at most 100.
    pub fn top(&self, topic: &str, k: usize) -> Result<Vec<Ranking>, Refusal> {
        check_readable_topic(topic).map_err(crate::wire::NameError::of_topic)?;
        let slot = self.by_use.peek(topic).copied();
        let Some(found) = slot.and_then(|slot| self.topic(slot)) else {
            return Err(no_topic(topic));
        };
        let ranking = found.top().take(k).map(|ranked| Ranking {
            digest: ranked.digest,
            count: ranked.count.count,
            since: ranked.count.since,
            sequence: ranked.sequence,
            size: ranked.size,
            payload: found
                .peek(&ranked.digest)
                .filter(|_| {
                    let found = found.find(&ranked.digest, self.now);
                    found.is_some_and(|(_, gone)| gone.is_none())
                })
                .and_then(|entry| match &entry.body {
                    Body::Small(encoded) if encoded.size() <= RANKED_PAYLOAD => {
                        Some(encoded.payload())
                    }
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
