//! Replay from a cursor: the one operation that serves all subscriptions.

use super::announced::REMEMBERED;
use super::had::Had;
use super::item::Item;
use super::read_options::{LargePayloads, ReadOptions};
use super::refusals::{ended, fell_behind, topic_forgotten};
use super::skips::Skips;
use super::state::{CursorState, State};
use super::step::{Next, Step};
use super::subscription::Subscription;
use crate::engine::Engine;
use crate::engine::ids::SubscriptionId;
use crate::wire::Refusal;
use std::cmp::Reverse;

impl Engine {
    /// Returns whether the subscription has received everything. If so, it need not be
    /// [read](Self::read) until [`take_wakes`](Self::take_wakes) lists it again.
    pub fn park_if_idle(&mut self, id: SubscriptionId) -> bool {
        let Some(s) = self.subscriptions.get_mut(id) else {
            return false;
        };
        let idle = s.is_idle();
        s.wake_queued &= !idle;
        idle
    }

    /// Returns whether there is nothing to read for a subscription.
    pub fn has_read_all(&self, id: SubscriptionId) -> bool {
        self.subscriptions.get(id).is_none_or(Subscription::is_idle) && self.deferred.no_wakes()
    }

    /// Returns whether the subscription searches the names of topics for messages. Each
    /// [read](Self::read) searches a portion of them; let few subscriptions do so at a time.
    pub fn is_sweeping(&self, id: SubscriptionId) -> bool {
        self.subscriptions.get(id).is_some_and(Subscription::is_sweeping)
    }

