//! A histogram of durations that many threads add to, without a lock. The metrics library's own one
//! locks with each observation, and the journal is built without that library.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The upper bounds of the buckets, µs. The last bucket is beyond all of them.
const BOUNDS: [u64; 17] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// Durations, counted by their length.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    // µs.
    sum: AtomicU64,
}

impl Histogram {
    /// Adds a duration, µs.
    pub(crate) fn observe(&self, micros: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(micros, Relaxed);
    }

    /// Returns the sum of all durations, and the number in each bucket with its upper bound. The last
    /// bucket has none.
    #[cfg_attr(not(feature = "daemon"), allow(dead_code, reason = "for the metrics of the daemon"))]
    pub(crate) fn read(&self) -> (Duration, Vec<(Option<Duration>, u64)>) {
        let bounds = BOUNDS.iter().map(|bound| Some(Duration::from_micros(*bound)));
        let counts = self.buckets.iter().map(|count| count.load(Relaxed));
        let buckets = bounds.chain([None]).zip(counts).collect();
        (Duration::from_micros(self.sum.load(Relaxed)), buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_it_does_not_exceed() {
        let histogram = Histogram::default();
        for micros in [0, 25, 26, 10_000_000, 10_000_001] {
            histogram.observe(micros);
        }
        let (sum, buckets) = histogram.read();
        assert_eq!(sum, Duration::from_micros(20_000_052));
        let filled = buckets.iter().filter(|(_, count)| *count > 0);
        let filled: Vec<_> =
            filled.map(|(bound, count)| (bound.map(|bound| bound.as_micros()), *count)).collect();
        assert_eq!(filled, [(Some(25), 2), (Some(50), 1), (Some(10_000_000), 1), (None, 1)]);
    }
}
