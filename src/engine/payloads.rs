//! Which message is the newest publication of each payload of a topic: a table that never takes
//! long to grow, as it becomes many small ones before it is large.

use super::ledger::Key;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Payloads from which on there are many tables: to distribute these takes 0.1 ms.
const ONE: usize = 4096;

/// Tables then: with a million payloads each of them grows by 0.3 ms at a time.
const MANY: usize = 64;

type Table = HashMap<Key, u64, RandomState>;

/// Key → sequence.
#[derive(Debug)]
pub(crate) struct Payloads {
    // One, or many.
    tables: Vec<Table>,
    len: usize,
}

impl Default for Payloads {
    fn default() -> Self {
        Self { tables: vec![Table::default()], len: 0 }
    }
}

impl Payloads {
    fn at(&self, key: &Key) -> usize {
        key.spread() as usize % self.tables.len()
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
        self.tables[self.at(key)].get(key)
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
        let at = self.at(&key);
        let before = self.tables[at].insert(key, sequence);
        self.len += usize::from(before.is_none());
        before
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<u64> {
        let at = self.at(key);
        let sequence = self.tables[at].remove(key)?;
        self.removed(at);
        Some(sequence)
    }

    /// Removes a key if it has this sequence; says whether it had.
    pub(crate) fn remove_at(&mut self, key: &Key, sequence: u64) -> bool {
        let at = self.at(key);
        // No entry: where there is none it would make room for it.
        let found = self.tables[at].get(key) == Some(&sequence);
        if found {
            self.tables[at].remove(key);
            self.removed(at);
        }
        found
    }

    fn removed(&mut self, at: usize) {
        self.len -= 1;
        let table = &mut self.tables[at];
        if table.len() < table.capacity() / 8 {
            table.shrink_to(2 * table.len());
        }
        if self.len < ONE / 8 && self.tables.len() > 1 {
            self.distribute(1);
        }
    }

    fn distribute(&mut self, tables: usize) {
        let before = std::mem::take(&mut self.tables);
        self.tables.resize_with(tables, Table::default);
        for (key, sequence) in before.into_iter().flatten() {
            let at = self.at(&key);
            self.tables[at].insert(key, sequence);
        }
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &u64)> {
        self.tables.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Digest;

    #[test]
    fn the_same_as_one_table_while_it_grows_and_shrinks() {
        let (mut payloads, mut model) = (Payloads::default(), Table::default());
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
}
