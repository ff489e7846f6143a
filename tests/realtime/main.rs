//! Unordered and realtime delivery, and publishing in datagrams, over networks that lose packets:
//! every message once, or told as a gap.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/lossy.rs"]
mod lossy;

mod changes;
mod flood;
mod modes;
mod tally;
mod trouble;
