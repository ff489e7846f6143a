//! Weir: a relay that caches, counts and repairs.
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![forbid(unsafe_code)]

pub mod engine;
pub mod wire;
