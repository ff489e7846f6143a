//! Which message is the newest publication of each payload of a topic: a table that never takes
//! long to grow, as it becomes many small ones before it is large.

use crate::engine::memory::evicted_counts::Key;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::BuildHasher as _;

/// Payloads from which on there are many tables: to distribute these takes 0.1 ms.
const ONE: usize = 4096;

/// Tables then: with a million payloads each of them grows by 0.3 ms at a time.
const MANY: usize = 64;

type Table = HashTable<(Key, u64)>;

/// Key → sequence.
#[derive(Debug)]
pub(crate) struct Payloads {
    // One, or many: a power of two.
    tables: Vec<Table>,
    // Publishers can find payloads whose digests agree in as many bits as they like. They do not know
    // the hashes of the keys.
    hasher: RandomState,
    len: usize,
}

impl Default for Payloads {
    fn default() -> Self {
        Self { tables: vec![Table::new()], hasher: RandomState::default(), len: 0 }
    }
}

impl Payloads {
    // The hash of a key, and its table: of these bits a table takes the lowest and the highest.
    fn at(&self, key: &Key) -> (u64, usize) {
        let hash = self.hasher.hash_one(key);
        (hash, (hash >> 40) as usize & (self.tables.len() - 1))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.tables.iter().map(Table::capacity).sum()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&u64> {
        let (hash, at) = self.at(key);
        self.tables[at].find(hash, |(other, _)| other == key).map(|(_, sequence)| sequence)
    }

    #[cfg(test)]
    pub(crate) fn contains_key(&self, key: &Key) -> bool {
        self.get(key).is_some()
    }

    /// Enters a sequence, and gives the one before it.
    pub(crate) fn insert(&mut self, key: Key, sequence: u64) -> Option<u64> {
        if self.len == ONE && self.tables.len() == 1 {
            self.distribute(MANY);
        }
        let (hash, at) = self.at(&key);
        let hasher = &self.hasher;
        let rehash = |(key, _): &(Key, u64)| hasher.hash_one(key);
        match self.tables[at].entry(hash, |(other, _)| *other == key, rehash) {
            Entry::Occupied(mut entry) => Some(std::mem::replace(&mut entry.get_mut().1, sequence)),
            Entry::Vacant(entry) => {
                entry.insert((key, sequence));
                self.len += 1;
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<u64> {
        self.remove_if(key, |_| true)
    }

    /// Removes a key if it has this sequence; says whether it had.
    pub(crate) fn remove_at(&mut self, key: &Key, sequence: u64) -> bool {
        self.remove_if(key, |found| found == sequence).is_some()
    }

    fn remove_if(&mut self, key: &Key, is: impl FnOnce(u64) -> bool) -> Option<u64> {
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
            let rehash = |(key, _): &(Key, u64)| hasher.hash_one(key);
            self.tables[at].insert_unique(hash, (key, sequence), rehash);
        }
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &u64)> {
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
            (Payloads::default(), HashMap::<_, _, RandomState>::default());
        let key = |n: u64| Key::new(7, &Digest::of(&n.to_le_bytes()));
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

    // Whoever publishes can look for payloads whose digests agree where it suits them: one table
    // would have them all, and to grow it would take as long as if there were no others.
    #[test]
    fn digests_that_are_alike_do_not_meet_in_one_table() {
        let mut payloads = Payloads::default();
        for n in 0..65_536_u64 {
            let mut digest = [7; 32];
            digest[2..8].copy_from_slice(&n.to_le_bytes()[..6]);
            payloads.insert(Key::new(7, &Digest(digest)), n);
        }
        let most = payloads.tables.iter().map(Table::len).max().unwrap();
        assert!(most < 2 * 65_536 / MANY, "{most}");
    }
}
