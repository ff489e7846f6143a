//! Notes in a log: where a daemon began to write it, and where it ended in good order.

use super::{Malformed, put};
use serde::{Deserialize, Serialize};

/// A note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Note {
    /// A daemon has read everything before this, and goes on.
    Opened {
        /// The name of its run.
        run: u64,
        /// Names the time since the machine was started; empty if that is not known.
        boot: String,
    },
    /// The daemon has ended, and everything that it had accepted is before this.
    Closed,
}

impl Note {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self);
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        Ok(postcard::from_bytes(body)?)
    }
}
