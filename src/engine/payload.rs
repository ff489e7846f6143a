//! A payload, as a publisher hands it over.

use super::rope::Rope;
use crate::wire::{Digest, LARGE};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// A complete payload, prepared for [`Engine::publish`](super::Engine::publish) before the caller
/// takes a lock.
///
/// A payload above [`LARGE`] is cut into chunks, each in memory of its own. So after eviction, a
/// chunk that waits in a transport keeps none of the others in memory.
///
/// ```
/// use weir::engine::Payload;
/// let payload = Payload::from(bytes::Bytes::from(vec![7; 200_000]));
/// assert_eq!(payload.len(), 200_000);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Parts);

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Parts {
    Small(Bytes),
    Large(Arc<Rope>),
}

impl From<Bytes> for Payload {
    /// Copies a large payload. One up to [`LARGE`] is shared, unless it is so short that publishing
    /// copies it. So pass a buffer that holds nothing else.
    fn from(payload: Bytes) -> Self {
        Self(if payload.len() > LARGE {
            Parts::Large(Arc::new(Rope::cut(&payload)))
        } else {
            Parts::Small(payload)
        })
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

impl From<Arc<Rope>> for Payload {
    fn from(rope: Arc<Rope>) -> Self {
        Self(Parts::Large(rope))
    }
}

impl Payload {
    /// Returns the pieces of it, in order; each at most a [`CHUNK`](crate::wire::CHUNK) if it is
    /// large.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        let (small, large) = match &self.0 {
            Parts::Small(payload) => (Some(payload), None),
            Parts::Large(rope) => (None, Some(rope.pieces())),
        };
        small.into_iter().chain(large.into_iter().flatten())
    }

    /// Returns the length, bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Parts::Small(payload) => payload.len(),
            Parts::Large(rope) => rope.len(),
        }
    }

    /// Returns whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Computes the digest, anew with each call.
    pub fn digest(&self) -> Digest {
        match &self.0 {
            Parts::Small(payload) => Digest::of(payload),
            Parts::Large(rope) => {
                let mut hasher = blake3::Hasher::new();
                for piece in rope.pieces() {
                    hasher.update(piece);
                }
                Digest(*hasher.finalize().as_bytes())
            }
        }
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.0
    }
}
