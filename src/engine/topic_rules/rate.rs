//! A token bucket: how often something may happen.

use std::num::NonZeroU32;

const SECOND: u64 = 1_000_000_000;

/// A bucket that is full after a second. It holds as many tokens as the rate has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenBucket {
    // The time at which it will be full, ns since 1970.
    full_at: u64,
}

impl TokenBucket {
    pub(crate) const FULL: Self = Self { full_at: 0 };

    /// Takes a token. Returns whether there was one. `now` is in µs since 1970, and may go back: then
    /// the bucket fills as usual.
    pub(crate) fn take(&mut self, now: u64, rate: NonZeroU32) -> bool {
        let now = now.saturating_mul(1000);
        let end = now.saturating_add(SECOND);
        self.full_at = self.full_at.clamp(now, end);
        let full_at = self.full_at.saturating_add(SECOND / u64::from(rate.get()));
        if full_at > end {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(bucket: &mut TokenBucket, now: u64, rate: u32, tries: u32) -> u32 {
        let rate = NonZeroU32::new(rate).unwrap();
        (0..tries).filter(|_| bucket.take(now, rate)).count() as u32
    }

    #[test]
    fn a_second_of_tokens_and_then_one_at_a_time() {
        let (mut bucket, now) = (TokenBucket::FULL, 1_700_000_000_000_000);
        assert_eq!(taken(&mut bucket, now, 10, 100), 10);
        assert_eq!(taken(&mut bucket, now + 99_999, 10, 100), 0);
        assert_eq!(taken(&mut bucket, now + 100_000, 10, 100), 1);
        assert_eq!(taken(&mut bucket, now + 5_000_000, 10, 100), 10);
        let mut one = TokenBucket::FULL;
        assert_eq!(taken(&mut one, now, 1, 9), 1);
        assert_eq!(taken(&mut one, now + 999_999, 1, 9), 0);
        assert_eq!(taken(&mut one, now + 1_000_000, 1, 9), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nobody_for_long() {
        let (mut bucket, now) = (TokenBucket::FULL, 1_700_000_000_000_000);
        assert_eq!(taken(&mut bucket, now, 10, 100), 10);
        let earlier = now - 3_600_000_000;
        assert_eq!(taken(&mut bucket, earlier, 10, 100), 0);
        assert_eq!(taken(&mut bucket, earlier + 100_000, 10, 100), 1);
        assert_eq!(taken(&mut bucket, 0, 10, 100), 0);
        taken(&mut bucket, u64::MAX, 10, 100);
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_one_bucket(
            rate in 1_u32..2000,
            steps in proptest::collection::vec((0_u64..400_000, 0_u32..50), 1..200),
        ) {
            let mut bucket = TokenBucket::FULL;
            let begin = 1_700_000_000_000_000;
            let (mut now, mut all) = (begin, 0_u64);
            for (passed, tries) in steps {
                now += passed;
                let got = taken(&mut bucket, now, rate, tries);
                all += u64::from(got);
                // The interval between tokens is cut to whole nanoseconds.
                let fair = u64::from(rate) + u64::from(rate) * (now - begin) / 1_000_000;
                prop_assert!(all <= fair + 1 + fair / 1000, "{} of {}", all, fair);
                // A publisher is refused only without a token.
                prop_assert!(got == tries || taken(&mut bucket, now, rate, 1) == 0);
            }
        }
    }
}
