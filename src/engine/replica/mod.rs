//! An engine as one of several replicas of a log that somebody else orders and keeps.
//!
//! Publications are not decided where they arrive. They are proposed to the log, and every replica
//! applies the log's [entries](LogEntry) in their order. The [`Sequencer`] decides what an entry means:
//! which topic, which sequence, and whether it was accepted before. Its tables have limits that are
//! the same everywhere, and it knows nothing of the cache. So all replicas that have the same entries
//! give the same sequences and epochs, whatever each of them has evicted, and whatever its clients
//! read. The engine then [applies](crate::engine::Engine::apply) the decision: it counts, caches and
//! wakes.

mod apply;
mod entry;
mod proposal;
mod propose;
mod sequencer;
mod state;

pub use apply::{Applied, MAX_NUMBER};
pub use entry::{AbortedUpload, Decision, LogChange, LogEntry, LogPlace, LogUpload, Ordered};
pub(super) use proposal::Proposals;
pub use proposal::{Proposal, ReplyTo};
pub use sequencer::Sequencer;
pub use state::{LogLimits, OpenUpload, SequencerState, TopicPlace};
