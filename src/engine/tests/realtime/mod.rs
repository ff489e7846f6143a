//! Realtime delivery end to end, without a network: publisher, lossy path, engine, lossy path,
//! receivers. Everything is accepted and counted once; everybody has each message once or is
//! told the gap; and it comes to rest.
//!
//! Deterministic: a failure prints its seed, and `WEIR_SEED` runs that one alone; `WEIR_SEEDS`
//! says how many are tried.

mod daemon;
mod ends;
mod link;
mod world;

use super::seeds::{Random, Seed};
use link::{MS, Quality};
use std::hash::{BuildHasher, RandomState};
use world::{Scenario, Tally, Wish, World};

const CLEAN: Quality = Quality { one_way: 25 * MS, jitter: 0, loss: 0, burst: 1, doubled: 0 };

fn quality(random: &mut Random) -> Quality {
    Quality {
        one_way: [1, 3, 10, 25, 60, 150][random.below(6)] * MS,
        jitter: [0, 0, 1, 3, 20][random.below(5)] * MS,
        loss: [0, 10, 30, 100, 200, 400][random.below(6)],
        burst: [1, 1, 3, 6][random.below(4)],
        doubled: [0, 0, 50][random.below(3)],
    }
}

fn wish(random: &mut Random, end: u64) -> Wish {
    let mut moment = || random.below(end as usize + 1) as u64;
    let (joins, breaks, pauses) = (moment(), [moment(), moment()], [moment(), moment()]);
    let some = random.below(3).saturating_sub(1);
    Wish {
        filter: ["a", "**", "c/*"][random.below(3)],
        all: random.below(2) == 0,
        deadline: [0, 0, 30, 100, 400][random.below(5)] * MS,
        joins: if random.below(2) == 0 { 0 } else { joins },
        breaks: breaks[..some].to_vec(),
        pauses: pauses[..random.below(2)].iter().map(|at| (*at, at + 150 * MS)).collect(),
    }
}

fn scenario(random: &mut Random) -> Scenario {
    let (topics, distinct) = (1 + random.below(4), 1 + random.below(300));
    let (gap, burst) = ([1, 4, 16, 40][random.below(4)], 1 + random.below(30));
    let mut at = 0;
    let publications = (0..50 + random.below(300)).map(|_| {
        at += random.below(2 * gap * MS as usize) as u64;
        if random.below(burst) == 0 && burst > 1 {
            at += 100 * MS;
        }
        (at, random.below(topics), random.below(distinct) as u32)
    });
    let publications: Vec<_> = publications.collect();
    let end = at;
    let mut congested: Vec<u64> =
        (0..random.below(3)).map(|_| random.below(end as usize + 1) as u64).collect();
    congested.sort_unstable();
    let sizes = [&[60, 200][..], &[200, 200, 3000], &[100, 30_000]][random.below(3)];
    Scenario {
        up: quality(random),
        down: quality(random),
        calm: [end, u64::MAX / 2][random.below(2)].min(end + 30_000 * MS),
        publications,
        sizes: sizes.into(),
        wishes: (0..=random.below(3)).map(|_| wish(random, end)).collect(),
        budget: [0, 10_000, 1 << 30][random.below(3)],
        carry: random.below(2) == 0,
        refuses: [0, 0, 0, 7, 40][random.below(5)],
        congested,
    }
}

