//! Publish once by key: a topic remembers the receipts of the keys that were used last.

use crate::engine::cost::KEY_COST;
use crate::engine::publication::{PublicationId, Receipt};
use crate::wire::ProducerId;
use foldhash::fast::RandomState;
use lru::LruCache;

/// Turns idempotency keys into publication ids: see [`Engine::keys`](crate::engine::Engine::keys).
#[derive(Clone, Copy)]
pub struct IdempotencyKeys([u8; 32]);

impl std::fmt::Debug for IdempotencyKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdempotencyKeys")
    }
}

impl IdempotencyKeys {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// Returns the id of a publication under `key`, a text that the publisher chooses.
    ///
    /// The key is hashed with the engine's secret, so that publishers cannot search for two keys
    /// that collide.
    pub fn origin(&self, key: &[u8]) -> PublicationId {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        // Names of topics are hashed with the same secret. No topic begins with these bytes.
        hasher.update(b"\0key\0");
        hasher.update(key);
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        PublicationId { producer: ProducerId(id), number: 0 }
    }
}

/// The keys of a topic that were used last, with their receipts.
///
/// They are separate from the producers, because each publication may have a key of its own. A few
/// of these must not make the topic forget a producer that resends.
#[derive(Debug, Default)]
pub(crate) struct KeyedReceipts(Option<Box<LruCache<ProducerId, Receipt, RandomState>>>);

impl KeyedReceipts {
    pub(crate) fn get(&mut self, key: ProducerId) -> Option<Receipt> {
        self.0.as_mut()?.get(&key).copied()
    }

    /// Remembers the receipt of a new key. Beyond `most` keys, the least recently used is dropped.
    pub(crate) fn put(&mut self, key: ProducerId, receipt: Receipt, most: usize) {
        let table =
            self.0.get_or_insert_with(|| LruCache::unbounded_with_hasher(<_>::default()).into());
        while table.len() >= most.max(1) {
            table.pop_lru();
        }
        table.put(key, receipt);
    }

    /// Returns all of them, the least recently used first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ProducerId, &Receipt)> {
        self.0.iter().flat_map(|table| table.iter().rev())
    }

    pub(crate) fn cost(&self) -> usize {
        self.0.as_ref().map_or(0, |table| table.len() * KEY_COST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Digest;
    use proptest::prelude::*;

    fn receipt(sequence: u64) -> Receipt {
        Receipt { sequence, count: 1, since: 0, digest: Digest([0; 32]), duplicate: false }
    }

    proptest! {
        // Against a list in the order of use.
        #[test]
        fn remembers_the_keys_used_last(
            keys in proptest::collection::vec(0_u8..12, 0..200), most in 1_usize..10,
        ) {
            let mut known = KeyedReceipts::default();
            let mut model: Vec<(u8, u64)> = Vec::new();
            for (sequence, key) in keys.into_iter().enumerate() {
                let id = ProducerId([key; 16]);
                let at = model.iter().position(|(other, _)| *other == key);
                let found = known.get(id).map(|receipt| receipt.sequence);
                let expected = at.map(|at| model.remove(at));
                prop_assert_eq!(found, expected.map(|(_, sequence)| sequence));
                if found.is_none() {
                    known.put(id, receipt(sequence as u64), most);
                }
                model.push(expected.unwrap_or((key, sequence as u64)));
                model.drain(..model.len().saturating_sub(most));
                prop_assert_eq!(known.cost(), model.len() * KEY_COST);
            }
        }
    }

    #[test]
    fn a_key_is_another_origin_under_another_secret() {
        let keys = IdempotencyKeys::new([1; 32]);
        assert_eq!(keys.origin(b"a"), keys.origin(b"a"));
        assert_ne!(keys.origin(b"a"), keys.origin(b"b"));
        assert_ne!(keys.origin(b"a"), IdempotencyKeys::new([2; 32]).origin(b"a"));
        assert!(keys.origin(b"").is_key());
    }
}
