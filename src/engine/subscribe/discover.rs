//! What a subscription that is behind has not had yet: its window of cursors.
//!
//! Topics that have moved lately are found from the young end of their [list](crate::engine::topic::recent). If
//! they are many, or if the subscription begins with what is cached, it sweeps over the names of
//! its topics, in portions. It keeps the cursors that come first by position, and what lies beyond
//! them is left for the next window; so what a subscription takes is bounded, however many topics
//! it is behind in, and the order of positions holds over all of them.

use super::forgotten::lost;
use super::start::{After, Kind, View};
use super::table::{Arrives, Cursor, News, Subscription, Why};
use crate::engine::topic::Topic;
use crate::engine::{Charge, Engine, Slot, SubscriptionId};
use crate::wire::{Code, Filter, Refusal};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// How much is done in one call; and how much a subscription takes. Tests have less of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portions {
    /// Names of topics, cursors and wakes that are looked at under one lock: 200 ns each.
    pub(crate) work: usize,
    /// Names of topics that a sweep looks at in one turn: few, as everybody else waits for that
    /// with each step on the way of a message.
    pub(crate) sweep: usize,
    /// Of these, when a subscription begins.
    pub(crate) first: usize,
    /// Topics that are looked at from the young end, before all names are swept over.
    pub(crate) recent: usize,
    /// Cursors in a window, 56 bytes each; and how many of these are not charged to the budget.
    pub(crate) window: usize,
    pub(crate) free: usize,
    /// Topics in which a subscription may wait [aside](super::aside), 128 bytes each with the place
    /// in the list of those who wait; and how many of these are not charged.
    pub(crate) aside: usize,
    pub(crate) aside_free: usize,
    /// Whom a publication wakes at once, and each call of [`Engine::tend`]: few, as everybody else
    /// waits for what these then do.
    pub(crate) wakes: usize,
    /// Topics that are [remembered](super::forgotten) after they were forgotten, about 80 bytes each
    /// and their names.
    pub(crate) forgotten: usize,
    /// Messages that one call gives up at most, 0.2 to 0.8 µs each, as far apart as they are in
    /// memory; the rest is left for `tend`.
    pub(crate) evictions: usize,
}

pub(crate) const PORTIONS: Portions = Portions {
    work: 2048,
    sweep: 256,
    first: 256,
    recent: 256,
    window: 8192,
    free: 64,
    aside: 1024,
    aside_free: 64,
    wakes: 64,
    forgotten: 256,
    evictions: 512,
};

/// What it takes to look into a topic whose name matches, beside the look at its name: it is
/// somewhere else in memory, and so is its log.
const CONSIDERED: usize = 3;

/// Topics of which a subscription that is read apart remembers where it began, 48 bytes each; and
/// so many of these are not charged.
const KNOWN: usize = 131_072;
const KNOWN_FREE: usize = 256;
const KNOWN_COST: usize = 48;

/// With each topic that it is told of, so many are looked at whether they were forgotten: so these
/// are an eighth of all at most.
const FORGETS: usize = 8;

/// What that takes.
pub(crate) const LEARNED: usize = FORGETS;

/// A sweep over the names of topics, as far as it has come.
#[derive(Debug)]
pub(crate) struct Sweep {
    // The last name that was looked at.
    at: Option<Arc<str>>,
    // What was accepted later is left for the next window, as is what comes after those kept.
    end: u64,
    kept: BinaryHeap<Cursor>,
    // Those of which something has left the log. They are all kept: gaps are told before anything
    // else, and to leave some for the next window would be to leave all of them.
    gapped: Vec<Cursor>,
    most: usize,
    charge: Option<Charge>,
}

