//! A topic's log: sequence → message, without holes, oldest first.

use super::body::Body;
use super::counts::Count;
use crate::engine::cost::allocated;
use crate::engine::publication::PublicationId;
use crate::wire::Digest;
use std::collections::VecDeque;

/// A message as the log keeps it. Its sequence is its index.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) position: u64,
    // Time at which it was accepted, or began to arrive, µs. It is only compared.
    pub(crate) accepted: u64,
    pub(crate) origin: Option<PublicationId>,
    pub(crate) stamp: u64,
    // The count and the digest are known once it is complete.
    pub(crate) count: Count,
    pub(crate) digest: Digest,
    pub(crate) body: Body,
    // Bytes charged for it.
    pub(crate) cost: usize,
}

impl Entry {
    /// Returns the bytes charged for what other messages cannot share.
    pub(super) fn own_cost(&self) -> usize {
        SLOT_COST + self.body.own_cost()
    }
}

// Number of messages in one piece of memory. A log grows by a piece at a time. So no publication
// moves all the others, and memory is freed as the oldest messages leave.
const SEGMENT: usize = 32;

/// Cost of the slot of a message, bytes.
pub(super) const SLOT_COST: usize = allocated(SEGMENT * size_of::<Option<Entry>>()) / SEGMENT;

/// Messages `first..next`.
#[derive(Debug)]
pub(crate) struct Log {
    segments: VecDeque<Vec<Option<Entry>>>,
    // Number of messages that have left the first segment.
    taken: usize,
    first: u64,
    next: u64,
    // Position of the last message that has left; 0 is none.
    evicted_through: u64,
    // Number of slots in all segments, with and without a message.
    slots: usize,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            segments: VecDeque::new(),
            taken: 0,
            first: 1,
            next: 1,
            evicted_through: 0,
            slots: 0,
        }
    }

    /// Sets the sequence of the next message, and the position of the last one that has left. The
    /// log has to be empty.
    pub(crate) fn start_at(&mut self, next: u64, evicted_through: u64) {
        debug_assert_eq!(self.first, self.next, "the log is empty");
        (self.first, self.next) = (next, next);
        self.evicted_through = self.evicted_through.max(evicted_through);
    }

    /// Returns the sequence of the oldest message; equal to [`next`](Self::next) when there is none.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the sequence that the next message will have.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Returns the position of the last message that has left; 0 is none.
    pub(crate) fn evicted_through(&self) -> u64 {
        self.evicted_through
    }

    /// Returns the position of the last message, which may have left; 0 is none.
    pub(crate) fn last_position(&self) -> u64 {
        self.get(self.next - 1).map_or(self.evicted_through, |entry| entry.position)
    }

    pub(crate) fn len(&self) -> u64 {
        self.next - self.first
    }

    /// Returns the bytes of slots without a message.
    pub(crate) fn slack(&self) -> usize {
        (self.slots - self.len() as usize) * SLOT_COST
    }

    fn slot(&self, sequence: u64) -> Option<(usize, usize)> {
        if !(self.first..self.next).contains(&sequence) {
            return None;
        }
        let index = (sequence - self.first) as usize + self.taken;
        Some((index / SEGMENT, index % SEGMENT))
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&Entry> {
        let (segment, slot) = self.slot(sequence)?;
        self.segments.get(segment)?.get(slot)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, sequence: u64) -> Option<&mut Entry> {
        let (segment, slot) = self.slot(sequence)?;
        self.segments.get_mut(segment)?.get_mut(slot)?.as_mut()
    }

    pub(crate) fn oldest(&self) -> Option<&Entry> {
        self.get(self.first)
    }

    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        match self.segments.back_mut() {
            Some(segment) if segment.len() < SEGMENT => {
                self.slots -= segment.capacity();
                segment.push(Some(entry));
                self.slots += segment.capacity();
            }
            _ => {
                // The first segment grows as it fills, so that small topics stay small.
                let mut segment =
                    if self.segments.is_empty() { Vec::new() } else { Vec::with_capacity(SEGMENT) };
                segment.push(Some(entry));
                self.slots += segment.capacity();
                self.segments.push_back(segment);
            }
        }
        self.next += 1;
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<Entry> {
        let entry = self.segments.front_mut()?.get_mut(self.taken)?.take()?;
        self.evicted_through = entry.position;
        self.removed_oldest();
        Some(entry)
    }

    /// As [`pop_oldest`](Self::pop_oldest), without moving the message, which has 192 bytes.
    pub(crate) fn drop_oldest(&mut self) {
        if let Some(oldest) = self.segments.front_mut().and_then(|all| all.get_mut(self.taken))
            && let Some(entry) = oldest
        {
            self.evicted_through = entry.position;
            *oldest = None;
            self.removed_oldest();
        }
    }

    fn removed_oldest(&mut self) {
        self.taken += 1;
        self.first += 1;
        if self.first == self.next {
            self.segments = VecDeque::new();
            self.slots = 0;
            self.taken = 0;
        } else if self.taken == SEGMENT {
            let segment = self.segments.pop_front();
            self.slots -= segment.map_or(0, |segment| segment.capacity());
            self.taken = 0;
            if self.segments.len() < self.segments.capacity() / 8 {
                self.segments.shrink_to(2 * self.segments.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode_message;
    use proptest::prelude::*;

    fn entry(position: u64) -> Entry {
        Entry {
            position,
            accepted: 0,
            origin: None,
            stamp: 0,
            count: Count { count: 1, since: 0 },
            digest: Digest([0; 32]),
            body: Body::Small(encode_message(1, 1, 1, 0, &bytes::Bytes::new())),
            cost: 0,
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_queue_with_numbers(steps in proptest::collection::vec(0_u8..5, 0..600)) {
            let mut log = Log::new();
            let mut model = VecDeque::new();
            for (position, step) in steps.into_iter().enumerate() {
                match step {
                    0..3 => {
                        log.push(entry(position as u64));
                        model.push_back(position as u64);
                    }
                    3 => {
                        log.drop_oldest();
                        model.pop_front();
                    }
                    _ => {
                        let popped = log.pop_oldest().map(|entry| entry.position);
                        prop_assert_eq!(popped, model.pop_front());
                    }
                }
                prop_assert_eq!(log.len(), model.len() as u64);
                let slots: usize = log.segments.iter().map(Vec::capacity).sum();
                prop_assert_eq!(log.slack(), (slots - model.len()) * SLOT_COST);
                prop_assert_eq!(log.get(log.next() - 1).map(|e| e.position), model.back().copied());
                for (index, position) in model.iter().enumerate() {
                    let found = log.get(log.first() + index as u64).map(|e| e.position);
                    prop_assert_eq!(found, Some(*position));
                }
                prop_assert!(log.get(log.next()).is_none() && log.get(log.first() - 1).is_none());
            }
        }
    }
}
