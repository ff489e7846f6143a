//! A look-up keeps a payload in the cache as if it had been published again.

use super::log::Entry;

/// A payload that was looked up after its newest publication, and may outlive that in the cache.
#[derive(Debug)]
pub(super) struct LookedUp {
    pub(super) sequence: u64,
    // The engine's position of the publication after the look-up.
    pub(super) before: u64,
    // The message, once it has left the log.
    pub(super) kept: Option<Box<Entry>>,
}
