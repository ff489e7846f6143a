//! A sweep searches the names of all topics, in portions, for what a subscription has not received.

use super::refusals::lagged;
use super::state::State;
use super::subscription::Subscription;
use super::sweep::Sweep;
use crate::engine::Engine;
use crate::wire::{Filter, Refusal};
use std::cmp::Reverse;
use std::ops::Bound;
use std::sync::Arc;

/// Work of looking into a topic whose name matches, beside the look at its name: the topic is
/// elsewhere in memory, and so is its log.
const CONSIDERED: usize = 3;

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
        self.forgotten.check(s, filter, &self.runs)?;
        s.window_end = sweep.end;
        let (cursors, charge) = sweep.into_cursors();
        s.window = cursors.into_iter().map(Reverse).collect();
        s.window_charge = charge;
        Ok(true)
    }
}
