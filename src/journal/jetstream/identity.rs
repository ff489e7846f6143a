//! The identity of a stream, and the run that follows from it.

use crate::wire::Digest;
use async_nats::jetstream::stream::Info;

/// The identity of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    // When it was made, ns since 1970.
    created: i128,
}

impl Identity {
    pub(super) fn of(info: &Info) -> Self {
        Self { created: info.created.unix_timestamp_nanos() }
    }

    pub(super) fn digest(self) -> Digest {
        Digest::of(&self.created.to_le_bytes())
    }

    /// Returns a hash of it.
    pub(super) fn hash(self) -> u64 {
        first_bytes(&self.digest())
    }

    /// Returns the name of the run of every daemon that follows the stream. It has 52 bits, as a random
    /// one. Those that began with another entry give other sequences, and have another run.
    pub(super) fn run(self, name: &str, begun: u64) -> u64 {
        let parts = [&self.created.to_le_bytes()[..], &begun.to_le_bytes(), name.as_bytes()];
        (first_bytes(&Digest::of(&parts.concat())) >> 12).max(1)
    }
}

fn first_bytes(digest: &Digest) -> u64 {
    digest.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
