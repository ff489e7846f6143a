//! Code that the command line and the benchmarks share: output, and reading of arguments.

pub(crate) mod output;
pub(crate) mod units;
