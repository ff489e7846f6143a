//! The publications of a client against a daemon that accepts each number once. Sessions end at any
//! time, and lose anything that is on its way.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

const WINDOW: u32 = 8;
const PUBLICATIONS: usize = 12;
const BYTES: usize = 40;

/// One step of a story.
#[derive(Debug, Clone)]
enum Step {
    /// Publishes to a topic, with this size and lifetime.
    Publish(u8, usize, Option<u64>),
    /// The daemon receives so many publications of the session.
    Receive(usize),
    /// So many of its receipts arrive.
    Answer(usize),
    /// The session ends, with everything on its way, and another begins.
    Cut,
    /// Time passes.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let lifetime = proptest::option::of(0_u64..20);
    prop_oneof![
        4 => (0_u8..3, 0_usize..16, lifetime).prop_map(|(topic, size, lifetime)| {
            Step::Publish(topic, size, lifetime)
        }),
        3 => (0_usize..6).prop_map(Step::Receive),
        3 => (0_usize..6).prop_map(Step::Answer),
        1 => Just(Step::Cut),
        1 => (0_u64..10).prop_map(Step::Wait),
    ]
}

/// A publication, as a test knows it: alias, number, and the token that settles it.
type Key = (u32, u64);

#[derive(Default)]
struct World {
    // On the way to the daemon, and receipts on the way back.
    up: VecDeque<Key>,
    down: VecDeque<Key>,
    // How often the daemon has counted each publication.
    counted: BTreeMap<Key, u32>,
    // By token: how often it was settled.
    settled: BTreeMap<u32, u32>,
    // Publications without an answer, in their order, with their tokens, sizes and expiries.
    waiting: Vec<(Key, u32, usize, Option<u64>)>,
}

fn key(outgoing: &Outgoing) -> Key {
    match outgoing {
        Outgoing::Small(alias, number, _) => (*alias, *number),
        Outgoing::Large(large) => (large.alias, large.number),
    }
}

impl World {
    fn remove(&mut self, of: Key) -> Option<u32> {
        let at = self.waiting.iter().position(|(key, ..)| *key == of)?;
        Some(self.waiting.remove(at).1)
    }

    fn publish(
        &mut self,
        outstanding: &mut Outstanding<u32>,
        token: u32,
        (topic, size, expires): (u8, usize, Option<u64>),
    ) {
        let (name, payload) = (format!("t/{topic}"), Bytes::from(vec![7; size]));
        let publication = Publication { name: &name, payload: &payload, stamp: 1, expires };
        let mut given = Some(token);
        let outgoing = outstanding.push(&publication, WINDOW, &mut given).unwrap();
        let held: usize = self.waiting.iter().map(|(_, _, size, _)| size).sum();
        let taken = usize::from(outgoing.is_some());
        assert_eq!(outstanding.held(), (self.waiting.len() + taken, held + taken * size));
        let Some(outgoing) = outgoing else {
            assert_eq!(given, Some(token), "the token of one that waits is kept");
            return;
        };
        assert!(given.is_none());
        let (alias, number) = key(&outgoing);
        let lowest = self.waiting.iter().filter(|((of, _), ..)| *of == alias);
        let lowest = lowest.map(|((_, number), ..)| *number).min().unwrap_or(number);
        assert!(number < lowest + u64::from(WINDOW), "beyond the daemon's window");
        self.waiting.push(((alias, number), token, size, expires));
        assert!(self.waiting.len() <= PUBLICATIONS);
        assert!(held + size <= BYTES || self.waiting.len() == 1);
        self.up.push_back((alias, number));
    }
}

