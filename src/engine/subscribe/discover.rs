//! The search for messages that a subscription has not received: it fills the window with cursors.
//!
//! Topics that have changed lately are found from the young end of
//! [their list](crate::engine::topic::recent). If they are many, or if the subscription begins
//! with what is cached, it [sweeps](super::sweep) over the names of all topics, in portions.

use super::cursor::{Cursor, IfArriving, NewMessage};
use super::kept::end_of_run;
use super::refusals::{lagged, topic_forgotten};
use super::start::{Lost, StartFrom, TopicView, has_received};
use super::state::{CursorState, State};
use super::subscription::Subscription;
use super::sweep::Sweep;
use crate::engine::Engine;
use crate::engine::ids::{Slot, SubscriptionId};
use crate::engine::runs::Runs;
use crate::engine::topic::Topic;
use crate::engine::topic::after::After;
use crate::wire::{Filter, Refusal, TopicCursor};
use std::collections::{BinaryHeap, HashMap};

impl Engine {
    /// Searches until the window has a cursor, the subscription turns out to be at the head, or the
    /// work is spent.
    pub(super) fn fill_window(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        unordered: bool,
        work: &mut usize,
    ) -> Result<(), Refusal> {
        while s.window.is_empty() && !s.is_at_head() {
            if !s.is_sweeping() {
                s.delivered_through = s.delivered_through.max(s.window_end);
                if s.window.capacity() > self.portions.free {
                    s.window = BinaryHeap::new();
                }
                s.window_charge = None;
                if s.aside.is_empty() && s.aside_charge.is_some() {
                    (s.aside, s.aside_charge) = (HashMap::default(), None);
                }
                if s.start.is_some() && s.delivered_through >= s.began_at {
                    self.pass_start(s, work);
                }
                if s.start.is_none() && s.delivered_through >= self.position {
                    self.park(id, s);
                    return Ok(());
                }
            }
            if *work == 0 || !self.search(s, unordered, work)? {
                break;
            }
            s.make_all_ready(|state| state == CursorState::NextWindow);
        }
        Ok(())
    }

    // It has received everything that was there when it began.
    fn pass_start(&self, s: &mut Subscription, work: &mut usize) {
        // A topic that was made since then was not in the first window.
        let may_come = |name: &str| {
            let topic = self.slot(name).and_then(|slot| self.topic(slot));
            topic.is_none_or(|topic| topic.created_at() > s.delivered_through)
                && s.filter.as_ref().is_some_and(|filter| filter.matches(name))
        };
        let rest = s.start.take().and_then(|start| start.unresolved(&self.runs, may_come));
        match (&rest, &mut s.start_charge) {
            (Some(rest), Some(charge)) => {
                charge.resize(rest.cost());
            }
            _ => s.start_charge = None,
        }
        s.unresolved = rest.map(Box::new);
        *work = work.saturating_sub(1);
    }

    /// Registers where the subscription is, so that topics remember what they evict from there on.
    pub(super) fn register(&mut self, s: &mut Subscription) {
        if s.is_at_head() || s.is_ending() {
            return;
        }
        let window_end = if s.is_sweeping() { s.delivered_through } else { s.window_end };
        let (began, since) = match &s.start {
            Some(start) => (s.began_at, start.since(&self.runs).unwrap_or(s.began_at)),
            None => (s.delivered_through, s.delivered_through),
        };
        let at = [s.delivered_through, window_end, began, since];
        self.subscriptions.positions.register(&mut s.registered, at);
    }

    // Fills the window. Returns whether all topics have been looked at.
    fn search(
        &mut self,
        s: &mut Subscription,
        unordered: bool,
        work: &mut usize,
    ) -> Result<bool, Refusal> {
        let Some(filter) = s.filter.take() else {
            return Ok(true);
        };
        let searched = self.search_topics(s, &filter, unordered, work);
        s.filter = Some(filter);
        searched
    }

