//! Messages, gaps and heads in any order, compared with sets of received and of known sequences.

use super::*;
use crate::wire::realtime::receiver::TOPIC_HOLES;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const RTT: u64 = 50 * MS;

pub(super) fn receiver(next: u64) -> Receiver {
    let mut receiver = Receiver::new(true, 0);
    receiver.topic(0, RTT, 1, next, []);
    receiver
}

pub(super) fn poll(receiver: &mut Receiver, now: u64) -> Vec<Due> {
    let mut out = Vec::new();
    receiver.poll(now, RTT, &mut out);
    receiver.audit();
    assert!(receiver.due().is_none_or(|due| due > now), "due again in the same moment");
    out
}

pub(super) fn ask(holes: &[(u64, u64)], reliably: bool) -> Due {
    Due::Ask { topic: 1, holes: holes.into(), reliably }
}

#[derive(Debug, Clone)]
enum Op {
    Message(u64, u64),
    Gap(u64, u64, u64),
    Head(u64, u64),
    Wait(u64),
    Forget(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let topic = 0_u64..3;
    // Odd sequences are more frequent, so that there are many holes.
    let sequence = prop_oneof![(0_u64..1200).prop_map(|n| n | 1), 0_u64..1200];
    prop_oneof![
        600 => (topic.clone(), sequence).prop_map(|(t, s)| Op::Message(t, s)),
        20 => (topic.clone(), 0_u64..1200, prop_oneof![0_u64..4, 0_u64..400])
            .prop_map(|(t, f, n)| Op::Gap(t, f, f.saturating_add(n))),
        20 => (topic.clone(), 0_u64..1250).prop_map(|(t, s)| Op::Head(t, s)),
        40 => (0_u64..200).prop_map(|ms| Op::Wait(ms * MS)),
        1 => topic.prop_map(Op::Forget),
    ]
}

#[derive(Default)]
struct Model {
    start: u64,
    // Received, or reported as a gap.
    settled: BTreeSet<u64>,
    // One above the highest known sequence.
    end: u64,
}

impl Model {
    fn settle(&mut self, sequence: u64) -> bool {
        sequence >= self.start && self.settled.insert(sequence)
    }

    fn misses(&self, sequence: u64) -> bool {
        (self.start..self.end).contains(&sequence) && !self.settled.contains(&sequence)
    }

