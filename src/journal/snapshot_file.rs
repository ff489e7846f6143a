//! Writing a snapshot: under another name until it is complete.

use super::format::block::{BlockKind, BlockWriter};
use super::format::header::Kind;
use super::format::part;
use super::names::Name;
use super::storage::{Storage, StoredFile};
use crate::engine::Part;
use std::io;

/// Bytes after which a snapshot is synced, 8 MiB.
const SYNC: u64 = 8 << 20;

/// A snapshot that is being written.
pub(crate) struct SnapshotFile {
    number: u64,
    file: Box<dyn StoredFile>,
    bytes: u64,
    block: Vec<u8>,
    // Bytes since the last sync.
    unsynced: u64,
    // Of the last part.
    records_from: Option<u64>,
}

impl SnapshotFile {
    pub(crate) fn create(storage: &dyn Storage, number: u64) -> io::Result<Self> {
        let file = storage.create(&Name::Partial(number).to_string())?;
        let header = Kind::Snapshot.header();
        let bytes = header.len() as u64;
        let (block, unsynced, records_from) = (Vec::new(), 0, None);
        let mut this = Self { number, file, bytes, block, unsynced, records_from };
        match this.file.append(&header) {
            Ok(()) => Ok(this),
            Err(error) => {
                this.abandon(storage);
                Err(error)
            }
        }
    }

    /// Makes what it has survive the loss of power.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn push(&mut self, part: Part) -> io::Result<()> {
        // A part of a table may have no counts.
        if matches!(&part, Part::Counts(counts) if counts.is_empty()) {
            return Ok(());
        }
        if let Part::End { records_from, .. } = part {
            self.records_from = Some(records_from);
        }
        self.block.clear();
        let writer = BlockWriter::new(&mut self.block, BlockKind::Part, 0);
        part::encode(&mut self.block, part);
        writer.end(&mut self.block);
        self.bytes += self.block.len() as u64;
        self.unsynced += self.block.len() as u64;
        self.file.append(&self.block)?;
        if self.unsynced >= SYNC {
            // A little at a time, so that the log's syncs do not wait behind all of it.
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Makes it the newest snapshot, once it has its last part. Older snapshots go. Returns the
    /// number of the first record that is needed beside it.
    pub(crate) fn finish(mut self, storage: &dyn Storage) -> io::Result<u64> {
        let number = self.number;
        let records_from = match self.complete(storage) {
            Ok(records_from) => records_from,
            Err(error) => {
                // The next attempt has another name. So this one would stay, and fill the disk.
                self.abandon(storage);
                return Err(error);
            }
        };
        storage.sync_names()?;
        for name in storage.names()? {
            if let Some(Name::Snapshot(older) | Name::Partial(older)) = Name::parse(&name)
                && older < number
            {
                storage.remove(&name)?;
            }
        }
        Ok(records_from)
    }

    // Gives it the name of a snapshot.
    fn complete(&mut self, storage: &dyn Storage) -> io::Result<u64> {
        let records_from = self.records_from.ok_or_else(|| io::Error::other("not complete"))?;
        self.file.sync()?;
        let (number, from) = (Name::Snapshot(self.number), Name::Partial(self.number));
        storage.rename(&from.to_string(), &number.to_string())?;
        Ok(records_from)
    }

    /// Removes it.
    pub(crate) fn abandon(self, storage: &dyn Storage) {
        // It is removed with the next start otherwise.
        let _ = storage.remove(&Name::Partial(self.number).to_string());
    }
}