impl Sweep {
    // Says whether there was room: else the subscription has fallen too far behind.
    fn keep(&mut self, cursor: Cursor, window: usize, budget: &crate::engine::Budget) -> bool {
        if cursor.position == 0 {
            self.gapped.push(cursor);
        } else {
            self.kept.push(cursor);
        }
        if self.kept.len() + self.gapped.len() <= self.most {
            return true;
        }
        // Room for twice as many, if there is any.
        let more = (2 * self.most).min(window);
        let bytes = more * size_of::<Cursor>();
        let fits = more > self.most
            && match &mut self.charge {
                Some(charge) => charge.resize(bytes),
                None => {
                    self.charge = budget.take(bytes);
                    self.charge.is_some()
                }
            };
        if fits {
            self.most = more;
            // No more than is charged, and the one that is too many.
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
    /// Looks for what the subscription has not had, until there is some, it turns out to have had
    /// everything, or the work is done that may be done at once.
    pub(crate) fn settle_window(
        &mut self,
        id: SubscriptionId,
        s: &mut Subscription,
        apart: bool,
        work: &mut usize,
    ) -> Result<(), Refusal> {
        while s.window.is_empty() && !s.idle {
            if s.sweep.is_none() {
                s.had = s.had.max(s.upto);
                if s.window.capacity() > self.portions.free {
                    s.window = BinaryHeap::new();
                }
                s.window_charge = None;
                if s.aside.is_empty() && s.aside_charge.is_some() {
                    (s.aside, s.aside_charge) = (HashMap::default(), None);
                }
                if s.start.is_some() && s.had >= s.began {
                    (s.start, s.charge) = (None, None);
                }
                if s.start.is_none() && s.had >= self.position {
                    self.idle(id, s);
                    return Ok(());
                }
            }
            if *work == 0 || !self.look(s, apart, work)? {
                break;
            }
            if !s.aside.is_empty() {
                let later = s.aside.extract_if(|_, waits| waits.why == Why::Later);
                s.window.extend(later.map(|(_, waits)| Reverse(waits.cursor)));
            }
        }
        Ok(())
    }

    /// Says where the subscription stands, so that what leaves the logs from there on is
    /// remembered.
    pub(crate) fn register(&mut self, s: &mut Subscription) {
        if s.idle || s.lost.is_some() {
            return;
        }
        let upto = if s.sweep.is_some() { s.had } else { s.upto };
        let (began, since) = match &s.start {
            Some(start) => (s.began, start.since(self.run).unwrap_or(s.began)),
            None => (s.had, s.had),
        };
        let at = [s.had, upto, began, since];
        self.subscriptions.reading.register(&mut s.registered, at);
    }

    // Fills the window; says whether that was all there was to look at.
    fn look(
        &mut self,
        s: &mut Subscription,
        apart: bool,
        work: &mut usize,
    ) -> Result<bool, Refusal> {
        let Some(filter) = s.filter.take() else {
            return Ok(true);
        };
        let looked = self.look_through(s, &filter, apart, work);
        s.filter = Some(filter);
        looked
    }

    fn look_through(
        &self,
        s: &mut Subscription,
        filter: &Filter,
        apart: bool,
        work: &mut usize,
    ) -> Result<bool, Refusal> {
        let mut sweep = match s.sweep.take() {
            Some(sweep) => sweep,
            None => {
                self.forgotten.check(s, filter, self.run)?;
                let end = self.position;
                if s.exact {
                    *work -= 1;
                    let cursor = match self.slot(filter.as_str()) {
                        Some(slot) => self.consider(s, slot, apart)?,
                        None => None,
                    };
                    // Not `extend`: it would look at the whole heap.
                    if let Some(cursor) = cursor {
                        s.window.push(Reverse(cursor));
                    }
                    s.upto = end;
                    return Ok(true);
                }
                if s.start.is_none() && self.look_at_recent(s, filter, apart, work)? {
                    s.upto = end;
                    return Ok(true);
                }
                let (kept, gapped, most) = (BinaryHeap::new(), Vec::new(), self.portions.free);
                let sweep = Box::new(Sweep { at: None, end, kept, gapped, most, charge: None });
                if s.start.is_none() {
                    // It has looked enough, and has its first turn later, like the others.
                    s.sweep = Some(sweep);
                    return Ok(false);
                }
                sweep
            }
        };
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
                s.sweep = Some(sweep);
                return Ok(false);
            }
            *work -= 1;
            last = Some(name);
            if !filter.matches(name) {
                continue;
            }
            *work = work.saturating_sub(CONSIDERED);
            if let Some(cursor) = self.consider(s, *slot, apart)?
                && cursor.position <= sweep.end
                && !sweep.keep(cursor, self.portions.window, &self.budget)
            {
                return Err(lagged(name));
            }
        }
        // Of those that were forgotten on the way it has not had all.
        self.forgotten.check(s, filter, self.run)?;
        let Sweep { end, kept, gapped, charge, .. } = *sweep;
        s.upto = end;
        let mut cursors = kept.into_vec();
        cursors.retain(|cursor| cursor.position <= end);
        cursors.reserve_exact(gapped.len());
        cursors.extend(gapped);
        s.window = cursors.into_iter().map(Reverse).collect();
        s.window_charge = charge;
        Ok(true)
    }