proptest! {
    #[test]
    fn each_publication_is_counted_once_and_settled_once(
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut outstanding = Outstanding::new(PUBLICATIONS, BYTES);
        let mut world = World::default();
        let (mut now, mut expired) = (0, Vec::new());
        for (token, step) in (0..).zip(steps) {
            match step {
                Step::Publish(topic, size, lifetime) => {
                    let expires = lifetime.map(|lifetime| now + lifetime);
                    world.publish(&mut outstanding, token, (topic, size, expires));
                }
                Step::Receive(n) => {
                    for of in world.up.drain(..n.min(world.up.len())).collect::<Vec<_>>() {
                        world.counted.entry(of).or_insert(1);
                        world.down.push_back(of);
                    }
                }
                Step::Answer(n) => {
                    for of in world.down.drain(..n.min(world.down.len())).collect::<Vec<_>>() {
                        let settled = outstanding.settle(of.0, of.1);
                        prop_assert_eq!(settled, world.remove(of));
                        settled.into_iter().for_each(|token| *world.settled.entry(token).or_default() += 1);
                    }
                }
                Step::Cut => {
                    (world.up, world.down) = (VecDeque::new(), VecDeque::new());
                    let again = outstanding.begin_session();
                    let expected: Vec<_> = world.waiting.iter().map(|(of, ..)| *of).collect();
                    prop_assert_eq!(again.iter().map(key).collect::<Vec<_>>(), expected);
                    world.up.extend(again.iter().map(key));
                }
                Step::Wait(time) => {
                    now += time;
                    prop_assert_eq!(
                        outstanding.next_expiry(),
                        world.waiting.iter().filter_map(|(.., expires)| *expires).min()
                    );
                    let due = |expires: &Option<u64>| expires.is_some_and(|at| at <= now);
                    let mut due: Vec<_> = world.waiting.iter().filter(|(.., at)| due(at)).map(|of| of.1).collect();
                    world.waiting.retain(|(.., at)| at.is_none_or(|at| at > now));
                    let mut tokens = outstanding.expire(now);
                    due.sort_unstable();
                    tokens.sort_unstable();
                    prop_assert_eq!(&tokens, &due);
                    expired.extend(tokens);
                }
            }
            for (of, token, ..) in &world.waiting {
                prop_assert!(outstanding.waits(of.0, of.1) && !world.settled.contains_key(token));
            }
            prop_assert_eq!(outstanding.is_empty(), world.waiting.is_empty());
        }
        // In the end everything arrives.
        world.up.clear();
        for of in outstanding.begin_session().iter().map(key) {
            world.counted.entry(of).or_insert(1);
            let token = outstanding.settle(of.0, of.1).unwrap();
            *world.settled.entry(token).or_default() += 1;
        }
        prop_assert!(outstanding.is_empty() && outstanding.held() == (0, 0));
        prop_assert!(world.settled.values().all(|times| *times == 1));
        prop_assert!(expired.iter().all(|token| !world.settled.contains_key(token)));
        // The daemon counted everything that was settled.
        prop_assert!(world.counted.len() >= world.settled.len());
    }
}

fn push(outstanding: &mut Outstanding<u32>, size: usize) -> Option<Outgoing> {
    let payload = Bytes::from(vec![7; size]);
    let publication = Publication { name: "a", payload: &payload, stamp: 1, expires: None };
    outstanding.push(&publication, 1024, &mut Some(1)).unwrap()
}

#[test]
fn a_single_payload_may_exceed_the_limit() {
    let mut outstanding = Outstanding::new(5, 100);
    let large = push(&mut outstanding, LARGE + 1).unwrap();
    assert!(matches!(large, Outgoing::Large(_)));
    assert_eq!(push(&mut outstanding, 0), None);
    assert_eq!(outstanding.settle(0, 1), Some(1));
    assert!(push(&mut outstanding, 100).is_some());
    assert_eq!(push(&mut outstanding, 1), None);
    assert!(push(&mut outstanding, 0).is_some());
}

#[test]
fn each_session_declares_its_aliases_anew_and_forgets_its_datagrams() {
    let mut outstanding = Outstanding::new(5, 100);
    let Some(Outgoing::Small(alias, number, frame)) = push(&mut outstanding, 1) else { panic!() };
    assert_eq!(outstanding.declare(alias).as_deref(), Some("a"));
    assert_eq!(outstanding.declare(alias), None);
    outstanding.unacked.push(0, 50_000, alias, number, frame.clone());
    assert_eq!(outstanding.undeclared(alias), Some("a"));
    assert!(outstanding.acknowledge(alias, 0, 0).is_empty());
    assert_eq!(outstanding.undeclared(alias), None);
    // The frame is the same: alias and number are the client's.
    assert_eq!(outstanding.begin_session(), [Outgoing::Small(alias, number, frame)]);
    assert_eq!(outstanding.declare(alias).as_deref(), Some("a"));
    assert_eq!(outstanding.undeclared(alias), Some("a"));
    // It was not sent in a datagram of this session. Its receipt settles it.
    assert!(outstanding.acknowledge(alias, 1, 0).is_empty());
    assert_eq!(outstanding.settle(alias, number), Some(1));
}
