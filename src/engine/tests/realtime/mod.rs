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

use super::simulation::{Random, Seed};
use link::{MS, Quality};
use std::hash::{BuildHasher, RandomState};
use world::{Scenario, Wish, World};

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
        wishes: (0..1 + random.below(3)).map(|_| wish(random, end)).collect(),
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
