//! Publications in datagrams: repeated once, then sent on the stream, until they are settled.

use super::*;
use crate::wire::{Encoded, encode_publish};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

const RTT: u64 = 50 * MS;

fn frame(alias: u32, number: u64) -> Encoded {
    encode_publish(alias, number, 0, &Bytes::from_static(b"x"))
}

fn poll(unacked: &mut Unacked, now: u64) -> Vec<Resend> {
    let mut out = Vec::new();
    unacked.poll(now, RTT, &mut out);
    assert!(unacked.due().is_none_or(|due| due > now), "due again in the same moment");
    out
}

#[test]
fn repeated_once_then_on_the_stream_until_its_receipt() {
    let mut unacked = Unacked::new();
    unacked.push(0, RTT, 1, 7, frame(1, 7));
    assert_eq!(unacked.due(), Some(5 * MS));
    assert_eq!(poll(&mut unacked, 4 * MS), []);
    assert_eq!(poll(&mut unacked, 5 * MS), [Resend::Datagram(1, frame(1, 7))]);
    assert_eq!(unacked.due(), Some(85 * MS));
    assert_eq!(poll(&mut unacked, 85 * MS), [Resend::Stream(1, 7, frame(1, 7))]);
    assert_eq!((unacked.due(), unacked.len()), (None, 1));
    assert!(unacked.settled(1, 7));
    assert!(!unacked.settled(1, 7));
    assert!(unacked.is_empty());
}

#[test]
fn on_a_short_path_or_late_it_goes_on_the_stream_at_once() {
    let mut unacked = Unacked::new();
    unacked.push(0, 2 * MS, 1, 1, frame(1, 1));
    assert_eq!(unacked.due(), Some(13 * MS));
    let mut out = Vec::new();
    unacked.poll(13 * MS, 2 * MS, &mut out);
    assert_eq!(out, [Resend::Stream(1, 1, frame(1, 1))]);
    unacked.push(0, RTT, 1, 2, frame(1, 2));
    assert_eq!(poll(&mut unacked, 1000 * MS), [Resend::Stream(1, 2, frame(1, 2))]);
    unacked.push(u64::MAX, u64::MAX, 1, 3, frame(1, 3));
    unacked.poll(u64::MAX, u64::MAX, &mut out);
    assert_eq!(unacked.due(), None);
}

#[test]
fn a_path_that_has_become_longer_is_waited_for() {
    let mut unacked = Unacked::new();
    unacked.push(0, RTT, 1, 1, frame(1, 1));
    poll(&mut unacked, 6 * MS);
    let mut out = Vec::new();
    unacked.poll(85 * MS, 100 * MS, &mut out);
    assert_eq!((out.len(), unacked.due()), (0, Some(160 * MS)));
    unacked.poll(160 * MS, 100 * MS, &mut out);
    assert_eq!(out.len(), 1);
}

#[test]
fn what_is_missing_before_later_ones_goes_on_the_stream_at_once() {
    let mut unacked = Unacked::new();
    let mut now = 0;
    for number in 1..=30 {
        now = number * MS;
        unacked.push(now, RTT, 1, number, frame(1, number));
        poll(&mut unacked, now);
    }
    // 3 was repeated after 9 ms: publications sent up to 16 ms may have overtaken it.
    unacked.acknowledged(1, 2, 0b1_1111_1111_1110, &mut |_, _| {});
    assert!(unacked.due().is_none_or(|due| due > now));
    unacked.acknowledged(1, 2, 0b111_1111_1111_1110, &mut |_, _| {});
    assert_eq!(poll(&mut unacked, now), [Resend::Stream(1, 3, frame(1, 3))]);
    unacked.acknowledged(1, 2, 0b1111_1111_1111_1110, &mut |_, _| {});
    assert_eq!(poll(&mut unacked, now), [], "once");
    assert!(unacked.settled(1, 3));
}

proptest! {
    // Compared with sets: only acknowledged publications are settled, each once. The others are sent
    // when they are due, with any acknowledgements in between.
    #[test]
    fn settled_once(
        steps in proptest::collection::vec(
            (0_u64..8, 0_u32..3, 0_u64..100, any::<u64>(), 0_u64..20), 1..300),
    ) {
        let mut unacked = Unacked::new();
        let mut waiting: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        // When the newest acknowledged publications were sent.
        let mut overtaken = [0_u64; 3];
        let mut numbers = [0_u64; 3];
        let (mut repeated, mut streamed) = (BTreeSet::new(), BTreeSet::new());
        let mut now = 0;
        for (what, alias, floor, seen, wait) in steps {
            now += wait * MS;
            match what {
                0..5 => {
                    numbers[alias as usize] += 1;
                    let number = numbers[alias as usize];
                    unacked.push(now, RTT, alias, number, frame(alias, number));
                    waiting.insert((alias, number), now);
                }
                5 => {
                    let seen = seen & seen.rotate_left(7);
                    let mut settled = BTreeSet::new();
                    unacked.acknowledged(alias, floor, seen, &mut |alias, number| {
                        assert!(settled.insert((alias, number)));
                    });
                    let told = |number: u64| number <= floor
                        || (number - floor <= 64 && seen >> (number - floor - 1) & 1 == 1);
                    let expected: BTreeSet<_> = waiting.keys().copied()
                        .filter(|(of, number)| *of == alias && told(*number)).collect();
                    for key in &expected {
                        let latest = &mut overtaken[alias as usize];
                        *latest = waiting[key].max(*latest);
                    }
                    waiting.retain(|key, _| !expected.contains(key));
                    prop_assert_eq!(settled, expected);
                }
                _ => {
                    let expected = waiting.remove(&(alias, floor)).is_some();
                    prop_assert_eq!(unacked.settled(alias, floor), expected);
                }
            }
            let mut out = Vec::new();
            unacked.poll(now, RTT, &mut out);
            for resend in out {
                match resend {
                    Resend::Datagram(alias, frame) => {
                        let key = waiting.keys().find(|(of, number)|
                            *of == alias && unacked::frame(alias, *number) == frame);
                        let key = *key.expect("one that is settled");
                        prop_assert!(repeated.insert(key) && !streamed.contains(&key));
                    }
                    Resend::Stream(alias, number, frame) => {
                        prop_assert_eq!(frame, unacked::frame(alias, number));
                        let sent = waiting[&(alias, number)];
                        let overtaken = overtaken[alias as usize] >= sent + 14 * MS;
                        prop_assert!(sent + 85 * MS <= now || overtaken);
                        prop_assert!(streamed.insert((alias, number)));
                    }
                }
            }
            prop_assert_eq!(unacked.len(), waiting.len());
            prop_assert!(unacked.due().is_none() || waiting.keys().any(|key| !streamed.contains(key)));
            for (key, sent) in &waiting {
                let age = now - sent;
                prop_assert!(age < 6 * MS || repeated.contains(key) || age >= 85 * MS);
                prop_assert!(age < 85 * MS || streamed.contains(key));
            }
        }
        // The highest values do not overflow.
        unacked.acknowledged(0, u64::MAX - 3, u64::MAX, &mut |_, _| {});
        unacked.acknowledged(1, u64::MAX, u64::MAX, &mut |_, _| {});
        prop_assert!(unacked.len() <= numbers[2] as usize);
    }
}
