//! The log in a stream of NATS JetStream, so that several daemons are one.
//!
//! - [`subject`], [`message`]: topics and entries as NATS has them, pure.
//! - [`stream`]: the stream, and what names it. [`snapshots`]: what the stream has forgotten. [`follow`]: the tasks that propose and follow.

pub(crate) mod follow;
pub(crate) mod message;
pub(crate) mod settings;
mod snapshots;
pub(crate) mod stream;
pub(crate) mod subject;
