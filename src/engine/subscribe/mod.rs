//! Subscriptions: where each of them is, which messages concern it, and what its reads yield.

pub(crate) mod announced;
pub(crate) mod aside;
pub(crate) mod cursor;
mod deferred;
pub(crate) mod deferred_work;
pub(crate) mod discover;
pub(crate) mod filter_tree;
pub(crate) mod follow;
pub(crate) mod forgotten;
pub(crate) mod item;
mod lifecycle;
pub(crate) mod portions;
pub(crate) mod progress;
pub(crate) mod read_budget;
pub(crate) mod read_options;
mod refusals;
pub(crate) mod repair;
pub(crate) mod replay;
pub(crate) mod single_message;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod stats;
mod step;
pub(crate) mod subscription;
pub(crate) mod sweep;
mod sweep_names;
pub(crate) mod table;
