//! A publication, how a repetition of it is recognised, and its receipt.

use super::payload::Payload;
use crate::wire::{Digest, ProducerId};
use serde::{Deserialize, Serialize};

/// A payload for a topic, as a publisher hands it over.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Opaque bytes. Up to [`INLINE`](crate::wire::INLINE) they are copied, once for all
    /// subscribers. Longer ones are shared.
    pub payload: &'a Payload,
    /// [`Digest::of`] the payload. The caller computes it, so that hashing holds no lock.
    pub digest: Digest,
    /// The publisher's clock, µs since 1970; 0 is none.
    pub stamp: u64,
    /// Its producer and number, or its [key](super::IdempotencyKeys). Without one, every call
    /// counts.
    pub origin: Option<PublicationId>,
}

/// Identifies a publication, so that a repetition is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublicationId {
    /// The producer; or, if the number is 0, a hash of the idempotency key.
    pub producer: ProducerId,
    /// The producer's number for it: 1, 2, 3 … per topic. 0 is a publication under a key of its
    /// own: see [`Engine::keys`](crate::engine::Engine::keys).
    pub number: u64,
}

impl PublicationId {
    /// Returns whether this is a key, and not a producer's number.
    pub fn is_key(&self) -> bool {
        self.number == 0
    }
}

/// A publication was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Its sequence in the topic; 0 in a repeated receipt whose message has left the cache.
    ///
    /// A repeated receipt has the sequence for as long as the message is cached and its number is
    /// less than the [window](super::Limits::window) behind its producer's newest. For older
    /// numbers it may be 0 too, if the numbers arrive far out of order or the producer's messages
    /// are far apart in the log. The receipt of a key is kept with the key.
    pub sequence: u64,
    /// Times the payload was published to the topic, that time included; 0 as above.
    pub count: u64,
    /// 0: the count covers everything since the topic was created. Else µs since 1970: counting of
    /// this payload restarted then, because an earlier count may have been evicted.
    pub since: u64,
    /// Digest of the payload.
    pub digest: Digest,
    /// Whether it had been accepted before, and so was not counted again.
    pub duplicate: bool,
}
