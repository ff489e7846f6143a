//! Unordered and realtime delivery, and publishing in datagrams, over networks that lose packets:
//! every message arrives once or is reported as a gap.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/lossy.rs"]
mod lossy;
#[path = "../common/raw.rs"]
mod raw;
#[path = "../common/staged.rs"]
mod staged;

mod changes;
mod flood;
mod hostile;
mod modes;
mod rebinding;
mod scenes;
mod tally;
mod trouble;
mod waiting;
