//! Subscriptions: where one stands, what concerns it, and what it is handed out.

pub(crate) mod aside;
pub(crate) mod discover;
pub(crate) mod filter_tree;
pub(crate) mod forgotten;
pub(crate) mod item;
pub(crate) mod progress;
pub(crate) mod read_budget;
pub(crate) mod repair;
pub(crate) mod replay;
pub(crate) mod single_message;
pub(crate) mod start;
pub(crate) mod step;
pub(crate) mod stir;
pub(crate) mod table;