#[test]
fn each_message_once_or_told_whatever_the_path_does() {
    let replay = std::env::var("WEIR_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = std::env::var("WEIR_SEEDS").map_or(150, |seeds| seeds.parse().unwrap());
    let first: u64 = replay.unwrap_or_else(|| RandomState::new().hash_one(0));
    let mut tally = Tally::default();
    for seed in (0..if replay.is_some() { 1 } else { seeds }).map(|n| first.wrapping_add(n)) {
        let seed = Seed(seed, "tests::realtime");
        let mut random = Random(seed.0);
        let scenario = scenario(&mut random);
        if replay.is_some() {
            eprintln!("{scenario:?}");
        }
        let mut world = World::new(seed.0, scenario);
        world.run();
        world.check();
        world.tally(&mut tally);
    }
    if replay.is_none() {
        eprintln!("{tally:?}");
        tally.check();
    }
}

fn steady(hertz: u64, seconds: u64, up: Quality, down: Quality) -> Scenario {
    let wish = Wish {
        filter: "a",
        all: false,
        deadline: 0,
        joins: 0,
        breaks: Vec::new(),
        pauses: Vec::new(),
    };
    let publications = (1..=hertz * seconds).map(|n| (n * 1000 * MS / hertz, 0, n as u32 % 97));
    Scenario {
        up,
        down,
        calm: u64::MAX / 2,
        publications: publications.collect(),
        sizes: vec![200],
        wishes: vec![wish],
        budget: 1 << 30,
        carry: false,
        refuses: 0,
        congested: Vec::new(),
    }
}

fn run(scenario: Scenario) -> World {
    let mut scenario = scenario;
    let last = scenario.publications.last().unwrap().0;
    scenario.calm = scenario.calm.min(last + 30_000 * MS);
    let mut world = World::new(1, scenario);
    world.run();
    world.check();
    world
}

fn lossy(loss: usize, burst: usize) -> Quality {
    Quality { loss, burst, ..CLEAN }
}

// Median, p99, p99.9; µs.
fn percentiles(all: &[u64]) -> (u64, u64, u64) {
    let at = |permille: usize| all[(all.len() * permille / 1000).min(all.len() - 1)];
    (at(500), at(990), at(999))
}

#[test]
fn after_ten_bad_seconds_everything_has_come() {
    for burst in [1, 5] {
        let mut bad = steady(60, 12, lossy(300, burst), lossy(300, burst));
        bad.calm = 10_000 * MS;
        let world = run(bad);
        assert_eq!(world.latencies(0).len(), 720);
    }
}

#[test]
fn what_leaves_the_cache_before_it_is_asked_for_is_told() {
    let mut bad = steady(200, 5, CLEAN, lossy(300, 3));
    bad.publications.iter_mut().for_each(|publication| publication.2 = publication.0 as u32 / 5000);
    bad.sizes = vec![100, 100, 30_000];
    let (all, had) = (bad.publications.len(), run(bad).latencies(0).len());
    assert!(had < all && had > all / 2, "{had} of {all}");
}

#[test]
fn a_path_that_loses_nothing_is_not_asked_for_anything() {
    for hertz in [1, 30, 60, 1000] {
        let world = run(steady(hertz, 5, CLEAN, CLEAN));
        assert_eq!(world.publisher.again, 0, "published again though acknowledged");
        assert_eq!(world.cost(0).0, 0);
        assert_eq!(percentiles(&world.latencies(0)), (50 * MS, 50 * MS, 50 * MS));
    }
}

// The goals of the design, on the link that it measures with: 25 ms one way, 60 Hz, 200 bytes.
#[test]
fn losses_cost_milliseconds_not_round_trips() {
    for (loss, burst, bound) in [(10, 1, 59), (30, 1, 59), (10, 3, 125), (30, 3, 170)] {
        let world = run(steady(60, 60, CLEAN, lossy(loss, burst)));
        let (p50, p99, p999) = percentiles(&world.latencies(0));
        let (asked, bytes, _) = world.cost(0);
        let per_mille = bytes * 1000 / (3600 * 216);
        eprintln!(
            "{loss} per mille in bursts of {burst}: {p50} {p99} {p999} µs, {asked} asked, {per_mille} bytes"
        );
        assert_eq!(p50, 50 * MS);
        assert!(p99 <= bound * MS, "{p99}");
        assert!(per_mille <= 2500, "{per_mille}");
    }
}

#[test]
#[ignore = "prints what the choices cost: cargo test measure -- --ignored --nocapture"]
fn measure() {
    for carry in [false, true] {
        for (loss, burst) in [(10, 1), (30, 1), (10, 3), (30, 3)] {
            for both in [false, true] {
                let down = lossy(loss, burst);
                let mut scenario = steady(60, 300, if both { down } else { CLEAN }, down);
                scenario.carry = carry;
                let world = run(scenario);
                let (asked, bytes, sent) = world.cost(0);
                let (p50, p99, p999) = percentiles(&world.latencies(0));
                let bytes = bytes * 100 / (18_000 * 216);
                eprintln!(
                    "carry {carry} loss {loss} burst {burst} both {both}: {p50} {p99} {p999} asked {asked} \
                     bytes {bytes} % datagrams {sent} again {}",
                    world.publisher.again
                );
            }
        }
    }
    for hertz in [60, 250, 500, 1000, 2000] {
        for loss in [0, 10, 30, 100] {
            let world = run(steady(hertz, 20, lossy(loss, 1), CLEAN));
            let lost = world.publisher.again * 1000 / world.publisher.datagrams;
            let all = percentiles(&world.latencies(0));
            eprintln!(
                "{hertz} Hz, {loss} lost on the way in: {lost} of 1000 again by stream, {all:?}"
            );
        }
    }
    for refuses in [1000, 100, 10] {
        let mut scenario = steady(60, 60, CLEAN, CLEAN);
        scenario.refuses = refuses;
        let world = run(scenario);
        eprintln!("one in {refuses} refused: {} of 3600 again by stream", world.publisher.again);
    }
    for (backlog, loss) in [(50, 0), (50, 10), (500, 0), (2000, 0)] {
        let mut scenario = steady(200, 20, CLEAN, lossy(loss, 1));
        scenario.wishes[0].all = true;
        scenario.wishes[0].joins = backlog * 5 * MS;
        let world = run(scenario);
        eprintln!("a backlog of {backlog}, {loss} lost: {:?}", world.stats(0));
    }
}
