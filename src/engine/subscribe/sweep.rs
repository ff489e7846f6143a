//! The progress of a sweep: the search through the names of all topics, in portions.
//!
//! A sweep keeps the cursors that come first by position. Messages beyond those are left for the
//! next window. So the memory that a subscription takes is bounded, however many topics it is
//! behind in, and the order of positions holds over all of them.

use super::cursor::Cursor;
use crate::engine::budget::{Budget, Charge};
use std::collections::BinaryHeap;
use std::sync::Arc;

/// How far a sweep has come, and what it has found.
#[derive(Debug)]
pub(crate) struct Sweep {
    // The last name of the last portion.
    pub(super) at: Option<Arc<str>>,
    // Messages after this position are left for the next window: those accepted later, and those
    // for whose cursors there was no room.
    pub(super) end: u64,
    kept: BinaryHeap<Cursor>,
    // Cursors whose next message has left the log. All of them are kept: gaps come before anything
    // else, so that leaving some for the next window would leave all of them.
    gapped: Vec<Cursor>,
    // Number of cursors that there is room for.
    most: usize,
    charge: Option<Charge>,
}

impl Sweep {
    /// Begins a sweep for messages up to a position, with room for so many cursors.
    pub(crate) fn new(end: u64, most: usize) -> Self {
        Self { at: None, end, kept: BinaryHeap::new(), gapped: Vec::new(), most, charge: None }
    }

    /// Keeps a cursor. Returns whether there was room; if not, the subscription has fallen too far
    /// behind.
    pub(super) fn keep(&mut self, cursor: Cursor, window: usize, budget: &Budget) -> bool {
        if cursor.position == 0 {
            self.gapped.push(cursor);
        } else {
            self.kept.push(cursor);
        }
        if self.kept.len() + self.gapped.len() <= self.most {
            return true;
        }
        // Room for twice as many, if the budget has it.
        let more = (2 * self.most).min(window);
        let bytes = more * size_of::<Cursor>();
        let fits = more > self.most && budget.charge(&mut self.charge, bytes);
        if fits {
            self.most = more;
            // As many as are charged, and the one that may be dropped again.
            self.kept.reserve_exact(more + 1 - self.kept.len());
        } else if let Some(last) = self.kept.pop().filter(|_| !self.kept.is_empty()) {
            self.end = last.position - 1;
        } else {
            return false;
        }
        true
    }

    /// Returns the cursors up to the end of the window, and their charge.
    pub(super) fn into_cursors(self) -> (Vec<Cursor>, Option<Charge>) {
        let Self { end, kept, gapped, charge, .. } = self;
        let mut cursors = kept.into_vec();
        cursors.retain(|cursor| cursor.position <= end);
        cursors.reserve_exact(gapped.len());
        cursors.extend(gapped);
        (cursors, charge)
    }
}
