//! Code that the command line and the benchmarks share: output.

pub(crate) mod output;
