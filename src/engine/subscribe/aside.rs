//! What waits aside: a cursor whose message still arrives, or comes in its turn after another large
//! one, while messages of other topics overtake it.
//!
//! So many wait, and as many as there is room for. Whoever publishes slowly is not to hold others
//! up: where there is no room for one more, the one that has waited longest is given up. Its message
//! is told as a gap, and its topic goes on after that.

use super::discover::lagged;
use super::replay::LargePayloads;
use super::table::{Arrives, Cursor, Subscription, Subscriptions, Waits, Why};
use crate::engine::{Charge, Engine, Item, SubscriptionId};
use crate::wire::{Code, Lag, Refusal};
use std::cmp::Reverse;

/// What one topic aside costs, bytes: [`Portions::aside`](super::discover::Portions::aside).
const ASIDE_COST: usize = 128;

/// What it takes to wait for what arrives, beside the look at it: the list of those who wait is
/// somewhere else in memory, and perhaps new.
const SET_ASIDE: usize = 4;

impl Engine {
    /// A cursor waits, for its message or for another to come to its end.
    pub(crate) fn set_aside(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        (mut cursor, why): (Cursor, Why),
        large: LargePayloads,
        work: &mut usize,
    ) -> Result<(), Refusal> {
        *work = work.saturating_sub(SET_ASIDE);
        let has_room = self.has_room_aside(id, s, work)?;
        let topic = self.topics.get_mut(cursor.slot as usize).and_then(Option::as_deref_mut);
        let entry = topic.and_then(|topic| topic.log.get_mut(cursor.next));
        let arriving = entry.and_then(|entry| entry.body.arriving());
        let arrives = arriving.is_some();
        if arrives && !has_room {
            // All the others come with the next window.
            if s.lag == Lag::Disconnect {
                return Err(self.waits_too_long(&cursor));
            }
            cursor.arrives = Arrives::Passed;
            s.window.push(Reverse(cursor));
            return Ok(());
        }
        if let Some(arriving) = arriving {
            let whole = large == LargePayloads::WhenComplete
                || cursor.arrives == Arrives::Patient
                || why == Why::Blocked;
            let list = if whole { &mut arriving.whole } else { &mut arriving.waiting };
            Subscriptions::line_up(list, id);
        }
        // One that is complete, and waits for what is open, has waited aside before: it stands
        // before that. So its place is free.
        s.aside.insert(cursor.slot, Waits { cursor, why, arrives });
        Ok(())
    }

    /// What comes next in a topic is left for the next window.
    pub(crate) fn put_off(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        cursor: Cursor,
        work: &mut usize,
    ) -> Result<(), Refusal> {
        if !self.has_room_aside(id, s, work)? {
            return Err(lagged(self.topic(cursor.slot as usize).map_or("", |topic| &topic.name)));
        }
        s.aside.insert(cursor.slot, Waits { cursor, why: Why::Later, arrives: false });
        Ok(())
    }

    /// What is open is given up, and comes again when it is complete.
    pub(crate) fn give_way(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        sink: &mut impl FnMut(Item<'_>),
    ) {
        let Some(open) = s.open.take() else {
            return;
        };
        sink(Item::Abort { code: Code::OVERTAKEN });
        if let Some(waits) = s.aside.get_mut(&open.slot) {
            waits.cursor.arrives = Arrives::Patient;
            let topic = self.topics.get_mut(open.slot as usize).and_then(Option::as_deref_mut);
            let entry = topic.and_then(|topic| topic.log.get_mut(waits.cursor.next));
            if let Some(arriving) = entry.and_then(|entry| entry.body.arriving()) {
                Subscriptions::line_up(&mut arriving.whole, id);
            }
        }
    }

    // Whether one more may wait, perhaps in place of another.
    fn has_room_aside(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        work: &mut usize,
    ) -> Result<bool, Refusal> {
        if self.fits_aside(s) {
            return Ok(true);
        }
        // To look through them is work as well.
        *work = work.saturating_sub(s.aside.len() / 8);
        let open = s.open.map(|open| open.slot);
        let arriving = s.aside.iter().filter(|(slot, waits)| {
            // What is open is followed, and makes way for what is complete.
            waits.arrives && Some(**slot) != open
        });
        let Some(slot) = arriving.min_by_key(|(_, waits)| waits.cursor).map(|(slot, _)| *slot)
        else {
            return Ok(false);
        };
        let Some(Waits { mut cursor, .. }) = s.aside.remove(&slot) else {
            return Ok(false);
        };
        let topic = self.topics.get_mut(slot as usize).and_then(Option::as_deref_mut);
        let entry = topic.and_then(|topic| topic.log.get_mut(cursor.next));
        // If not, it was about to be named for that.
        if let Some(arriving) = entry.and_then(|entry| entry.body.arriving()) {
            if s.lag == Lag::Disconnect {
                return Err(self.waits_too_long(&cursor));
            }
            arriving.waiting.remove(&id);
            arriving.whole.remove(&id);
            cursor.arrives = Arrives::Passed;
        }
        s.window.push(Reverse(cursor));
        Ok(true)
    }

    fn waits_too_long(&self, cursor: &Cursor) -> Refusal {
        let topic = self.topic(cursor.slot as usize);
        let name = topic.map_or("", |topic| &topic.name);
        Refusal::new(
            Code::LAGGED,
            format!(
                "waits for more messages that arrive slowly than it may, message {} of {name} \
                 among them: use narrower filters",
                cursor.next
            ),
        )
    }

    // Whether one more may wait beside those that do.
    fn fits_aside(&self, s: &mut Subscription) -> bool {
        let charged = s.aside_charge.as_ref().map_or(0, Charge::bytes);
        let most = self.portions.aside_free.max(charged / ASIDE_COST);
        if s.aside.len() < most {
            return true;
        }
        let bytes = (2 * most).min(self.portions.aside) * ASIDE_COST;
        most < self.portions.aside
            && match &mut s.aside_charge {
                Some(charge) => charge.resize(bytes),
                None => {
                    s.aside_charge = self.budget.take(bytes);
                    s.aside_charge.is_some()
                }
            }
    }
}
