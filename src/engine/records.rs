//! The records that an engine makes for its journal.

use super::Engine;
use super::record::Record;

impl Engine {
    /// Makes records from now on: [take](Self::take_records) them after each call.
    pub fn make_records(&mut self) {
        self.records.want();
    }

    /// Returns the number of the last record. Records are counted from 1, in all runs that one
    /// journal has kept.
    pub fn recorded(&self) -> u64 {
        self.records.made()
    }

    /// Moves the records that were made since the last call to `out`.
    pub fn take_records(&mut self, out: &mut Vec<Record>) {
        out.append(self.records.list());
    }

    /// Returns whether there are records to take.
    pub fn has_records(&self) -> bool {
        !self.records.is_empty()
    }
}
