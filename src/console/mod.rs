//! What the command line and the benchmarks share: what is printed, and how arguments are read.

pub(crate) mod output;
pub(crate) mod units;
