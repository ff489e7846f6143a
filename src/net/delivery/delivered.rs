//! The messages that were read from the cache for the deliveries of one session.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Messages and the bytes of their payloads.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Total {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// The messages that were read from the cache for the deliveries of one session.
#[derive(Debug, Default)]
pub(crate) struct Delivered(AtomicU64, AtomicU64);

impl Delivered {
    pub(super) fn add(&self, messages: u64, bytes: u64) {
        self.0.fetch_add(messages, Relaxed);
        self.1.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn total(&self) -> Total {
        Total { messages: self.0.load(Relaxed), bytes: self.1.load(Relaxed) }
    }
}