    fn search_topics(
        &self,
        s: &mut Subscription,
        filter: &Filter,
        unordered: bool,
        work: &mut usize,
    ) -> Result<bool, Refusal> {
        if s.is_sweeping()
            && let State::Sweeping(sweep) = s.set_state(State::Behind)
        {
            return self.sweep(s, sweep, filter, unordered, work);
        }
        self.forgotten.check(s, filter, &self.runs)?;
        let end = self.position;
        if s.exact {
            *work -= 1;
            let cursor = match self.slot(filter.as_str()) {
                Some(slot) => self.cursor_in(s, slot, unordered)?,
                None => None,
            };
            if let Some(cursor) = cursor {
                s.set_cursor(cursor, CursorState::Ready);
            }
            s.window_end = end;
            return Ok(true);
        }
        if s.start.is_none() && self.search_recent(s, filter, unordered, work)? {
            s.window_end = end;
            return Ok(true);
        }
        let sweep = Box::new(Sweep::new(end, self.portions.free));
        if s.start.is_none() {
            // It has searched enough. It has its first turn later, like the other sweeps.
            s.set_state(State::Sweeping(sweep));
            return Ok(false);
        }
        self.sweep(s, sweep, filter, unordered, work)
    }

    /// Returns a cursor to the message that woke the subscription, if that is still in the log and
    /// no other topic has changed since. Then there is nothing to search for, mostly.
    pub(super) fn cursor_to_new_message(
        &self,
        s: &mut Subscription,
        unordered: bool,
    ) -> Option<Cursor> {
        let NewMessage { position, sequence, before, slot } = s.woken_by.take()?;
        // A topic may have been forgotten that the subscription had not received completely.
        let forgotten = s.forgotten_checked != self.forgotten.next();
        if forgotten
            || s.unresolved.is_some()
            || s.delivered_through + 1 != position.get()
            || !s.window.is_empty()
            || !s.aside.is_empty()
        {
            return None;
        }
        let topic = self.topic(slot as usize)?;
        // No other topic has a message at that position.
        topic.entry(sequence).filter(|entry| entry.position == position.get())?;
        if !s.exact && position.get() != self.position {
            let mut recent = self.recent.iter();
            let is_youngest = recent.next() == Some(slot as usize);
            let older = recent.next().and_then(|older| self.topic(older));
            if !is_youngest
                || older.is_some_and(|older| older.last_position() > s.delivered_through)
            {
                return None;
            }
        }
        s.window_end = self.position;
        Some(cursor(s, (slot, topic), (sequence, before), position.get(), unordered))
    }

    // Returns whether the topics that have changed were few, and all of them were looked at.
    fn search_recent(
        &self,
        s: &mut Subscription,
        filter: &Filter,
        unordered: bool,
        work: &mut usize,
    ) -> Result<bool, Refusal> {
        for (count, slot) in self.recent.iter().enumerate() {
            let topic = self.topic(slot);
            let Some(topic) = topic.filter(|topic| topic.last_position() > s.delivered_through)
            else {
                return Ok(true);
            };
            if count == self.portions.recent || *work == 0 {
                s.window.clear();
                return Ok(false);
            }
            *work -= 1;
            if filter.matches(topic.name())
                && let Some(cursor) = self.cursor_in(s, slot, unordered)?
            {
                s.set_cursor(cursor, CursorState::Ready);
            }
        }
        Ok(true)
    }

