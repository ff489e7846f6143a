//! Compares each part with a plain model of it.

mod bounds;
mod receiver;
mod repeats;
mod unacked;
mod vectors;

use super::*;
use proptest::prelude::*;

const MS: u64 = 1000;

proptest! {
    // For every time and every path, no time overflows, and the times keep their order.
    #[test]
    fn times_are_within_the_bounds_of_the_protocol(rtt: u64) {
        for rtt in [rtt, rtt % 1_000_000, rtt % 10_000] {
            prop_assert_eq!(repeat_after(rtt).is_some(), rtt > 5 * MS);
            prop_assert!(repeat_after(rtt).is_none_or(|after| (2 * MS..=6 * MS).contains(&after)));
            prop_assert!((3 * MS..=8 * MS).contains(&grace(rtt)));
            // The grace covers the repeat.
            prop_assert!(repeat_after(rtt).is_none_or(|after| grace(rtt) > after));
            prop_assert!(ask_again(rtt) >= rtt.saturating_add(10 * MS));
            prop_assert!(ask_again_reliably(rtt) >= ask_again(rtt));
            prop_assert!(acknowledged_within(rtt) >= ask_again(rtt));
        }
    }
}

#[test]
fn times_at_fifty_milliseconds() {
    assert_eq!(repeat_after(5 * MS), None);
    assert_eq!(repeat_after(5 * MS + 1), Some(2 * MS));
    assert_eq!(repeat_after(50 * MS), Some(5 * MS));
    assert_eq!(repeat_after(32 * MS), Some(3200));
    assert_eq!(grace(0), 3 * MS);
    assert_eq!(grace(50 * MS), 8 * MS);
    assert_eq!(ask_again(50 * MS), 72_500);
    assert_eq!(ask_again_reliably(50 * MS), 1_200 * MS);
    assert_eq!(acknowledged_within(50 * MS), 85 * MS);
}