    /// The cursor to what it was woken for, where that is still there, and no other topic has
    /// moved since: mostly nothing has to be looked for.
    pub(crate) fn look_at_news(&self, s: &mut Subscription, apart: bool) -> Option<Cursor> {
        let News { position, sequence, before, slot } = s.news.take()?;
        // Of what was forgotten it is to be told.
        let forgotten = s.forgotten != self.forgotten.next();
        if forgotten || s.had + 1 != position.get() || !s.window.is_empty() || !s.aside.is_empty() {
            return None;
        }
        let topic = self.topic(slot as usize)?;
        // No other topic has a message at that position.
        topic.log.get(sequence).filter(|entry| entry.position == position.get())?;
        if !s.exact && position.get() != self.position {
            let mut recent = self.recent.iter();
            let alone = recent.next() == Some(slot as usize);
            let older = recent.next().and_then(|older| self.topic(older));
            if !alone || older.is_some_and(|older| older.moved() > s.had) {
                return None;
            }
        }
        s.upto = self.position;
        Some(cursor(s, (slot, topic), (sequence, before), position.get(), apart))
    }

    // Says whether these were few, and all.
    fn look_at_recent(
        &self,
        s: &mut Subscription,
        filter: &Filter,
        apart: bool,
        work: &mut usize,
    ) -> Result<bool, Refusal> {
        for (count, slot) in self.recent.iter().enumerate() {
            let Some(topic) = self.topic(slot).filter(|topic| topic.moved() > s.had) else {
                return Ok(true);
            };
            if count == self.portions.recent || *work == 0 {
                s.window.clear();
                return Ok(false);
            }
            *work -= 1;
            if filter.matches(&topic.name)
                && let Some(cursor) = self.consider(s, slot, apart)?
            {
                s.window.push(Reverse(cursor));
            }
        }
        Ok(true)
    }

    // The cursor in a topic that the filter matches, if there is something that it has not had.
    fn consider(
        &self,
        s: &Subscription,
        slot: Slot,
        apart: bool,
    ) -> Result<Option<Cursor>, Refusal> {
        let Some(topic) = self.topic(slot) else {
            return Ok(None);
        };
        if topic.moved() <= s.had {
            return Ok(None);
        }
        match s.aside.get(&(slot as u32)) {
            None => {}
            Some(waits) if waits.cursor.topic == topic.id => return Ok(None),
            // That one was forgotten, and it is not told yet.
            Some(_) => return Err(lost("a topic")),
        }
        let after = topic.after(s.had);
        // What has left the log since the last window is not passed over.
        let first = match after {
            After::Exactly(next, _) if s.had > 0 => next.min(topic.log.first()),
            _ => topic.log.first(),
        };
        let begin = s.start.as_ref().map(|start| self.begin_in(s, start, topic, first));
        let (next, before) = match (begin, after) {
            (Some(begin), _) if s.had == 0 => (begin, 0),
            (begin, After::Exactly(next, before)) => (next.max(begin.unwrap_or(1)), before),
            // What left the log earlier was none of it, or is still in a cursor.
            (Some(begin), After::AtLeast(_)) => (begin, 0),
            // What has left the log is not known exactly enough to be told.
            (None, After::AtLeast(_)) => return Err(lagged(&topic.name)),
        };
        if next >= topic.log.next() {
            return Ok(None);
        }
        // What has left the log comes first: it is older than everything there is.
        let position = topic.log.get(next).map_or(0, |entry| entry.position);
        Ok(Some(cursor(s, (slot as u32, topic), (next, before), position, apart)))
    }

