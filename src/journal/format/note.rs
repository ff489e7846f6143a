//! Notes in a log: where a daemon began to write it, and where it ended in good order.

use super::{Malformed, put};
use crate::engine::PastRun;
use serde::{Deserialize, Serialize};

/// A note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Note {
    /// A daemon has read everything before this, and goes on.
    Opened {
        /// The name of its run.
        run: u64,
        /// The run before it, if that has ended.
        past: Option<PastRun>,
        /// Names the time since the machine was started; empty if that is not known.
        boot: String,
        /// Whether this daemon syncs before each receipt.
        always: bool,
    },
    /// The daemon has ended, and everything that it had accepted is before this. Only early versions
    /// wrote it.
    Closed,
    /// The name of the journal.
    Journal {
        /// As in [`Engine::journal`](crate::engine::Engine::journal).
        id: u64,
    },
    /// As [`Closed`](Self::Closed), in place of it. It holds until the next daemon has begun, and in no
    /// copy of the journal: the file with the secret has another state there.
    ClosedIn {
        /// As in [`Storage::state`](crate::journal::storage::Storage::state), of the file with the secret.
        state: u64,
    },
}

impl Note {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self);
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        Ok(postcard::from_bytes(body)?)
    }
}
