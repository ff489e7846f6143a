//! Cursors aside: their messages still arrive, or wait until another large message has ended, and
//! messages of other topics overtake them.
//!
//! The number of cursors aside is limited, and above a few they are charged to the budget. A slow
//! publisher must not block a subscription: without room for one more cursor, the one that has
//! waited longest skips its message. That message becomes a gap, and its topic goes on after it.

use super::cursor::{Cursor, IfArriving};
use super::item::Item;
use super::read_options::LargePayloads;
use super::refusals::{lagged, waits_too_long};
use super::state::CursorState;
use super::subscription::Subscription;
use crate::engine::Engine;
use crate::engine::budget::Charge;
use crate::engine::cost::ASIDE_COST;
use crate::engine::ids::SubscriptionId;
use crate::engine::topic::body::add_waiter;
use crate::wire::{Code, Lag, Refusal};

/// Work of setting a cursor aside, beside the look at it: the message's list of waiters is
/// elsewhere in memory, and perhaps new.
const SET_ASIDE: usize = 4;

impl Engine {
    /// Sets a cursor aside: it waits for more of its message, or, if it is `blocked`, for another
    /// message to end.
    pub(super) fn set_aside(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        (mut cursor, blocked): (Cursor, bool),
        large: LargePayloads,
        work: &mut usize,
    ) -> Result<(), Refusal> {
        *work = work.saturating_sub(SET_ASIDE);
        let has_room = self.has_room_aside(id, s, work)?;
        let topic = self.topics.get_mut(cursor.slot as usize).and_then(Option::as_deref_mut);
        let arriving = topic.and_then(|topic| topic.arriving_mut(cursor.next));
        let arrives = arriving.is_some();
        if arrives && !has_room {
            // All the other cursors aside wait for the next window.
            if s.lag == Lag::Disconnect {
                return Err(self.waits_too_long(&cursor));
            }
            cursor.if_arriving = IfArriving::Skip;
            s.set_cursor(cursor, CursorState::Ready);
            return Ok(());
        }
        if let Some(arriving) = arriving {
            let until_complete = large == LargePayloads::WhenComplete
                || cursor.if_arriving == IfArriving::AwaitCompletion
                || blocked;
            let list = if until_complete {
                &mut arriving.completion_waiters
            } else {
                &mut arriving.chunk_waiters
            };
            add_waiter(list, id);
        }
        // A complete message that is blocked by the open one has been aside before: it comes
        // before the open one. So there is room for it.
        let state =
            if blocked { CursorState::Blocked { arriving: arrives } } else { CursorState::Stalled };
        s.set_cursor(cursor, state);
        Ok(())
    }

    /// Keeps a cursor for the next window.
    pub(super) fn keep_for_next_window(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        cursor: Cursor,
        work: &mut usize,
    ) -> Result<(), Refusal> {
        if !self.has_room_aside(id, s, work)? {
            return Err(lagged(self.topic_name(cursor.slot)));
        }
        s.set_cursor(cursor, CursorState::NextWindow);
        Ok(())
    }

    /// Aborts the open message, so that another one can be read. It is read again from its
    /// beginning once it is complete.
    pub(super) fn give_way(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        sink: &mut impl FnMut(Item<'_>),
    ) {
        let Some(open) = s.open.take() else {
            return;
        };
        sink(Item::Abort { code: Code::OVERTAKEN });
        if let Some(waiting) = s.aside.get_mut(&open.slot) {
            waiting.cursor.if_arriving = IfArriving::AwaitCompletion;
            let topic = self.topics.get_mut(open.slot as usize).and_then(Option::as_deref_mut);
            let arriving = topic.and_then(|topic| topic.arriving_mut(waiting.cursor.next));
            if let Some(arriving) = arriving {
                add_waiter(&mut arriving.completion_waiters, id);
            }
        }
    }

    // Returns whether there is room for one more cursor aside, perhaps in place of another.
    fn has_room_aside(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        work: &mut usize,
    ) -> Result<bool, Refusal> {
        if self.fits_aside(s) {
            return Ok(true);
        }
        // Looking through the cursors is work as well.
        *work = work.saturating_sub(s.aside.len() / 8);
        let open = s.open.map(|open| open.slot);
        let listed = s.aside.iter().filter(|(slot, waiting)| {
            // The open message goes on, and gives way to what is complete.
            waiting.state.is_listed() && Some(**slot) != open
        });
        let Some(slot) = listed.min_by_key(|(_, waiting)| waiting.cursor).map(|(slot, _)| *slot)
        else {
            return Ok(false);
        };
        let Some(waiting) = s.aside.get_mut(&slot) else {
            return Ok(false);
        };
        let topic = self.topics.get_mut(slot as usize).and_then(Option::as_deref_mut);
        let arriving = topic.and_then(|topic| topic.arriving_mut(waiting.cursor.next));
        // If the message no longer arrives, the subscription was about to be woken for that.
        if let Some(arriving) = arriving {
            if s.lag == Lag::Disconnect {
                let cursor = waiting.cursor;
                return Err(self.waits_too_long(&cursor));
            }
            arriving.chunk_waiters.remove(&id);
            arriving.completion_waiters.remove(&id);
            waiting.cursor.if_arriving = IfArriving::Skip;
        }
        s.make_ready(slot);
        Ok(true)
    }

    fn waits_too_long(&self, cursor: &Cursor) -> Refusal {
        waits_too_long(self.topic_name(cursor.slot), cursor)
    }

    fn topic_name(&self, slot: u32) -> &str {
        self.topic(slot as usize).map_or("", |topic| topic.name())
    }

    // Returns whether one more cursor fits beside those that are aside.
    fn fits_aside(&self, s: &mut Subscription) -> bool {
        let charged = s.aside_charge.as_ref().map_or(0, Charge::bytes);
        let most = self.portions.aside_free.max(charged / ASIDE_COST);
        if s.aside.len() < most {
            return true;
        }
        let bytes = (2 * most).min(self.portions.aside) * ASIDE_COST;
        most < self.portions.aside && self.budget.charge(&mut s.aside_charge, bytes)
    }
}
