//! Kills and losses of power at every moment: an engine, its journal and a disk that fails, without
//! threads. After each start, what was promised is there, and nothing else is.
//!
//! Deterministic: a failure prints its seed, and `WEIR_SEED` runs that one alone. `WEIR_SEEDS` is the
//! number of seeds.

/// Prints what happens, if `WEIR_TRACE` is set.
macro_rules! trace {
    ($($text:tt)*) => {
        if std::env::var_os("WEIR_TRACE").is_some() {
            eprintln!($($text)*);
        }
    };
}

mod checks;
mod client;
mod facts;
mod life;
mod world;

use crate::engine::tests::seeds::Seed;
use world::World;

#[test]
fn what_was_promised_survives_kills_and_losses_of_power() {
    let number = |name: &str| std::env::var(name).ok().map(|number| number.parse().unwrap());
    let seeds = match number("WEIR_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WEIR_SEEDS").unwrap_or(300),
    };
    for seed in seeds {
        let _seed = Seed(seed, "what_was_promised");
        let mut world = World::new(seed);
        for _ in 0..=world.random.below(4) {
            world.live();
            world.start();
        }
    }
}
