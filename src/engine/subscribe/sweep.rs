//! A sweep: the search through the names of all topics, in portions.
//!
//! A sweep keeps the cursors that come first by position. Messages beyond those are left for the
//! next window. So the memory that a subscription takes is bounded, however many topics it is
//! behind in, and the order of positions holds over all of them.

use super::cursor::Cursor;
use super::refusals::lagged;
use super::state::State;
use super::table::Subscription;
use crate::engine::Engine;
use crate::engine::budget::{Budget, Charge};
use crate::wire::{Filter, Refusal};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;
use std::sync::Arc;

/// Work of looking into a topic whose name matches, beside the look at its name: the topic is
/// elsewhere in memory, and so is its log.
const CONSIDERED: usize = 3;

/// How far a sweep has come, and what it has found.
#[derive(Debug)]
pub(crate) struct Sweep {
    // The last name of the last portion.
    at: Option<Arc<str>>,
    // Messages after this position are left for the next window: those accepted later, and those
    // for whose cursors there was no room.
    end: u64,
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

    // Returns whether there was room; if not, the subscription has fallen too far behind.
    fn keep(&mut self, cursor: Cursor, window: usize, budget: &Budget) -> bool {
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
}

impl Engine {
    /// Searches the names for as long as there is work left. Returns whether all of them have been
    /// searched; then the window is filled.
    pub(super) fn sweep(
        &self,
        s: &mut Subscription,
        mut sweep: Box<Sweep>,
        filter: &Filter,
        unordered: bool,
        work: &mut usize,
    ) -> Result<bool, Refusal> {
        let prefix = filter.literal_prefix();
        let from = match &sweep.at {
            Some(name) => Bound::Excluded(&**name),
            None => Bound::Included(prefix),
        };
        let mut last: Option<&Arc<str>> = None;
        for (name, slot) in self.by_name.range::<str, _>((from, Bound::Unbounded)) {
            if !name.starts_with(prefix) {
                break;
            }
            if *work == 0 {
                sweep.at = last.cloned();
                s.set_state(State::Sweeping(sweep));
                return Ok(false);
            }
            *work -= 1;
            last = Some(name);
            if !filter.matches(name) {
                continue;
            }
            *work = work.saturating_sub(CONSIDERED);
            if let Some(cursor) = self.cursor_in(s, *slot, unordered)?
                && cursor.position <= sweep.end
                && !sweep.keep(cursor, self.portions.window, &self.budget)
            {
                return Err(lagged(name));
            }
        }
        // Topics that were forgotten during the sweep have not been read completely.
        self.forgotten.check(s, filter, self.run)?;
        let Sweep { end, kept, gapped, charge, .. } = *sweep;
        s.window_end = end;
        let mut cursors = kept.into_vec();
        cursors.retain(|cursor| cursor.position <= end);
        cursors.reserve_exact(gapped.len());
        cursors.extend(gapped);
        s.window = cursors.into_iter().map(Reverse).collect();
        s.window_charge = charge;
        Ok(true)
    }
}
