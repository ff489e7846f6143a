//! The memory of a receiver is bounded, also against a hostile daemon.

use super::receiver::{RTT, ask, members, poll, receiver};
use super::*;
use crate::wire::realtime::receiver::{ALL_HOLES, TOPIC_HOLES};
use std::collections::BTreeSet;

#[test]
fn what_a_hostile_daemon_says_costs_no_more_than_the_bounds() {
    let mut receiver = receiver(1);
    assert_eq!(receiver.message(0, RTT, 1, u64::MAX), Arrival::Unknown);
    assert_eq!(receiver.message(0, RTT, 1, u64::MAX - 1), Arrival::New);
    receiver.head(0, RTT, 1, u64::MAX);
    assert_eq!(poll(&mut receiver, 8 * MS), [ask(&[(1, u64::MAX - 2)], true)]);
    assert_eq!(receiver.message(0, RTT, 1, u64::MAX - 1), Arrival::Duplicate);
    assert_eq!(receiver.gap(0, RTT, 1, 0, u64::MAX), [(1, u64::MAX - 2)]);
    assert_eq!(receiver.gap(0, RTT, 1, 0, u64::MAX), []);
    assert_eq!(receiver.gap(0, RTT, 1, 9, 3), []);
    receiver.audit();
    for (id, next) in [(2, 0), (3, u64::MAX), (4, u64::MAX - 1)] {
        receiver.topic(0, u64::MAX, id, next, [(0, u64::MAX), (u64::MAX, u64::MAX), (5, 5)]);
        receiver.audit();
        receiver.message(u64::MAX, u64::MAX, id, next);
        receiver.message(u64::MAX, u64::MAX, id, u64::MAX - 1);
        receiver.head(u64::MAX, u64::MAX, id, u64::MAX);
        assert!(receiver.next(id).unwrap() >= u64::MAX - 1);
    }
    assert_eq!(receiver.gap(0, RTT, 99, 0, u64::MAX), []);
    // Every other message of many topics arrives: the limits hold, and no sequence is forgotten.
    let mut receiver = Receiver::new(true, 0);
    let mut fit = BTreeSet::new();
    for id in 0..40_u64 {
        receiver.topic(0, RTT, id, 1, []);
        for n in 1..1000_u64 {
            // In order, between the holes and beyond them.
            for sequence in [3 * n, 3 * n + 1] {
                if receiver.message(0, RTT, id, sequence) == Arrival::New {
                    assert!(fit.insert((id, sequence)));
                }
            }
        }
        assert!(receiver.holes(id).len() <= TOPIC_HOLES + 1);
        receiver.audit();
    }
    let holes: usize = (0..40).map(|id| receiver.holes(id).len()).sum();
    assert!(holes <= ALL_HOLES + 40, "{holes}");
    let mut out = Vec::new();
    receiver.poll(1000 * MS, RTT, &mut out);
    receiver.audit();
    let mut asked = BTreeSet::new();
    for due in out {
        let Due::Ask { topic, holes, .. } = due else { panic!() };
        asked.extend(members(&holes).into_iter().map(|sequence| (topic, sequence)));
    }
    let all = (0..40_u64).flat_map(|id| (1..=2998).map(move |sequence| (id, sequence)));
    assert_eq!(asked, all.filter(|at| !fit.contains(at)).collect());
    // The answers arrive.
    for (id, sequence) in asked {
        assert_eq!(receiver.message(1100 * MS, RTT, id, sequence), Arrival::New);
    }
    assert_eq!(receiver.due(), None);
}

#[test]
fn however_it_is_crowded_no_more_than_one_hole_is_added() {
    let mut receiver = receiver(1);
    let most = 2 * TOPIC_HOLES as u64;
    for sequence in (2..=most).step_by(2) {
        assert_eq!(receiver.message(0, RTT, 1, sequence), Arrival::New);
    }
    assert_eq!(receiver.holes(1).len(), TOPIC_HOLES);
    // Nothing is missing in between, so that no hole is needed.
    assert_eq!(receiver.message(0, RTT, 1, most + 1), Arrival::New);
    assert_eq!(receiver.gap(0, RTT, 1, most + 2, most + 3), [(most + 2, most + 3)]);
    for beyond in 0..100 {
        let at = most + 10 + 10 * beyond;
        assert_eq!(receiver.message(0, RTT, 1, at), Arrival::Full);
        assert_eq!(receiver.message(0, RTT, 1, at), Arrival::Full, "the end of the last hole");
        assert_eq!(receiver.message(0, RTT, 1, at + 1), Arrival::Full);
        assert_eq!(receiver.gap(0, RTT, 1, at - 2, at + 3), []);
        receiver.audit();
        assert_eq!(receiver.holes(1).len(), TOPIC_HOLES + 1);
    }
    assert_eq!(receiver.message(0, RTT, 1, most + 4), Arrival::New, "its beginning");
    // With room again, the receiver accepts messages as before.
    assert_eq!(receiver.gap(0, RTT, 1, 1, 9), [(1, 1), (3, 3), (5, 5), (7, 7), (9, 9)]);
    assert_eq!(receiver.message(0, RTT, 1, most + 10), Arrival::New);
}
