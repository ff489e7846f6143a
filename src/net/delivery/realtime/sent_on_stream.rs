//! What a realtime delivery has sent by stream, so that it is not sent again only because datagrams
//! have overtaken it and the peer asks.

use std::collections::VecDeque;

/// Ranges that are remembered. What is forgotten is sent again when asked for, and dropped there.
const RANGES: usize = 64;

/// For how long what went by stream is not sent again even to who asks on the control stream, 2 s
/// in µs. Who asks later has dropped it, for want of room to remember that it came.
const UNDER_WAY: u64 = 2_000_000;

#[derive(Debug)]
struct Range {
    topic: u64,
    first: u64,
    last: u64,
    // When the last was written.
    at: u64,
}

/// The ranges, oldest first.
#[derive(Debug, Default)]
pub(crate) struct SentOnStream(VecDeque<Range>);

impl SentOnStream {
    /// A message was written.
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

    /// Whether it was written, and will arrive.
    pub(crate) fn has(&self, topic: u64, sequence: u64) -> bool {
        self.find(topic, sequence).next().is_some()
    }

    /// Whether that was so lately that it may still be on its way.
    pub(crate) fn is_under_way(&self, now: u64, topic: u64, sequence: u64) -> bool {
        self.find(topic, sequence).any(|range| now < range.at + UNDER_WAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_and_are_bounded() {
        let mut streamed = SentOnStream::default();
        (1..=1000).for_each(|sequence| streamed.push(sequence, 1, sequence));
        assert_eq!(streamed.0.len(), 1);
        assert!(streamed.has(1, 500) && !streamed.has(1, 1001) && !streamed.has(2, 500));
        assert!(streamed.is_under_way(UNDER_WAY, 1, 3));
        assert!(!streamed.is_under_way(1000 + UNDER_WAY, 1, 3));
        (0..1000).for_each(|topic| streamed.push(0, topic, topic * 2 + 1));
        assert_eq!(streamed.0.len(), RANGES);
    }
}