    /// Returns the cursor in a topic that the filter matches, if the topic has messages that the
    /// subscription has not received.
    pub(super) fn cursor_in(
        &self,
        s: &Subscription,
        slot: Slot,
        unordered: bool,
    ) -> Result<Option<Cursor>, Refusal> {
        let Some(topic) = self.topic(slot) else {
            return Ok(None);
        };
        if topic.last_position() <= s.delivered_through {
            return Ok(None);
        }
        match s.aside.get(&(slot as u32)) {
            None => {}
            Some(waiting) if waiting.cursor.topic == topic.id() => return Ok(None),
            // The topic of that cursor was forgotten, and the subscription has not noticed yet.
            Some(_) => return Err(topic_forgotten("a topic")),
        }
        let after = topic.after(s.delivered_through);
        // Messages that were evicted since the last window become a gap.
        let first = match after {
            After::Exactly(next, _) if s.delivered_through > 0 => next.min(topic.first_sequence()),
            _ if s.delivered_through == 0 => topic.first_live(self.now),
            _ => topic.first_sequence(),
        };
        let begin = s.start.as_ref().map(|start| self.begin_in(s, start, topic, first));
        let (next, before) = match (begin, after) {
            (Some(begin), _) if s.delivered_through == 0 => (begin, 0),
            (begin, After::Exactly(next, before)) => (next.max(begin.unwrap_or(1)), before),
            // Messages evicted earlier did not concern it, or are still in a cursor.
            (Some(begin), After::AtLeast(_)) => (begin, 0),
            // The gap cannot be described exactly.
            (None, After::AtLeast(_)) => return Err(lagged(topic.name())),
        };
        // Once: with the first window, or when the topic exists again.
        let lost = (s.delivered_through == 0 || s.unresolved.is_some())
            && s.lost_in(topic, &self.runs).is_some();
        if next >= topic.next_sequence() && !lost {
            return Ok(None);
        }
        // A gap comes first: it is older than every message in the log.
        let position = topic.entry(next).filter(|_| !lost).map_or(0, |entry| entry.position);
        let cursor = cursor(s, (slot as u32, topic), (next, before), position, unordered);
        let kept_only = s.delivered_through == 0 && next < topic.kept_from();
        Ok(Some(Cursor { lost, kept_only, ..cursor }))
    }

    fn begin_in(&self, s: &Subscription, start: &StartFrom, topic: &Topic, first: u64) -> u64 {
        let edge = match topic.after(s.began_at) {
            After::Exactly(edge, _) | After::AtLeast(edge) => edge,
        };
        let end = |cursor: TopicCursor| {
            let received = has_received(topic.name(), cursor, s.had.as_deref());
            end_of_run(topic, &self.runs, cursor.epoch, received).map(|(_, end)| end)
        };
        let view = TopicView {
            name: topic.name(),
            epoch: topic.epoch(),
            end: &end,
            first: first.min(edge),
            edge,
        };
        let after = |since| match topic.after(since) {
            After::Exactly(next, _) | After::AtLeast(next) => next,
        };
        // The latest message may have been evicted. A subscription that has received a part then
        // has all the rest: a later beginning would skip messages without a gap.
        let latest = || match topic.latest_of(edge, s.completed_uploads) {
            Some(latest) => latest,
            None if s.delivered_through == 0 => topic.begin_latest_before(edge),
            None => first,
        };
        start.begin(&view, &self.runs, latest, after)
    }
}

impl Subscription {
    /// Returns what the client is told of a topic because an earlier run has not kept it.
    pub(super) fn lost_in(&self, topic: &Topic, runs: &Runs) -> Option<Lost> {
        let start = self.start.as_ref().filter(|_| self.delivered_through == 0);
        let (start, had) = (start.or(self.unresolved.as_ref())?, self.had.as_deref());
        start.lost(topic, runs, had)
    }
}

// Returns a cursor to the message `next` of a topic, where the message before it has the position
// `before`.
fn cursor(
    s: &Subscription,
    (slot, topic): (u32, &Topic),
    (next, before): (u64, u64),
    position: u64,
    unordered: bool,
) -> Cursor {
    let announced = if unordered { s.announced.get(&topic.id()).copied() } else { None };
    Cursor {
        position,
        slot,
        topic: topic.id(),
        begin: announced.unwrap_or(next),
        next,
        // In order, the topic was announced with the message before, if that came after the
        // subscription began. A second announcement changes nothing.
        announced: if unordered { announced.is_some() } else { before > s.began_at },
        if_arriving: IfArriving::Read,
        carry_over: false,
        lost: false,
        kept_only: false,
    }
}
