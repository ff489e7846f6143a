//! Restoring an engine: from a snapshot, and from the records after it.
//!
//! Data from a disk may be damaged, or may have holes. So nothing here trusts it. Records that do not
//! fit are left out, and a topic whose messages have a hole goes on after it.

use super::Engine;
use super::ids::Slot;
use super::publication::PublicationId;
use super::record::{Change, Place, Record, Total};
use super::restoring::HIGHEST;
use super::snapshot::Part;
use super::topic::Topic;
use super::topic::body::Body;
use super::topic::counts::Count;
use super::topic::log::Entry;
use crate::wire::{Digest, check_readable_topic};
use std::sync::Arc;

/// Maximum number of missing messages that keep their slots in the log, 4,096. If more are missing,
/// the topic goes on after them.
const FILLED: u64 = 4096;

impl Engine {
    /// Begins to restore: the parts of a snapshot follow, if there is one, then records. The engine
    /// has to be new.
    pub fn begin_restoring(&mut self) {
        self.restoring = Some(Box::default());
    }

    /// Takes the secret of the engine that is to be restored, if its snapshot may be lost. It does
    /// nothing to an engine that is not being restored.
    pub fn adopt_secret(&mut self, secret: [u8; 32]) {
        if self.restoring.is_some() {
            self.secret = secret;
        }
    }

    /// Puts back the next part of a snapshot. Returns whether it fits to those before.
    pub fn restore_part(&mut self, part: Part) -> bool {
        if !matches!(part, Part::Messages { .. }) {
            self.finish_topic();
        }
        match part {
            Part::Engine(state) => {
                let numbers = [state.position, state.next_topic, state.recorded];
                if state.run == 0 || numbers.iter().any(|number| *number >= HIGHEST) {
                    return false;
                }
                self.secret = state.secret;
                self.position = state.position;
                self.next_topic = state.next_topic.max(1);
                self.records.continue_after(state.recorded);
                self.continue_runs(state.run, &state.past);
                true
            }
            Part::Topic(state) => self.restore_topic(state),
            Part::Messages { topic, messages } => self.restore_messages(topic, messages),
            Part::Counts(counts) => {
                self.restore_counts(&counts);
                true
            }
            Part::End { dropped_at, .. } => {
                self.evicted_counts.note_dropped(dropped_at.min(HIGHEST));
                true
            }
        }
    }

    /// Applies a record. `number` is as of [`recorded`](Self::recorded). Returns whether it fitted,
    /// or was known.
    pub fn restore(&mut self, number: u64, record: &Record) -> bool {
        self.finish_topic();
        if number >= HIGHEST {
            return false;
        }
        // No new record gets the number of one that did not fit: it would be taken for a known one.
        self.records.continue_after(self.records.made().max(number));
        if record.topic == 0 || record.topic >= HIGHEST {
            return false;
        }
        let restoring = self.restoring.as_ref();
        let known = restoring.and_then(|restoring| restoring.known.get(&record.topic));
        let is_new = known.is_none_or(|(recorded, _)| *recorded < number);
        let Record { topic, name, sequence, change } = record;
        let at = *sequence;
        if self.slot(name).and_then(|slot| self.topic(slot)).is_some_and(|t| t.id() > *topic) {
            // The snapshot has a later topic with this name.
            return true;
        }
        match change {
            Change::Published { place, total, payload } => {
                if !is_new {
                    return true;
                }
                let Some(slot) = self.slot_for(*topic, name, at, place) else {
                    return false;
                };
                self.change(slot, |topic| topic.renew_producer(place.origin));
                self.accept(slot, place, Some(total.count()), total.digest, payload);
                true
            }
            Change::Begun { place, size } => {
                if !is_new {
                    return true;
                }
                let size = usize::try_from(*size).ok().filter(|size| *size < HIGHEST as usize);
                let Some((size, slot)) = size.zip(self.slot_for(*topic, name, at, place)) else {
                    return false;
                };
                if let Some(restoring) = &mut self.restoring {
                    restoring.begun.insert((*topic, at));
                }
                self.arrive(slot, place, size).is_some()
            }
            Change::Chunk { offset, bytes } => self.restore_chunk(*topic, at, *offset, bytes),
            Change::Ended { now, origin, total, size } => {
                self.restore_end((*topic, at), *now, (origin, total, *size), is_new)
            }
            Change::Aborted => {
                self.take_begun(*topic, at);
                if let Some(slot) = self.by_id.get(topic).copied() {
                    self.abort_entry(slot, at, false);
                }
                true
            }
            Change::Forgotten => {
                if let Some(slot) = self.by_id.get(topic).copied().filter(|_| is_new) {
                    self.forget(slot);
                }
                true
            }
        }
    }

