//! The key of a payload in the tables of counts.

use crate::wire::Digest;
use std::hash::{Hash, Hasher};

/// Sixteen bytes of a payload's digest, mixed with the secret key of its topic. Keys are unique in
/// practice, and evenly spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PayloadKey(u64, u64);

impl PayloadKey {
    pub(crate) fn new(topic: u64, digest: &Digest) -> Self {
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&digest.0[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Self(word(0) ^ topic, word(8).wrapping_add(topic))
    }
}

impl PayloadKey {
    /// Returns it as two words.
    pub(crate) fn words(self) -> [u64; 2] {
        [self.0, self.1]
    }

    pub(crate) fn of_words([first, second]: [u64; 2]) -> Self {
        Self(first, second)
    }
}

impl Hash for PayloadKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}