    fn begin_in(&self, s: &Subscription, start: &Kind, topic: &Topic, first: u64) -> u64 {
        let edge = match topic.after(s.began) {
            After::Exactly(edge, _) | After::AtLeast(edge) => edge,
        };
        let view = View { name: &topic.name, epoch: topic.epoch, first: first.min(edge), edge };
        let unheard = |since| match topic.after(since) {
            After::Exactly(next, _) | After::AtLeast(next) => next,
        };
        // Where that has left the log, whoever has had a part of what it asked for has all the rest
        // that there is: it would miss some of it, in silence, if it began later than before.
        let latest = || match topic.latest_of(edge, s.uploads) {
            Some(latest) => latest,
            None if s.had == 0 => topic.begin_latest_before(edge),
            None => first,
        };
        start.begin(&view, self.run, latest, unheard)
    }

    /// Remembers where a subscription that is read apart began in a topic that it has been told
    /// of.
    pub(crate) fn learn(&self, s: &mut Subscription, cursor: &Cursor) -> Result<(), Refusal> {
        // Those that were forgotten make room, looked for a few at a time.
        for _ in 0..FORGETS {
            let next = s.known.range(s.known_at..).next().map(|(id, _)| *id);
            s.known_at = next.map_or(0, |id| id + 1);
            if let Some(id) = next.filter(|id| !self.by_id.contains_key(id)) {
                s.known.remove(&id);
            }
        }
        let most = KNOWN_FREE.max(s.known_charge.as_ref().map_or(0, Charge::bytes) / KNOWN_COST);
        if s.known.len() >= most {
            let bytes = 2 * most * KNOWN_COST;
            let fits = 2 * most <= KNOWN
                && match &mut s.known_charge {
                    Some(charge) => charge.resize(bytes),
                    None => {
                        s.known_charge = self.budget.take(bytes);
                        s.known_charge.is_some()
                    }
                };
            if !fits {
                return Err(Refusal::new(
                    Code::OVERLOADED,
                    format!(
                        "unordered and realtime subscriptions see at most {KNOWN} topics, or \
                         as many as the daemon has room for: use ordered, or narrower filters"
                    ),
                ));
            }
        }
        s.known.insert(cursor.topic, cursor.begin);
        Ok(())
    }
}

// A cursor to the message `next` of a topic, before which the one at the position `before` came.
fn cursor(
    s: &Subscription,
    (slot, topic): (u32, &Topic),
    (next, before): (u64, u64),
    position: u64,
    apart: bool,
) -> Cursor {
    let known = if apart { s.known.get(&topic.id).copied() } else { None };
    Cursor {
        position,
        slot,
        topic: topic.id,
        begin: known.unwrap_or(next),
        next,
        // One that is read in order has been told of the topic with the message before, if that
        // came after it began. To be told again changes nothing.
        announced: if apart { known.is_some() } else { before > s.began },
        arrives: Arrives::AsWanted,
        lasts: false,
    }
}

pub(crate) fn no_room() -> Refusal {
    Refusal::new(
        Code::OVERLOADED,
        "the daemon has no room for so many topics to resume: try again later, or with fewer",
    )
}

pub(crate) fn lagged(topic: &str) -> Refusal {
    Refusal::new(
        Code::LAGGED,
        format!(
            "fell behind the cache in too many topics at once, in {topic} among them: resume it"
        ),
    )
}
