//! Early repeats: what is due, within the budget, and what is skipped.

use super::*;
use bytes::Bytes;

const RTT: u64 = 50 * MS;
const PLENTY: u64 = 1 << 40;

fn frame(n: u32, size: usize) -> Bytes {
    let mut bytes = vec![0; size.max(4)];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    bytes.into()
}

fn number(frame: &Bytes) -> u32 {
    u32::from_le_bytes(frame[..4].try_into().unwrap())
}

fn pop(repeats: &mut Repeats, now: u64, room: usize) -> Option<Vec<u32>> {
    let mut out = Vec::new();
    let any = repeats.pop(now, room, &mut out);
    assert_eq!(any, !out.is_empty());
    assert!(out.iter().map(Bytes::len).sum::<usize>() <= room);
    any.then(|| out.iter().map(number).collect())
}

#[test]
fn each_is_repeated_once_together_with_what_is_due_soon() {
    let mut repeats = Repeats::new(PLENTY, false);
    for (n, at) in [0, 500, 1000, 1001].into_iter().enumerate() {
        repeats.push(at, RTT, 1, frame(n as u32, 100));
    }
    assert_eq!(repeats.due(), Some(5 * MS));
    assert_eq!(pop(&mut repeats, 4999, 1200), None, "nothing goes before something is due");
    assert_eq!(pop(&mut repeats, 5000, 1200), Some(vec![0, 1, 2]));
    assert_eq!(pop(&mut repeats, 5000, 1200), None);
    assert_eq!(repeats.due(), Some(6001));
    assert_eq!(pop(&mut repeats, 8000, 1200), Some(vec![3]));
    assert_eq!((repeats.due(), repeats.skipped()), (None, 0));
}

#[test]
fn where_asking_is_as_fast_nothing_is_repeated() {
    let mut repeats = Repeats::new(PLENTY, false);
    repeats.push(0, 5 * MS, 1, frame(0, 100));
    assert_eq!((repeats.due(), repeats.skipped()), (None, 0));
}

#[test]
fn what_does_not_fit_goes_in_the_next_and_what_never_will_is_dropped() {
    let mut repeats = Repeats::new(PLENTY, false);
    for (n, size) in [500, 500, 500, 1300, 100].into_iter().enumerate() {
        repeats.push(0, RTT, 1, frame(n as u32, size));
    }
    assert_eq!(pop(&mut repeats, 6000, 1200), Some(vec![0, 1]));
    assert_eq!(pop(&mut repeats, 6000, 1200), Some(vec![2]));
    assert_eq!(pop(&mut repeats, 6000, 1200), Some(vec![4]));
    assert_eq!(repeats.skipped(), 1);
}

#[test]
fn beyond_the_budget_nothing_is_repeated() {
    // The budget of a quarter of a second is available at once: 1000 bytes.
    let mut repeats = Repeats::new(4000, false);
    (0..20).for_each(|n| repeats.push(0, RTT, 1, frame(n, 100)));
    assert_eq!(pop(&mut repeats, 6000, 1200), Some((0..10).collect()));
    assert_eq!(repeats.skipped(), 10);
    // After that, 100 bytes every 25 ms.
    let mut sent = 0;
    for n in 0..1000_u64 {
        let now = 10 * MS + n * 5 * MS;
        repeats.push(now, RTT, 1, frame(n as u32, 100));
        sent += pop(&mut repeats, now + 6 * MS, 1200).map_or(0, |sent| sent.len());
    }
    assert!((195..=205).contains(&sent), "{sent}");
    assert_eq!(repeats.skipped(), 10 + 1000 - sent as u64);
    // It saves at most a quarter of a second's budget.
    (0..20).for_each(|n| repeats.push(60_000 * MS, RTT, 1, frame(n, 100)));
    assert_eq!(pop(&mut repeats, 60_010 * MS, 4000).unwrap().len(), 10);
}

#[test]
fn a_congested_path_gets_no_repetitions() {
    let mut repeats = Repeats::new(PLENTY, false);
    repeats.push(0, RTT, 1, frame(0, 100));
    repeats.push(0, RTT, 2, frame(1, 100));
    repeats.push(2000, RTT, 1, frame(2, 100));
    repeats.skip_due(5000);
    assert_eq!((repeats.due(), repeats.skipped()), (Some(7000), 2));
    repeats.forget(1);
    assert_eq!((repeats.due(), repeats.skipped()), (None, 2));
}

