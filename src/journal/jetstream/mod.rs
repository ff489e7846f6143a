//! The log in a stream of NATS JetStream, so that several daemons are one.
//!
//! - [`subject`], [`message`]: topics and entries as NATS has them, pure.
//! - [`stream`], [`identity`]: the stream, and its name. [`snapshots`]: what the stream has forgotten. [`follow`]: the tasks that propose and
//!   follow. [`abandoned`]: what daemons that have gone have left unfinished.

mod abandoned;
pub(crate) mod follow;
mod identity;
pub(crate) mod message;
pub(crate) mod settings;
mod snapshots;
pub(crate) mod stream;
pub(crate) mod subject;
