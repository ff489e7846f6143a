//! A topic's ring of messages: sequence → message, without holes, oldest first.

use super::body::Body;
use super::counts::Count;
use crate::wire::{Digest, ProducerId};
use std::collections::VecDeque;

/// Where a message was first published: whoever sees it a second time can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicationId {
    /// The producer; or, where the number is 0, what stands for a key.
    pub producer: ProducerId,
    /// The producer's number for it: 1, 2, 3 … per topic. 0 is a publication under a key of its
    /// own: see [`Engine::keys`](crate::engine::Engine::keys).
    pub number: u64,
}

impl PublicationId {
    /// Whether this is a key, and not a producer's number.
    pub fn is_key(&self) -> bool {
        self.number == 0
    }
}

/// A message as the log keeps it. Its sequence is its place.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) position: u64,
    // When it was accepted, or began to arrive, µs; only compared.
    pub(crate) accepted: u64,
    pub(crate) origin: Option<PublicationId>,
    pub(crate) stamp: u64,
    // Known once it is complete, as is the digest.
    pub(crate) count: Count,
    pub(crate) digest: Digest,
    pub(crate) body: Body,
    // Bytes charged to the budget for it.
    pub(crate) cost: usize,
}

// Messages in one piece of memory. A log grows by a piece at a time, so that no publication pays
// for moving all the others, and memory goes back as the oldest leave.
const SEGMENT: usize = 32;

/// What a place costs, bytes.
pub(crate) const PLACE: usize = allocated(SEGMENT * size_of::<Option<Entry>>()) / SEGMENT;

/// What allocators give for so many bytes: four sizes between one power of two and the next.
pub(crate) const fn allocated(bytes: usize) -> usize {
    let step = bytes.next_power_of_two() / 8;
    bytes.next_multiple_of(if step < 16 { 16 } else { step })
}

/// Messages `first..next`.
#[derive(Debug)]
pub(crate) struct Log {
    segments: VecDeque<Vec<Option<Entry>>>,
    // Entries already taken from the front segment.
    taken: usize,
    first: u64,
    next: u64,
    gone: u64,
    // Places in all segments, taken and free ones included.
    places: usize,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { segments: VecDeque::new(), taken: 0, first: 1, next: 1, gone: 0, places: 0 }
    }

    /// Sequence of the oldest message; equal to [`next`](Self::next) when there is none.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Sequence that the next message will have.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Position of the last message that has left; 0 is none.
    pub(crate) fn gone(&self) -> u64 {
        self.gone
    }

    /// Position of the last message there was, still here or not; 0 is none.
    pub(crate) fn moved(&self) -> u64 {
        self.get(self.next - 1).map_or(self.gone, |entry| entry.position)
    }

    pub(crate) fn len(&self) -> u64 {
        self.next - self.first
    }

    /// Bytes of places without a message.
    pub(crate) fn slack(&self) -> usize {
        (self.places - self.len() as usize) * PLACE
    }

    fn place(&self, sequence: u64) -> Option<(usize, usize)> {
        if !(self.first..self.next).contains(&sequence) {
            return None;
        }
        let index = (sequence - self.first) as usize + self.taken;
        Some((index / SEGMENT, index % SEGMENT))
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&Entry> {
        let (segment, slot) = self.place(sequence)?;
        self.segments.get(segment)?.get(slot)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, sequence: u64) -> Option<&mut Entry> {
        let (segment, slot) = self.place(sequence)?;
        self.segments.get_mut(segment)?.get_mut(slot)?.as_mut()
    }

    pub(crate) fn oldest(&self) -> Option<&Entry> {
        self.get(self.first)
    }

    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        match self.segments.back_mut() {
            Some(segment) if segment.len() < SEGMENT => {
                self.places -= segment.capacity();
                segment.push(Some(entry));
                self.places += segment.capacity();
            }
            _ => {
                // Small topics stay small: a first segment grows as it fills.
                let mut segment =
                    if self.segments.is_empty() { Vec::new() } else { Vec::with_capacity(SEGMENT) };
                segment.push(Some(entry));
                self.places += segment.capacity();
                self.segments.push_back(segment);
            }
        }
        self.next += 1;
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<Entry> {
        let entry = self.segments.front_mut()?.get_mut(self.taken)?.take()?;
        self.gone = entry.position;
        self.oldest_has_left();
        Some(entry)
    }

    /// As [`pop_oldest`](Self::pop_oldest), without moving it: it has 192 bytes.
    pub(crate) fn drop_oldest(&mut self) {
        if let Some(oldest) = self.segments.front_mut().and_then(|all| all.get_mut(self.taken))
            && let Some(entry) = oldest
        {
            self.gone = entry.position;
            *oldest = None;
            self.oldest_has_left();
        }
    }

    fn oldest_has_left(&mut self) {
        self.taken += 1;
        self.first += 1;
        if self.first == self.next {
            self.segments = VecDeque::new();
            self.places = 0;
            self.taken = 0;
        } else if self.taken == SEGMENT {
            let segment = self.segments.pop_front();
            self.places -= segment.map_or(0, |segment| segment.capacity());
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
                let places: usize = log.segments.iter().map(Vec::capacity).sum();
                prop_assert_eq!(log.slack(), (places - model.len()) * PLACE);
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
