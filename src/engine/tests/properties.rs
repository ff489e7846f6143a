//! Random steps, each compared with the model.

use super::model::{FILTERS, From, TOPICS, World};
use super::{SMALLEST, payload, small};
use crate::engine::memory::evicted_counts::EvictedCounts;
use crate::engine::subscribe::portions::Portions;
use crate::wire::{Digest, Lag, Which};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Publish(usize, u32),
    // Under the number, which may have been used before.
    Numbered(usize, u32, (u8, u64)),
    // Under the key, likewise.
    Keyed(usize, u32, u8),
    Get(usize, Lookup),
    Top(usize, usize),
    Subscribe(usize, From, Lag),
    // The bits say which sequences above the lowest hole the client has.
    Resume(usize, bool, u64),
    ResumeByPosition(usize),
    End(usize),
    // Budget, deadline.
    Read(usize, usize, u64),
    // Topic, first sequence and how many more, budget.
    Repair(usize, usize, (u64, u64), usize),
    ReadAll(usize),
}

#[derive(Debug, Clone)]
enum Lookup {
    Latest,
    Sequence(u64),
    Payload(u32),
}

fn from() -> impl Strategy<Value = From> {
    prop_oneof![
        Just(From::New),
        Just(From::Latest),
        Just(From::All),
        (0_u64..9).prop_map(From::Last),
        (0_u64..60).prop_map(From::Sequence),
    ]
}

fn lag() -> impl Strategy<Value = Lag> {
    prop_oneof![3 => Just(Lag::Oldest), 1 => Just(Lag::Newest), 1 => Just(Lag::Disconnect)]
}

fn step() -> impl Strategy<Value = Step> {
    let topic = 0..TOPICS.len();
    // Few enough payloads that many come again, also after they were evicted.
    let payload = prop_oneof![0_u32..12, 0_u32..120];
    let budget = prop_oneof![Just(0_usize), 1_usize..100, 1_usize..30_000, 1_usize..2_000_000];
    let lookup = prop_oneof![
        Just(Lookup::Latest),
        (0_u64..60).prop_map(Lookup::Sequence),
        (0_u32..120).prop_map(Lookup::Payload),
        (0_u32..12).prop_map(Lookup::Payload),
    ];
    prop_oneof![
        30 => (topic.clone(), payload.clone()).prop_map(|(topic, n)| Step::Publish(topic, n)),
        15 => (topic.clone(), payload.clone(), (0_u8..3, 1_u64..40))
            .prop_map(|(topic, n, origin)| Step::Numbered(topic, n, origin)),
        10 => (topic.clone(), payload, 0_u8..9)
            .prop_map(|(topic, n, key)| Step::Keyed(topic, n, key)),
        10 => (topic.clone(), lookup).prop_map(|(topic, which)| Step::Get(topic, which)),
        5 => (topic, 0_usize..200).prop_map(|(topic, k)| Step::Top(topic, k)),
        4 => (0..FILTERS.len(), from(), lag()).prop_map(|(f, from, lag)| Step::Subscribe(f, from, lag)),
        4 => (any::<usize>(), any::<bool>(), prop_oneof![Just(0), any::<u64>()])
            .prop_map(|(index, foreign, had)| Step::Resume(index, foreign, had)),
        3 => any::<usize>().prop_map(Step::ResumeByPosition),
        1 => any::<usize>().prop_map(Step::End),
        15 => (any::<usize>(), budget.clone(), prop_oneof![3 => Just(0_u64), 1 => 1_u64..40])
            .prop_map(|(index, budget, deadline)| Step::Read(index, budget, deadline)),
        6 => (any::<usize>(), any::<usize>(), (0_u64..60, 0_u64..60), budget)
            .prop_map(|(index, topic, hole, budget)| Step::Repair(index, topic, hole, budget)),
        5 => any::<usize>().prop_map(Step::ReadAll),
    ]
}

fn run(world: &mut World, spread: usize, steps: Vec<Step>) {
    let names = &TOPICS[..spread];
    for step in steps {
        match step {
            Step::Publish(topic, n) => world.publish(names[topic % spread], n, None),
            Step::Numbered(topic, n, origin) => {
                world.publish(names[topic % spread], n, Some(origin));
            }
            Step::Keyed(topic, n, key) => {
                world.publish(names[topic % spread], n, Some((key, 0)));
            }
            Step::Get(topic, Lookup::Latest) => world.get(names[topic % spread], Which::Latest),
            Step::Get(topic, Lookup::Sequence(sequence)) => {
                world.get(names[topic % spread], Which::Sequence(sequence));
            }
            Step::Get(topic, Lookup::Payload(n)) => {
                world.get(names[topic % spread], Which::Digest(Digest::of(&payload(n))));
            }
            Step::Top(topic, k) => world.top(names[topic % spread], k),
            Step::Subscribe(filter, from, lag) => world.subscribe(FILTERS[filter], from, lag),
            Step::Resume(index, foreign, had) => world.resume(index, foreign, had),
            Step::ResumeByPosition(index) => world.resume_by_position(index),
            Step::End(index) => {
                world.end(index);
            }
            Step::Read(index, budget, deadline) => world.read(index, budget, deadline),
            Step::ReadAll(index) => (0..40).for_each(|_| world.read(index, 1 << 20, 0)),
            Step::Repair(index, topic, hole, budget) => world.repair(index, topic, hole, budget),
        }
    }
    while !world.subscribers.is_empty() {
        world.end(0);
    }
}

// Fewer than usual, since a case is hundreds of steps; PROPTEST_CASES asks for more.
fn cases() -> u32 {
    match std::env::var("PROPTEST_CASES") {
        Ok(_) => ProptestConfig::default().cases,
        Err(_) => 64,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// All topics stay, and no count is lost.
    #[test]
    fn the_engine_agrees_with_a_model_that_keeps_everything(
        steps in proptest::collection::vec(step(), 1..400),
        spread in 1..=TOPICS.len(),
    ) {
        run(&mut World::new(small()), spread, steps);
    }

    /// Everything comes in the smallest of portions: windows of two topics, sweeps of a few names,
    /// wakes one by one.
    #[test]
    fn so_it_does_in_the_smallest_of_portions(
        steps in proptest::collection::vec(step(), 1..400),
        spread in 1..=TOPICS.len(),
        topics in 2_usize..12,
    ) {
        let mut limits = small();
        limits.topics = topics;
        let mut world = World::new(limits);
        world.engine.portions = Portions { wakes: 4, ..SMALLEST };
        run(&mut world, spread, steps);
    }

    /// Topics are forgotten, and so are counts and keys, but none of the three producers.
    #[test]
    fn so_it_does_when_there_is_little_room(
        steps in proptest::collection::vec(step(), 1..400),
        spread in 1..=TOPICS.len(),
        topics in 1_usize..8,
        counts in 1_usize..40,
        producers in 3_usize..9,
    ) {
        let mut limits = small();
        limits.topics = topics;
        limits.producers = producers;
        let mut world = World::new(limits);
        world.engine.evicted_counts = EvictedCounts::new(counts);
        run(&mut world, spread, steps);
    }
}
