//! Writing the log: segments, to which blocks are appended.

use super::format::block::{BlockKind, BlockWriter};
use super::format::header::Kind;
use super::format::note::Note;
use super::names::Name;
use super::storage::{Storage, StoredFile};
use std::collections::VecDeque;
use std::io;

/// A segment that is not written any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    // The highest number of a record in it, or in a segment before it.
    pub(crate) last: u64,
}

/// The end of a log.
pub(crate) struct Log {
    before: VecDeque<Segment>,
    // Bytes from which a segment is complete.
    segment: u64,
    // The number that the next segment will have.
    next: u64,
    // The notes at the beginning of each segment: older segments may be gone.
    opened: Vec<Note>,
    current: Option<Current>,
    // The number of the last record.
    last: u64,
    // Something was written to the current segment after the last sync.
    dirty: bool,
    // The file to touch when the next segment is there: the log before it has the note of a good end,
    // which holds for as long as nothing has begun.
    touches: Option<&'static str>,
    // Complete segments that are still to be synced.
    unsynced: Vec<Box<dyn StoredFile>>,
}

struct Current {
    number: u64,
    file: Box<dyn StoredFile>,
    bytes: u64,
}

// `next` is the number of the next record. By it a reader notices that a segment is gone, also if no
// record follows.
fn block(note: &Note, next: u64) -> Vec<u8> {
    let mut block = Vec::new();
    let writer = BlockWriter::new(&mut block, BlockKind::Note, next);
    note.encode(&mut block);
    writer.end(&mut block);
    block
}

impl Log {
    /// Continues a log after its segments. The next file has at least the number `next`.
    pub(crate) fn new(before: Vec<Segment>, next: u64, last: u64, segment: u64) -> Self {
        let next = before.iter().map(|segment| segment.number + 1).fold(next, u64::max);
        Self {
            before: before.into(),
            segment,
            next,
            opened: Vec::new(),
            current: None,
            last,
            dirty: false,
            touches: None,
            unsynced: Vec::new(),
        }
    }

    /// Touches a file before anything is kept, and as soon as a segment can be written.
    pub(crate) fn touch(&mut self, name: &'static str) {
        self.touches = Some(name);
    }

    /// Returns the bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, |current| current.bytes);
        self.before.iter().map(|segment| segment.bytes).sum::<u64>() + current
    }

    /// Returns the number of segments.
    pub(crate) fn segments(&self) -> usize {
        self.before.len() + usize::from(self.current.is_some())
    }

    /// Returns the number of the last record.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Returns the number that the next segment will have.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Returns whether there is something to sync.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty || !self.unsynced.is_empty()
    }

    /// Begins a segment with notes, as all that follow it begin; and syncs.
    pub(crate) fn open(&mut self, storage: &dyn Storage, opened: Vec<Note>) -> io::Result<()> {
        // One that has begun has other notes.
        self.give_up();
        self.opened = opened;
        self.append(storage, &[], self.last)?;
        self.sync()
    }

    /// Writes the note of an end in good order, and syncs.
    pub(crate) fn close(&mut self, storage: &dyn Storage, state: u64) -> io::Result<()> {
        let note = block(&Note::ClosedIn { state }, self.last + 1);
        self.append(storage, &note, self.last)?;
        self.sync()
    }

    /// Appends blocks, of which `last` is the last record.
    ///
    /// After an error, a part of the blocks may be there. It is cut off, because on a full disk the
    /// parts of one attempt after the other would take all that becomes free. If that fails too, the
    /// next call writes to a new segment. A reader passes over such a part.
    pub(crate) fn append(
        &mut self,
        storage: &dyn Storage,
        blocks: &[u8],
        last: u64,
    ) -> io::Result<()> {
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                let current = self.create(storage)?;
                self.current.insert(current)
            }
        };
        self.dirty = true;
        if let Err(error) = current.file.append(blocks) {
            if current.file.cut(current.bytes).is_err() {
                self.give_up();
            }
            return Err(error);
        }
        current.bytes += blocks.len() as u64;
        self.last = last;
        if current.bytes >= self.segment {
            self.give_up();
        }
        Ok(())
    }

    fn create(&mut self, storage: &dyn Storage) -> io::Result<Current> {
        let number = self.next;
        self.next += 1;
        let mut file = storage.create(&Name::Log(number).to_string())?;
        let header = self.header();
        // Without its header, a segment cannot be read. So that is on the disk before any record.
        let written = file.append(&header);
        let written = written.and_then(|()| file.sync()).and_then(|()| storage.sync_names());
        let written = written.and_then(|()| match self.touches.map(|name| storage.touch(name)) {
            // It is written with the next start, or with a good end.
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            touched => touched.unwrap_or(Ok(())),
        });
        if let Err(error) = written {
            // Nobody knows what is in it on the disk.
            if storage.remove(&Name::Log(number).to_string()).is_err() {
                // It is removed with the segments that are there now.
                self.before.push_back(Segment { number, bytes: 0, last: self.last });
            }
            return Err(error);
        }
        self.touches = None;
        Ok(Current { number, file, bytes: header.len() as u64 })
    }

    // The beginning of a segment.
    fn header(&self) -> Vec<u8> {
        let notes = self.opened.iter().flat_map(|note| block(note, self.last + 1));
        Kind::Log.header().into_iter().chain(notes).collect()
    }

    /// Begins another segment now, unless the current one has no records yet: each attempt to take
    /// a snapshot would make one. Its note is there before those of the segments before it are
    /// removed.
    pub(crate) fn begin_segment(&mut self, storage: &dyn Storage) -> io::Result<()> {
        let empty = self.header().len() as u64;
        if self.current.as_ref().is_none_or(|current| current.bytes > empty) {
            self.give_up();
        }
        self.append(storage, &[], self.last)
    }

    /// Begins another segment with the next block.
    pub(crate) fn give_up(&mut self) {
        if let Some(Current { number, bytes, file }) = self.current.take() {
            if std::mem::take(&mut self.dirty) {
                self.unsynced.push(file);
            }
            self.before.push_back(Segment { number, bytes, last: self.last });
        }
    }

    /// Makes everything survive the loss of power.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        while let Some(file) = self.unsynced.last_mut() {
            file.sync()?;
            self.unsynced.pop();
        }
        if self.dirty
            && let Some(current) = &mut self.current
        {
            current.file.sync()?;
        }
        self.dirty = false;
        Ok(())
    }

    /// Returns handles to what is to be synced, for another thread.
    pub(crate) fn begin_sync(&mut self) -> io::Result<Vec<Box<dyn StoredFile>>> {
        if self.dirty
            && let Some(current) = &self.current
        {
            self.unsynced.push(current.file.another()?);
            self.dirty = false;
        }
        Ok(std::mem::take(&mut self.unsynced))
    }

    /// Gives up the oldest segments, whose records all have lower numbers than `from`. Returns their
    /// files, which are to be removed. The newest segment stays, because of its note.
    pub(crate) fn take_before(&mut self, from: u64) -> Vec<String> {
        let mut names = Vec::new();
        let stay = usize::from(self.current.is_none());
        while self.before.len() > stay
            && let Some(oldest) = self.before.front()
            && oldest.last < from
        {
            names.push(Name::Log(oldest.number).to_string());
            self.before.pop_front();
        }
        names
    }
}
