//! A publication that is relayed while it arrives, and given up unless it comes to its end.

use super::Core;
use crate::engine::{Failed, Receipt, Upload as Id};
use crate::wire::Digest;
use bytes::Bytes;

/// Held by whoever receives the payload and has no session that would give it up.
pub(crate) struct Upload<'a> {
    core: &'a Core,
    id: Id,
    ended: bool,
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.core.tidy(|engine| engine.abort(self.id));
        }
    }
}

impl<'a> Upload<'a> {
    /// Takes over an upload that the engine has begun.
    pub(crate) fn new(core: &'a Core, id: Id) -> Self {
        Self { core, id, ended: false }
    }

    /// Adds a chunk of the payload. The engine keeps it as it is.
    pub(crate) fn append(&self, chunk: Bytes) -> Result<(), Failed> {
        self.core.with(|engine| engine.append(self.id, chunk))
    }

    /// Completes the payload, whose digest is `digest`. `now` is in µs since 1970.
    pub(crate) fn end(mut self, now: u64, digest: Digest) -> Result<Receipt, Failed> {
        self.ended = true;
        self.core.with(|engine| engine.end(now, self.id, digest))
    }
}
