//! The newest publication of each payload of a topic: a table that never takes long to grow, because
//! it becomes many small tables before it is large.

use super::payload_key::PayloadKey;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::BuildHasher as _;

/// Number of payloads from which on there are many tables. Distributing them takes 0.1 ms.
const ONE: usize = 4096;

/// Number of tables then. With a million payloads, growing one of them takes 0.3 ms.
const MANY: usize = 64;

type Table = HashTable<(PayloadKey, u64)>;

/// PayloadKey → sequence.
#[derive(Debug)]
pub(crate) struct PayloadIndex {
    // One, or many: a power of two.
    tables: Vec<Table>,
    // Publishers can find payloads whose digests agree in many bits. They do not know the hashes of
    // the keys.
    hasher: RandomState,
    len: usize,
}

impl Default for PayloadIndex {
    fn default() -> Self {
        Self { tables: vec![Table::new()], hasher: RandomState::default(), len: 0 }
    }
}

impl PayloadIndex {
    // The hash of a key, and its table. A table itself uses the lowest and the highest bits.
    fn at(&self, key: &PayloadKey) -> (u64, usize) {
        let hash = self.hasher.hash_one(key);
        (hash, (hash >> 40) as usize & (self.tables.len() - 1))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn capacity(&self) -> usize {
        self.tables.iter().map(Table::capacity).sum()
    }

    pub(crate) fn get(&self, key: &PayloadKey) -> Option<&u64> {
        let (hash, at) = self.at(key);
        self.tables[at].find(hash, |(other, _)| other == key).map(|(_, sequence)| sequence)
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn contains_key(&self, key: &PayloadKey) -> bool {
        self.get(key).is_some()
    }

    /// Enters a sequence, and returns the one before it.
    pub(crate) fn insert(&mut self, key: PayloadKey, sequence: u64) -> Option<u64> {
        if self.len == ONE && self.tables.len() == 1 {
            self.distribute(MANY);
        }
        let (hash, at) = self.at(&key);
        let hasher = &self.hasher;
        let rehash = |(key, _): &(PayloadKey, u64)| hasher.hash_one(key);
        match self.tables[at].entry(hash, |(other, _)| *other == key, rehash) {
            Entry::Occupied(mut entry) => Some(std::mem::replace(&mut entry.get_mut().1, sequence)),
            Entry::Vacant(entry) => {
                entry.insert((key, sequence));
                self.len += 1;
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &PayloadKey) -> Option<u64> {
        self.remove_if(key, |_| true)
    }

    /// Removes a key if it has this sequence. Returns whether it had.
    pub(crate) fn remove_at(&mut self, key: &PayloadKey, sequence: u64) -> bool {
        self.remove_if(key, |found| found == sequence).is_some()
    }

    fn remove_if(&mut self, key: &PayloadKey, is: impl FnOnce(u64) -> bool) -> Option<u64> {
        let (hash, at) = self.at(key);
        let found = self.tables[at].find_entry(hash, |(other, _)| other == key).ok()?;
        if !is(found.get().1) {
            return None;
        }
        let ((_, sequence), _) = found.remove();
        self.removed(at);
        Some(sequence)
    }

    fn removed(&mut self, at: usize) {
        self.len -= 1;
        let table = &mut self.tables[at];
        if table.len() < table.capacity() / 8 {
            let hasher = &self.hasher;
            table.shrink_to(2 * table.len(), |(key, _)| hasher.hash_one(key));
        }
        if self.len < ONE / 8 && self.tables.len() > 1 {
            self.distribute(1);
        }
    }

    fn distribute(&mut self, tables: usize) {
        let before = std::mem::take(&mut self.tables);
        self.tables.resize_with(tables, Table::new);
        for (key, sequence) in before.into_iter().flatten() {
            let (hash, at) = self.at(&key);
            let hasher = &self.hasher;
            let rehash = |(key, _): &(PayloadKey, u64)| hasher.hash_one(key);
            self.tables[at].insert_unique(hash, (key, sequence), rehash);
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PayloadKey, &u64)> {
        self.tables.iter().flatten().map(|(key, sequence)| (key, sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Digest;
    use std::collections::HashMap;

    #[test]
    fn the_same_as_one_table_while_it_grows_and_shrinks() {
        let (mut payloads, mut model) =
            (PayloadIndex::default(), HashMap::<_, _, RandomState>::default());
        let key = |n: u64| PayloadKey::new(7, &Digest::of(&n.to_le_bytes()));
        for n in 0..10_000 {
            assert_eq!(payloads.insert(key(n), n), model.insert(key(n), n));
            assert_eq!(payloads.insert(key(n / 2), n), model.insert(key(n / 2), n));
        }
        for n in 0..10_100 {
            assert_eq!(payloads.get(&key(n)), model.get(&key(n)));
            assert_eq!(payloads.remove(&key(n)), model.remove(&key(n)));
            assert_eq!(payloads.len(), model.len());
        }
        assert!(payloads.capacity() < 64);
    }

    // A publisher can search for payloads whose digests agree in some bits. If all of those were in
    // one table, that would take as long to grow as a single one.
    #[test]
    fn digests_that_are_alike_do_not_meet_in_one_table() {
        let mut payloads = PayloadIndex::default();
        for n in 0..65_536_u64 {
            let mut digest = [7; 32];
            digest[2..8].copy_from_slice(&n.to_le_bytes()[..6]);
            payloads.insert(PayloadKey::new(7, &Digest(digest)), n);
        }
        let most = payloads.tables.iter().map(Table::len).max().unwrap();
        assert!(most < 2 * 65_536 / MANY, "{most}");
    }
}
