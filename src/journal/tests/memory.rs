//! Files in memory, which remember what was synced.

use crate::journal::storage::{Storage, StoredFile};
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Debug, Clone, Default)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    // The ends of what was written at once since the last sync, after what was synced.
    pub(super) writes: Vec<usize>,
    pub(super) synced: usize,
}

#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) names: BTreeMap<String, usize>,
    pub(super) synced_names: BTreeMap<String, usize>,
    pub(super) files: Vec<File>,
}

/// A storage in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<Mutex<Files>>);

impl Memory {
    pub(super) fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap()
    }
}

struct Handle {
    memory: Memory,
    file: usize,
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Storage for Memory {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.files().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let files = self.files();
        let file = *files.names.get(name).ok_or_else(not_found)?;
        Ok(Box::new(Cursor::new(files.files[file].bytes.clone())))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StoredFile>> {
        let mut files = self.files();
        if files.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let file = files.files.len();
        files.files.push(File::default());
        files.names.insert(name.into(), file);
        Ok(Box::new(Handle { memory: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.names.remove(from).ok_or_else(not_found)?;
        files.names.insert(to.into(), file);
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = *files.names.get(from).ok_or_else(not_found)?;
        files.names.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().names.remove(name).map(drop).ok_or_else(not_found)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = *files.names.get(name).ok_or_else(not_found)?;
        let file = &mut files.files[file];
        (file.synced, file.writes) = (file.bytes.len(), Vec::new());
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut files = self.files();
        files.synced_names = files.names.clone();
        Ok(())
    }
}

impl StoredFile for Handle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = &mut self.memory.files().files[self.file];
        file.bytes.extend_from_slice(bytes);
        file.writes.push(file.bytes.len());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let file = &mut self.memory.files().files[self.file];
        (file.synced, file.writes) = (file.bytes.len(), Vec::new());
        Ok(())
    }

    fn another(&self) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(Self { memory: self.memory.clone(), file: self.file }))
    }
}