    // Returns the topic for a message that is new, ready to take it.
    fn slot_for(&mut self, id: u64, name: &Arc<str>, at: u64, place: &Place) -> Option<Slot> {
        if at == 0 || at >= HIGHEST || place.position >= HIGHEST {
            return None;
        }
        let slot = self.slot_as(id, name, place.position)?;
        let topic = self.topic(slot)?;
        let next = topic.next_sequence();
        if at < next || place.position <= topic.last_position() {
            return None;
        }
        if at > next {
            if next > 1 {
                self.miss(slot, next);
            } else {
                // Or a later record says that it was forgotten while the snapshot was taken.
                self.change(slot, |topic| topic.past_mut().miss(next));
            }
            self.fill_to(slot, at, place);
        }
        self.position = self.position.max(place.position);
        // It is in use.
        self.by_use.promote(&**name);
        Some(slot)
    }

    /// Returns the topic with an id. It is created if it is not there.
    pub(super) fn slot_as(&mut self, id: u64, name: &Arc<str>, position: u64) -> Option<Slot> {
        if let Some(slot) = self.by_id.get(&id).copied() {
            return Some(slot).filter(|slot| self.topic(*slot).is_some_and(|t| t.name() == name));
        }
        check_readable_topic(name).ok()?;
        if let Some(slot) = self.slot(name) {
            // The record that this one was forgotten is missing.
            self.forget(slot);
        }
        self.next_topic = self.next_topic.max(id + 1);
        self.make_topic_room();
        Some(self.create_as(id, name.clone(), position))
    }

    // The messages of a topic before one are missing. They are as if they had been evicted, so that
    // those before them stay.
    fn fill_to(&mut self, slot: Slot, at: u64, place: &Place) {
        let Some(topic) = self.topic(slot) else { return };
        let missing = at - topic.next_sequence();
        // Each of them had a position.
        let before = place.position.checked_sub(missing);
        let before = before.filter(|before| topic.last_position() < *before);
        let Some(before) = before.filter(|_| topic.messages() > 0 && missing <= FILLED) else {
            return self.skip_to(slot, at, place.position);
        };
        let limits = self.limits;
        for position in before..place.position {
            let entry = Entry {
                position,
                accepted: place.accepted,
                origin: None,
                stamp: 0,
                count: Count { count: 0, since: 0 },
                digest: Digest([0; 32]),
                body: Body::Evicted { upload: 0 },
                cost: 0,
            };
            self.change(slot, |topic| topic.put_entry(&limits, entry));
        }
    }

    /// Drops the messages of a topic, because those between them and the next one are missing.
    pub(super) fn skip_to(&mut self, slot: Slot, sequence: u64, position: u64) {
        while self.topic(slot).is_some_and(|topic| topic.messages() > 0) {
            self.evict(slot);
        }
        self.change(slot, |topic| topic.start_at(sequence, position.saturating_sub(1)));
    }

    fn restore_chunk(&mut self, id: u64, at: u64, offset: u64, bytes: &bytes::Bytes) -> bool {
        let Some(slot) = self.by_id.get(&id).copied() else {
            return true;
        };
        let appended = self.change(slot, |topic| {
            topic.change_arriving(at, |entry| {
                let arriving = entry.body.arriving_mut()?;
                let had = arriving.rope.len();
                let fits = had as u64 == offset
                    && !bytes.is_empty()
                    && bytes.len() <= arriving.size.saturating_sub(had);
                if fits {
                    arriving.rope.push(bytes.clone());
                }
                Some(fits || offset < had as u64)
            })
        });
        match appended.flatten().flatten() {
            // It is complete, or was aborted or evicted.
            None => true,
            Some(true) => {
                self.make_room(slot);
                true
            }
            Some(false) => {
                // Bytes before these are missing.
                self.give_up(slot, (id, at));
                false
            }
        }
    }

