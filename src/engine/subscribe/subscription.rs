//! One subscription: its position, and its cursors while it is behind.

use super::cursor::{Cursor, NewMessage, OpenMessage};
use super::filter_tree::GroupId;
use super::had::HadRanges;
use super::start::StartFrom;
use super::state::{CursorState, State, WaitingCursor};
use crate::engine::budget::Charge;
use crate::engine::positions::Registered;
use crate::wire::{Filter, Lag};
use foldhash::fast::RandomState;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

/// One subscription. A live delivery uses the fields in front, up to `registered`: 144 bytes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Subscription {
    pub(crate) birth: u32,
    pub(crate) group: GroupId,
    pub(crate) state: State,
    // It was listed to be woken, since a read last found nothing more.
    pub(crate) wake_queued: bool,
    pub(crate) lag: Lag,
    // The filter is a topic.
    pub(crate) exact: bool,
    // It has received everything up to this position, except for what is in the window or aside.
    pub(crate) delivered_through: u64,
    // Everything up to this position that it has not received is in the window or aside.
    pub(crate) window_end: u64,
    // The message that comes after `delivered_through`, if that is known.
    pub(crate) woken_by: Option<NewMessage>,
    pub(crate) window: BinaryHeap<Reverse<Cursor>>,
    // The sequences above holes that the client has received, all of them up to `began_at`. They are
    // kept until all cursors have passed them. For repairs of a subscription that is read unordered,
    // they are kept to its end.
    pub(crate) had: Option<Box<HadRanges>>,
    pub(crate) registered: Registered,
    // The engine's position when it began.
    pub(crate) began_at: u64,
    // Its start. It is kept until the subscription has received everything up to `began_at`.
    pub(crate) start: Option<Box<StartFrom>>,
    // The part of it that remains after that, for topics that an earlier run did not keep. `start_charge`
    // is for either.
    pub(crate) unresolved: Option<Box<StartFrom>>,
    // The engine's number of complete uploads when it began.
    pub(crate) completed_uploads: u64,
    // At most one message is read in parts at a time.
    pub(crate) open: Option<OpenMessage>,
    // Cursors that are not ready, by slot.
    pub(crate) aside: HashMap<u32, WaitingCursor, RandomState>,
    // None if it follows a message.
    pub(crate) filter: Option<Filter>,
    // The sequences at which it began in the topics that were announced to it, by id; only if it is
    // read unordered.
    // No hash table: one of that size takes a millisecond to grow.
    pub(crate) announced: BTreeMap<u64, u64>,
    // Ids below this have been checked in the current round.
    pub(crate) announced_checked: u64,
    // Records of forgotten topics below this number have been checked.
    pub(crate) forgotten_checked: u64,
    pub(crate) start_charge: Option<Charge>,
    pub(crate) had_charge: Option<Charge>,
    pub(crate) window_charge: Option<Charge>,
    pub(crate) aside_charge: Option<Charge>,
    pub(crate) announced_charge: Option<Charge>,
}

impl Subscription {
    pub(super) fn new(birth: u32, lag: Lag, state: State, position: u64) -> Self {
        Self {
            birth,
            group: 0,
            state,
            wake_queued: false,
            lag,
            exact: false,
            delivered_through: position,
            window_end: position,
            began_at: position,
            woken_by: None,
            registered: Registered::default(),
            window: BinaryHeap::new(),
            start: None,
            unresolved: None,
            had: None,
            completed_uploads: 0,
            open: None,
            aside: HashMap::default(),
            filter: None,
            announced: BTreeMap::new(),
            announced_checked: 0,
            forgotten_checked: 0,
            start_charge: None,
            had_charge: None,
            window_charge: None,
            aside_charge: None,
            announced_charge: None,
        }
    }

    pub(super) fn is_following(&self) -> bool {
        matches!(self.state, State::Following(_))
    }

    /// Changes the state, and returns the one before.
    pub(crate) fn set_state(&mut self, next: State) -> State {
        debug_assert!(self.state.may_become(&next), "{:?} becomes {next:?}", self.state);
        std::mem::replace(&mut self.state, next)
    }

    pub(crate) fn is_at_head(&self) -> bool {
        matches!(self.state, State::AtHead { .. })
    }

    pub(crate) fn is_sweeping(&self) -> bool {
        matches!(self.state, State::Sweeping(_))
    }

    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.state, State::Ending(_))
    }

    /// Returns whether there is nothing to read until the subscription is woken.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_at_head() && self.window.is_empty()
    }

    /// Returns whether it has received everything that was there when it began.
    pub(crate) fn has_passed_start(&self) -> bool {
        self.start.is_none() && self.window.is_empty() && self.aside.is_empty()
    }

    /// Puts a cursor that is in no table where its state belongs.
    pub(crate) fn set_cursor(&mut self, cursor: Cursor, state: CursorState) {
        debug_assert!(!self.aside.contains_key(&cursor.slot), "a topic with two cursors");
        match state {
            // Not `extend`, which may rebuild the whole heap.
            CursorState::Ready => self.window.push(Reverse(cursor)),
            _ => _ = self.aside.insert(cursor.slot, WaitingCursor { cursor, state }),
        }
    }

    /// Makes the waiting cursor of a topic ready. Returns whether there was one.
    pub(crate) fn make_ready(&mut self, slot: u32) -> bool {
        let Some(waiting) = self.aside.remove(&slot) else {
            return false;
        };
        self.window.push(Reverse(waiting.cursor));
        true
    }

    /// Makes all waiting cursors ready whose state `is` accepts.
    pub(crate) fn make_all_ready(&mut self, is: impl Fn(CursorState) -> bool) {
        // A table that once was large takes long to look through.
        if self.aside.is_empty() {
            return;
        }
        let ready = self.aside.extract_if(|_, waiting| is(waiting.state));
        self.window.extend(ready.map(|(_, waiting)| Reverse(waiting.cursor)));
    }
}