#[test]
fn it_carries_the_one_before() {
    let mut repeats = Repeats::new(PLENTY, true);
    let mut sent = Vec::new();
    for n in 0..4_u64 {
        repeats.push(n * 16 * MS, RTT, 1, frame(n as u32, 300));
        sent.push(pop(&mut repeats, (n * 16 + 6) * MS, 1200).unwrap());
    }
    assert_eq!(sent, [vec![0], vec![1, 0], vec![2, 1], vec![3, 2]]);
    repeats.push(100 * MS, RTT, 1, frame(9, 1000));
    assert_eq!(pop(&mut repeats, 106 * MS, 1200), Some(vec![9]), "where it fits");
    assert_eq!(pop(&mut repeats, 200 * MS, 1200), None);
}

#[test]
fn it_keeps_a_bounded_number() {
    let mut repeats = Repeats::new(u64::MAX, true);
    (0..5000).for_each(|n| repeats.push(0, RTT, 1, frame(n, 4)));
    assert_eq!(repeats.skipped(), 5000 - 1024);
    let mut all = 0;
    while let Some(some) = pop(&mut repeats, u64::MAX, 100) {
        all += some.len();
    }
    assert!(all >= 1024);
    repeats.push(u64::MAX, u64::MAX, 1, frame(0, 4));
    assert_eq!(repeats.due(), Some(u64::MAX));
}

proptest! {
    // Every frame is repeated once, in order, or counted as skipped; no frame stays due.
    #[test]
    fn repeated_once_or_skipped(
        steps in proptest::collection::vec((0_u64..4000, 5_u64..60, 4_usize..1500), 1..200),
        budget in prop_oneof![Just(PLENTY), 0_u64..100_000],
        room in 100_usize..1300,
        carry: bool,
    ) {
        let mut repeats = Repeats::new(budget, carry);
        let (mut now, mut pushed, mut spent, mut sent) = (0, 0, 0, Vec::new());
        let steps = steps.into_iter().map(Some).chain([None; 40]);
        for step in steps {
            if let Some((wait, rtt, size)) = step {
                now += wait;
                if rtt > 5 {
                    repeats.push(now, rtt * MS, 1, frame(pushed, size));
                    pushed += 1;
                }
            } else {
                now += MS;
            }
            let mut out = Vec::new();
            while repeats.pop(now, room, &mut out) {
                let bytes: usize = out.iter().map(Bytes::len).sum();
                prop_assert!(bytes <= room);
                spent += bytes as u64;
                prop_assert!(spent <= budget / 4 + budget.saturating_mul(now) / 1_000_000 + 1);
                sent.push(out.iter().map(number).collect::<Vec<_>>());
                out.clear();
            }
            prop_assert!(repeats.due().is_none_or(|due| due > now));
        }
        prop_assert_eq!(repeats.due(), None);
        let mut next = 0;
        let mut once = 0_u64;
        let mut last = None;
        for datagram in &sent {
            let carried = (datagram.len() > 1).then(|| datagram[datagram.len() - 1]);
            let carried = carried.filter(|carried| carry && Some(*carried) == last);
            let own = &datagram[..datagram.len() - usize::from(carried.is_some())];
            for n in own {
                prop_assert!(*n >= next);
                next = n + 1;
                once += 1;
            }
            last = own.last().copied();
        }
        prop_assert_eq!(once + repeats.skipped(), u64::from(pushed));
    }
}

#[test]
fn congestion_is_a_round_trip_far_above_the_least() {
    let mut path = Congestion::default();
    assert!(!path.sample(0, 50 * MS));
    assert!(!path.sample(MS, 85 * MS));
    assert!(path.sample(2 * MS, 85 * MS + 1));
    assert!(!path.sample(3 * MS, 20 * MS));
    assert!(path.sample(4 * MS, 41 * MS));
    // The path has become longer. After 10 to 20 seconds this does not count as congestion.
    let mut congested = 0;
    for second in 1..60 {
        congested += u64::from(path.sample(second * 1000 * MS, 80 * MS));
    }
    assert!((10..=20).contains(&congested), "{congested}");
    assert!(!path.sample(100_000 * MS, 200 * MS), "after a long silence it begins anew");
    assert!(!path.sample(u64::MAX, u64::MAX));
}
