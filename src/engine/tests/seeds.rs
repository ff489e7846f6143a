//! Random numbers for the simulations, and the seeds that they print when they fail.

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// Prints the seed when the simulation fails.
pub(crate) struct Seed(pub(crate) u64, pub(crate) &'static str);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let test = "cargo test --no-default-features --lib";
            eprintln!("to see this again: WEIR_SEED={} {test} {}", self.0, self.1);
        }
    }
}