    /// Yields items between the cursor and the head, about as many as the options ask for. Returns
    /// whether to read again: there was an item, or the search for one takes more than one call.
    /// If not, [`take_wakes`](Self::take_wakes) lists the subscription once there is more.
    ///
    /// # Errors
    ///
    /// End the subscription after an error.
    ///
    /// - [`Code::DONE`](crate::wire::Code::DONE): the subscription has ended, or the message that it
    ///   follows has been read.
    /// - [`Code::LAGGED`](crate::wire::Code::LAGGED): it asked to end rather than to have a gap, or
    ///   it has kept topics in memory for too long.
    /// - [`Code::OVERLOADED`](crate::wire::Code::OVERLOADED): the budget has no room for it.
    pub fn read(
        &mut self,
        id: SubscriptionId,
        options: impl Into<ReadOptions>,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<bool, Refusal> {
        let options = options.into();
        if self.park_if_idle(id) {
            return Ok(false);
        }
        let Some(mut s) = self.subscriptions.take(id) else {
            return Err(ended());
        };
        let read = match &s.state {
            State::Ending(why) => Err((**why).clone()),
            State::Following(_) => self.read_followed(id, &mut s, options.budget, sink),
            _ => self.replay(id, &mut s, options, sink),
        };
        // The result is not moved as a whole: reading it in words stalls, right after one byte of it
        // was written.
        match read {
            Ok(again) => {
                self.subscriptions.put_back(id, s);
                Ok(again)
            }
            Err(why) => {
                if !matches!(s.state, State::Ending(_) | State::Following(_)) {
                    self.end_subscription(id, &mut s, why.clone());
                }
                self.subscriptions.put_back(id, s);
                Err(why)
            }
        }
    }

    // Checks forgotten topics before their records are dropped. At the head, only cursors aside are
    // read. The check then comes with the next wake, which knows the position up to which the
    // subscription had received everything.
    fn check_forgotten(&self, s: &mut Subscription) -> Result<(), Refusal> {
        if !s.is_at_head()
            && self.forgotten.is_due(s.forgotten_checked, self.portions.forgotten)
            && let Some(filter) = s.filter.take()
        {
            let checked = self.forgotten.check(s, &filter, &self.runs);
            s.filter = Some(filter);
            checked?;
        }
        Ok(())
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one walk over the topics, in the order of their messages"
    )]
    fn replay(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        mut options: ReadOptions,
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<bool, Refusal> {
        self.check_forgotten(s)?;
        let unordered = options.large == LargePayloads::AnnounceOnly;
        let portion = if s.is_sweeping() { self.portions.sweep } else { self.portions.work };
        let (mut any, mut work, mut skips) = (false, portion, None::<Box<Skips>>);
        while work > 0 && !(any && options.budget == 0) {
            let new =
                if s.woken_by.is_some() { self.cursor_to_new_message(s, unordered) } else { None };
            let next = new.or_else(|| s.window.pop().map(|Reverse(next)| next));
            let Some(mut cursor) = next else {
                self.fill_window(id, s, unordered, &mut work)?;
                if s.window.is_empty() {
                    break;
                }
                continue;
            };
            work -= 1;
            if s.exact {
                // No other topic has to be searched for.
                s.window_end = self.position;
            }
            let topic = self.topics.get_mut(cursor.slot as usize).and_then(Option::as_deref_mut);
            let Some(topic) = topic.filter(|topic| topic.id() == cursor.topic) else {
                return Err(topic_forgotten("a topic"));
            };
            let lost = if cursor.lost { s.lost_in(topic, &self.runs) } else { None };
            // All that was received was accepted before the subscription began.
            let had = match &s.had {
                Some(had) if cursor.position <= s.began_at => had.of(topic, &self.runs, s.began_at),
                _ => Had::default(),
            };
            let until = s.window.peek().map_or(u64::MAX, |Reverse(next)| next.position);
            let open_stalled = s.open.is_some_and(|open| s.aside.contains_key(&open.slot));
            let (next, left, given) = {
                let mut step = Step {
                    slot: cursor.slot,
                    open: &mut s.open,
                    others_wait: !s.aside.is_empty(),
                    open_stalled,
                    lag: s.lag,
                    options: &options,
                    until: until.min(s.window_end),
                    window_end: s.window_end,
                    now: self.now,
                    began_at: s.began_at,
                    lost,
                    had,
                };
                step.run(topic, &mut cursor, &mut skips, sink)
            };
            options.budget = left;
            any |= given;
            if lost.is_some()
                && let Some(unresolved) = &mut s.unresolved
                && !unresolved.resolve(topic.name())
            {
                (s.unresolved, s.start_charge) = (None, None);
            }
            if let Some(skips) = skips.take() {
                self.figures.gaps.add(&skips);
                self.subscriptions.skips.entry(id.index).or_default().add(&skips);
            }
            let announced = unordered && cursor.announced;
            if let Next::Stalled | Next::Blocked | Next::Overtakes = next
                && let Some(entry) = topic.entry(cursor.next)
            {
                // The step may have yielded a gap, or the messages before.
                cursor.position = entry.position;
            }
            match next {
                Next::More(position) if position <= s.window_end => {
                    cursor.position = position;
                    s.set_cursor(cursor, CursorState::Ready);
                }
                // The next window finds messages beyond this one, with two exceptions. It may be
                // unknown where those begin, and a sweep may have passed this topic while its
                // cursor waited.
                Next::More(_) | Next::Head
                    if (cursor.carry_over || s.is_sweeping())
                        && topic.last_position() > s.window_end =>
                {
                    cursor.position = match &next {
                        Next::More(position) => *position,
                        _ if cursor.next < topic.first_sequence() => 0,
                        _ => topic.last_position(),
                    };
                    self.keep_for_next_window(id, s, cursor, &mut work)?;
                }
                Next::More(_) | Next::Head => {}
                Next::Evicted => return Err(fell_behind(topic, &cursor)),
                Next::Stalled | Next::Blocked => {
                    let blocked = matches!(next, Next::Blocked);
                    self.set_aside(id, s, (cursor, blocked), options.large, &mut work)?;
                }
                Next::Overtakes => {
                    self.give_way(id, s, sink);
                    any = true;
                    s.set_cursor(cursor, CursorState::Ready);
                }
            }
            if announced && !s.announced.contains_key(&cursor.topic) {
                self.remember_announced(s, &cursor)?;
                work = work.saturating_sub(REMEMBERED);
            }
            unblock(s, open_stalled, &mut work);
        }
        if s.window.is_empty() && !s.is_at_head() && work > 0 {
            // Perhaps the subscription is at the head now.
            self.fill_window(id, s, unordered, &mut work)?;
        }
        if s.had.is_some() && !unordered && s.has_passed_start() && s.unresolved.is_none() {
            (s.had, s.had_charge) = (None, None);
        }
        self.register(s);
        self.work += portion - work;
        // After an item, it reads again, and learns then that it has received everything.
        s.wake_queued = any || !s.is_idle();
        Ok(s.wake_queued)
    }
}

// Blocked cursors become ready once no message is open, or once the open one has stalled in this
// step: then they may overtake it.
fn unblock(s: &mut Subscription, open_had_stalled: bool, work: &mut usize) {
    let stalled = |s: &Subscription, slot| !open_had_stalled && s.aside.contains_key(&slot);
    if s.open.is_none_or(|open| stalled(s, open.slot)) && !s.aside.is_empty() {
        // Looking through the cursors is work as well.
        *work = work.saturating_sub(s.aside.len() / 8);
        s.make_all_ready(|state| matches!(state, CursorState::Blocked { .. }));
    }
}