    // Returns whether a message has begun to arrive, and all its bytes so far were there. It has
    // ended now.
    fn take_begun(&mut self, id: u64, at: u64) -> bool {
        self.restoring.as_mut().is_some_and(|restoring| restoring.begun.remove(&(id, at)))
    }

    // Some of the bytes of a message are missing.
    fn give_up(&mut self, slot: Slot, (id, at): (u64, u64)) {
        self.take_begun(id, at);
        self.miss(slot, at);
        self.abort_entry(slot, at, false);
    }

    fn restore_end(
        &mut self,
        (id, at): (u64, u64),
        now: u64,
        (origin, total, size): (&Option<PublicationId>, &Total, u64),
        is_new: bool,
    ) -> bool {
        let Some(slot) = self.by_id.get(&id).copied() else {
            return true;
        };
        let has_begun = self.take_begun(id, at);
        let restoring = self.restoring.as_ref();
        let known = restoring.and_then(|restoring| restoring.known.get(&id));
        let was_there = known.is_some_and(|(_, next)| at < *next);
        let entry = self.topic(slot).and_then(|topic| topic.entry(at));
        let is_aborted = entry.is_some_and(|entry| matches!(entry.body, Body::Aborted { .. }));
        if let Some(entry) = entry.filter(|entry| entry.body.is_arriving()) {
            let body = &entry.body;
            if has_begun && body.rope().is_some_and(|rope| rope.len() == body.size()) {
                let count = Some(total.count());
                self.change(slot, |topic| topic.renew_producer(*origin));
                return self.complete(now, slot, at, total.digest, count).is_some();
            }
            self.give_up(slot, (id, at));
            return false;
        }
        // It is complete in the snapshot.
        if !is_new {
            return true;
        }
        if is_aborted || !(has_begun || was_there) {
            // Its beginning or some of its bytes are missing. Its publisher may send it again. Or a
            // later record says that the topic was forgotten while the snapshot was taken.
            return self.topic(slot).is_some_and(|topic| at < topic.first_sequence());
        }
        // It was accepted while the snapshot was taken, or its bytes have left the cache.
        let limits = self.limits;
        let Some(topic) = self.topics.get_mut(slot).and_then(Option::as_deref_mut) else {
            return false;
        };
        let (before, count) = (topic.cost(), total.count());
        topic.renew_producer(*origin);
        topic.accept(&limits, *origin, at, count, total.digest);
        if !topic.put_count(at, total.digest, count, size) {
            let key = topic.payload_key(&total.digest);
            self.evicted_counts.take(&key);
            self.evicted_counts.put(key, count, self.position);
        }
        self.settle(slot, before);
        true
    }

    /// Ends restoring. Messages that were still arriving are aborted, and topics stand in the order of their
    /// last messages.
    pub fn end_restoring(&mut self) {
        self.finish_topic();
        self.restoring = None;
        let topics = self.topics.iter().enumerate();
        let mut order: Vec<(u64, Slot)> = topics
            .filter_map(|(slot, topic)| Some((topic.as_deref()?.last_position(), slot)))
            .collect();
        order.sort_unstable();
        for (_, slot) in &order {
            let arriving = self.topic(*slot).map(Topic::arriving).unwrap_or_default();
            for at in arriving {
                self.miss(*slot, at);
                self.abort_entry(*slot, at, false);
            }
            self.recent.move_to_front(*slot);
            if let Some(name) = self.topic(*slot).map(|topic| topic.name().clone()) {
                self.by_use.promote(&name);
            }
        }
        while self.by_name.len() > self.limits.topics {
            self.make_topic_room();
        }
        loop {
            self.make_room_for(None, usize::MAX);
            if !self.owes_room() {
                break;
            }
        }
        // The daemon before has counted what was restored.
        self.figures.begin();
    }
}

impl Total {
    /// Returns the count.
    pub(super) fn count(&self) -> Count {
        Count { count: self.count, since: self.since }
    }
}