    fn missing(&self) -> BTreeSet<u64> {
        (self.start..self.end).filter(|sequence| self.misses(*sequence)).collect()
    }
}

pub(super) fn members(ranges: &[(u64, u64)]) -> BTreeSet<u64> {
    ranges.iter().flat_map(|(first, last)| *first..=*last).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn each_once_and_what_is_missing_is_asked_for(
        starts in proptest::collection::vec(0_u64..40, 3),
        ops in proptest::collection::vec(op(), 0..2500),
        deadline in prop_oneof![2 => Just(0), 1 => 0_u64..300],
        repair in prop_oneof![4 => Just(true), 1 => Just(false)],
    ) {
        let mut receiver = Receiver::new(repair, deadline * MS);
        let mut models: BTreeMap<u64, Model> = BTreeMap::new();
        let mut now = 0;
        for (step, op) in ops.into_iter().enumerate() {
            let (Op::Message(id, _) | Op::Gap(id, ..) | Op::Head(id, _)) = op else {
                match op {
                    Op::Wait(time) => now += time,
                    Op::Forget(id) => {
                        receiver.forget(id);
                        models.remove(&id);
                        prop_assert_eq!(receiver.message(now, RTT, id, 7), Arrival::Unknown);
                    }
                    _ => unreachable!(),
                }
                continue;
            };
            if !receiver.knows(id) {
                let start = starts[id as usize];
                receiver.topic(now, RTT, id, start, []);
                models.insert(id, Model { start, end: start, settled: BTreeSet::new() });
            }
            let model = models.get_mut(&id).unwrap();
            match op {
                Op::Message(_, sequence) => {
                    let arrival = receiver.message(now, RTT, id, sequence);
                    if arrival == Arrival::Full {
                        prop_assert!(receiver.holes(id).len() >= TOPIC_HOLES);
                    } else {
                        let new = model.settle(sequence);
                        prop_assert_eq!(arrival == Arrival::New, new, "{:?} {}", arrival, sequence);
                    }
                    model.end = model.end.max(sequence + 1);
                }
                Op::Gap(_, first, last) => {
                    let told = receiver.gap(now, RTT, id, first, last);
                    prop_assert!(told.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
                    let crowded = receiver.holes(id).len() >= TOPIC_HOLES;
                    let told = members(&told);
                    prop_assert!(told.iter().all(|sequence| (first..=last).contains(sequence)));
                    for sequence in first..=last {
                        if told.contains(&sequence) || !crowded {
                            prop_assert_eq!(model.settle(sequence), told.contains(&sequence));
                        }
                    }
                    model.end = model.end.max(last + 1);
                }
                Op::Head(_, sequence) => {
                    receiver.head(now, RTT, id, sequence);
                    model.end = model.end.max(sequence + 1);
                }
                Op::Wait(_) | Op::Forget(_) => unreachable!(),
            }
            let mut due = Vec::new();
            receiver.poll(now, RTT, &mut due);
            for due in due {
                match due {
                    Due::Ask { topic, holes, reliably } => {
                        let asked = members(&holes);
                        prop_assert!(repair && holes.len() <= HOLES);
                        prop_assert!(reliably || asked.len() <= 64);
                        prop_assert!(asked.iter().all(|at| models[&topic].misses(*at)));
                    }
                    Due::Late { topic, first, last } => {
                        prop_assert!(repair && deadline > 0);
                        let model = models.get_mut(&topic).unwrap();
                        for sequence in first..=last {
                            prop_assert!(sequence < model.end && model.settle(sequence));
                        }
                    }
                }
            }
            if step % 64 > 0 {
                continue;
            }
            receiver.audit();
            for (id, model) in &models {
                let missing = model.missing();
                prop_assert_eq!(members(&receiver.holes(*id)), missing.clone());
                let next = missing.first().copied().unwrap_or(model.end);
                prop_assert_eq!(receiver.next(*id), Some(next));
            }
        }
        // A resumed session gets what this one has recorded.
        for (id, model) in &models {
            let had = receiver.had(*id);
            let next = receiver.next(*id).unwrap();
            let above: BTreeSet<_> = model.settled.iter().filter(|at| **at > next).copied().collect();
            prop_assert_eq!(members(&had), above);
            prop_assert!(had.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            let mut resumed = Receiver::new(repair, 0);
            resumed.topic(now, RTT, *id, next, had.clone());
            resumed.audit();
            prop_assert_eq!((resumed.next(*id), resumed.had(*id)), (Some(next), had));
        }
        // Once every missing message has arrived, nothing is due.
        for (id, model) in &models {
            for sequence in model.missing() {
                prop_assert_eq!(receiver.message(now, RTT, *id, sequence), Arrival::New);
            }
        }
        receiver.audit();
        prop_assert_eq!(receiver.due(), None);
    }
}

#[test]
fn a_hole_is_asked_for_twice_in_datagrams_and_then_reliably() {
    let mut receiver = receiver(1);
    assert_eq!(receiver.message(100 * MS, RTT, 1, 1), Arrival::New);
    assert_eq!(receiver.due(), None);
    // The grace has passed if the next message arrives late enough.
    assert_eq!(receiver.message(117 * MS, RTT, 1, 3), Arrival::New);
    assert_eq!(receiver.due(), Some(117 * MS));
    assert_eq!(poll(&mut receiver, 117 * MS), [ask(&[(2, 2)], false)]);
    assert_eq!(receiver.due(), Some(117 * MS + 72_500));
    assert_eq!(poll(&mut receiver, 189 * MS), []);
    assert_eq!(poll(&mut receiver, 190 * MS), [ask(&[(2, 2)], false)]);
    assert_eq!(poll(&mut receiver, 262_500), [ask(&[(2, 2)], true)]);
    assert_eq!(receiver.due(), Some(262_500 + 1_200 * MS));
    assert_eq!(poll(&mut receiver, 1_462_500), [ask(&[(2, 2)], true)]);
    assert_eq!(receiver.message(1500 * MS, RTT, 1, 2), Arrival::New);
    assert_eq!(receiver.message(1500 * MS, RTT, 1, 2), Arrival::Duplicate);
    assert_eq!((receiver.due(), receiver.next(1)), (None, Some(4)));
    let stats = Stats { duplicates: 1, asked: 4, repaired: 1, late: 0 };
    assert_eq!(receiver.stats(), stats);
}

#[test]
fn what_is_merely_repeated_or_reordered_is_not_asked_for() {
    let mut receiver = receiver(1);
    receiver.message(100 * MS, RTT, 1, 1);
    receiver.message(101 * MS, RTT, 1, 3);
    assert_eq!(receiver.due(), Some(108 * MS), "8 ms after the message before the hole");
    assert_eq!(poll(&mut receiver, 107 * MS), []);
    receiver.message(107 * MS, RTT, 1, 2);
    assert_eq!(receiver.due(), None);
    assert_eq!(receiver.stats().asked, 0);
}

#[test]
fn more_than_a_datagram_may_ask_for_is_asked_for_reliably_at_once() {
    let mut receiver = receiver(1);
    for sequence in [1, 3, 33, 64, 101, 200] {
        receiver.message(100 * MS, RTT, 1, sequence);
    }
    let asked = poll(&mut receiver, 108 * MS);
    // 1, 29 and 30 are 60 sequences; 36 and 98 do not fit.
    let datagram = ask(&[(2, 2), (4, 32), (34, 63)], false);
    assert_eq!(asked, [datagram, ask(&[(65, 100), (102, 199)], true)]);
}

#[test]
fn a_repair_names_at_most_64_holes() {
    let mut receiver = receiver(1);
    (1..150).for_each(|n| _ = receiver.message(100 * MS, RTT, 1, 2 * n));
    let asked = poll(&mut receiver, 108 * MS);
    let shape = asked.iter().map(|due| match due {
        Due::Ask { holes, reliably, .. } => (holes.len(), *reliably),
        Due::Late { .. } => panic!(),
    });
    assert_eq!(shape.collect::<Vec<_>>(), [(64, false), (64, true), (21, true)]);
}

#[test]
fn a_head_tells_of_the_end_of_a_burst() {
    let mut receiver = receiver(1);
    receiver.message(100 * MS, RTT, 1, 1);
    receiver.head(150 * MS, RTT, 1, 1);
    assert_eq!(receiver.due(), None);
    receiver.head(150 * MS, RTT, 1, 3);
    assert_eq!(poll(&mut receiver, 150 * MS), [ask(&[(2, 3)], false)]);
    receiver.head(151 * MS, RTT, 1, 3);
    receiver.head(151 * MS, RTT, 1, 2);
    assert_eq!(poll(&mut receiver, 151 * MS), []);
    assert_eq!(receiver.gap(160 * MS, RTT, 1, 1, 9), [(2, 9)], "also what it did not know of");
    assert_eq!((receiver.next(1), receiver.due()), (Some(10), None));
}

#[test]
fn a_hole_is_given_up_half_a_round_trip_before_its_deadline() {
    let mut receiver = Receiver::new(true, 100 * MS);
    receiver.topic(0, RTT, 1, 1, []);
    receiver.message(200 * MS, RTT, 1, 3);
    assert_eq!(poll(&mut receiver, 200 * MS), [ask(&[(1, 2)], false)]);
    assert_eq!(receiver.due(), Some(272_500));
    assert_eq!(poll(&mut receiver, 272_500), [ask(&[(1, 2)], false)]);
    assert_eq!(receiver.due(), Some(275 * MS));
    assert_eq!(poll(&mut receiver, 275 * MS), [Due::Late { topic: 1, first: 1, last: 2 }]);
    assert_eq!((receiver.due(), receiver.next(1)), (None, Some(4)));
    assert_eq!(receiver.message(276 * MS, RTT, 1, 1), Arrival::Duplicate, "told as a gap");
    assert_eq!(receiver.stats().late, 2);
}

#[test]
fn without_repair_it_only_drops_what_was_had() {
    let mut receiver = Receiver::new(false, 100);
    receiver.topic(0, RTT, 1, 1, []);
    assert_eq!(receiver.message(0, RTT, 1, 5), Arrival::New);
    receiver.head(0, RTT, 1, 50);
    assert_eq!(receiver.due(), None);
    assert_eq!(poll(&mut receiver, u64::MAX), []);
    assert_eq!(receiver.message(0, RTT, 1, 4), Arrival::New);
    assert_eq!(receiver.message(0, RTT, 1, 5), Arrival::Duplicate);
    assert_eq!(receiver.gap(0, RTT, 1, 1, 6), [(1, 3), (6, 6)]);
}

#[test]
fn what_is_under_way_after_a_resumption_is_waited_for() {
    let mut receiver = Receiver::new(true, 0);
    receiver.topic(MS, RTT, 1, 5, [(7, 9), (12, 12)]);
    assert_eq!(receiver.had(1), [(7, 9), (12, 12)]);
    assert_eq!(receiver.due(), Some(MS + 8 * MS), "its first look at it");
    assert_eq!(poll(&mut receiver, 9 * MS), []);
    assert_eq!(receiver.message(2 * MS, RTT, 1, 8), Arrival::Duplicate);
    receiver.topic(MS, RTT, 1, 100, []);
    assert_eq!(receiver.next(1), Some(5));
    assert_eq!(poll(&mut receiver, MS + 72_500), [ask(&[(5, 6), (10, 11)], false)]);
}

#[test]
fn a_later_hole_does_not_postpone_an_earlier_one() {
    let mut receiver = receiver(1);
    for (at, sequence) in [(100, 1), (101, 3), (105, 5)] {
        receiver.message(at * MS, RTT, 1, sequence);
        receiver.audit();
    }
    assert_eq!(receiver.due(), Some(108 * MS));
    assert_eq!(poll(&mut receiver, 108 * MS), [ask(&[(2, 2)], false)]);
    assert_eq!(receiver.due(), Some(109 * MS));
}

#[test]
fn in_order_nothing_is_allocated() {
    let mut receiver = receiver(1);
    let info = allocation_counter::measure(|| {
        for sequence in 1..1000 {
            assert_eq!(receiver.message(sequence, RTT, 1, sequence), Arrival::New);
            assert_eq!(receiver.message(sequence, RTT, 1, sequence), Arrival::Duplicate);
            assert_eq!(receiver.due(), None);
        }
    });
    assert_eq!(info.count_total, 0);
}
