//! Code that the command line and the benchmarks share: output, and what it keeps from terminals.

pub(crate) mod output;
pub(crate) mod terminal;
