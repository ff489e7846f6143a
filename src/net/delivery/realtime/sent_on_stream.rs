//! The messages that a realtime delivery has written to its stream. Datagrams may overtake them,
//! and the receiver then requests them although they are in flight.

use std::collections::VecDeque;

/// Maximum number of ranges. A message of an evicted range may be sent twice; the receiver drops
/// the second.
const RANGES: usize = 64;

/// For this long after a message was written to the stream, a repair request for it is ignored,
/// even on the control stream: the message is still in flight. A later request means that the
/// receiver has discarded it. 2 s in µs.
const IN_FLIGHT: u64 = 2_000_000;

#[derive(Debug)]
struct Range {
    topic: u64,
    first: u64,
    last: u64,
    // When the last message was written.
    at: u64,
}

/// Ranges of sequences, oldest first.
#[derive(Debug, Default)]
pub(crate) struct SentOnStream(VecDeque<Range>);

impl SentOnStream {
    /// Adds a message that was written. `now` is in µs.
    pub(crate) fn push(&mut self, now: u64, topic: u64, sequence: u64) {
        match self.0.back_mut() {
            Some(range) if range.topic == topic && range.last + 1 == sequence => {
                (range.last, range.at) = (sequence, now);
            }
            _ => {
                if self.0.len() >= RANGES {
                    self.0.pop_front();
                }
                self.0.push_back(Range { topic, first: sequence, last: sequence, at: now });
            }
        }
    }

    fn find(&self, topic: u64, sequence: u64) -> impl Iterator<Item = &Range> {
        let holds = move |range: &&Range| {
            range.topic == topic && (range.first..=range.last).contains(&sequence)
        };
        self.0.iter().filter(holds)
    }

    /// Whether the message was written, and will therefore arrive.
    pub(crate) fn contains(&self, topic: u64, sequence: u64) -> bool {
        self.find(topic, sequence).next().is_some()
    }

    /// Whether the message was written so recently that it may still be in flight.
    pub(crate) fn is_in_flight(&self, now: u64, topic: u64, sequence: u64) -> bool {
        self.find(topic, sequence).any(|range| now < range.at + IN_FLIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_and_are_bounded() {
        let mut sent = SentOnStream::default();
        (1..=1000).for_each(|sequence| sent.push(sequence, 1, sequence));
        assert_eq!(sent.0.len(), 1);
        assert!(sent.contains(1, 500) && !sent.contains(1, 1001) && !sent.contains(2, 500));
        assert!(sent.is_in_flight(IN_FLIGHT, 1, 3));
        assert!(!sent.is_in_flight(1000 + IN_FLIGHT, 1, 3));
        (0..1000).for_each(|topic| sent.push(0, topic, topic * 2 + 1));
        assert_eq!(sent.0.len(), RANGES);
    }
}
