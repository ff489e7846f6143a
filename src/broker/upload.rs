//! A publication that is relayed while it arrives, and given up unless it comes to its end.

use super::Core;
use crate::engine::{Failed, Receipt, Upload as Id};
use crate::wire::Digest;
use bytes::Bytes;

/// Held by whoever receives the payload and has no session that would give it up.
pub(crate) struct Upload<'a> {
    core: &'a Core,
    // None once it has ended.
    id: Option<Id>,
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.core.tidy(|engine| engine.abort(id));
        }
    }
}

impl<'a> Upload<'a> {
    /// Takes over an upload that the engine has begun.
    pub(crate) fn new(core: &'a Core, id: Id) -> Self {
        Self { core, id: Some(id) }
    }

    /// Adds a chunk of the payload. The engine keeps it as it is.
    pub(crate) fn append(&self, chunk: Bytes) -> Result<(), Failed> {
        let Some(id) = self.id else { return Ok(()) };
        self.core.with(|engine| engine.append(id, chunk))
    }

    /// Completes the payload, whose digest is `digest`. `now` is in µs since 1970.
    pub(crate) fn end(mut self, now: u64, digest: Digest) -> Result<Receipt, Failed> {
        match self.id.take() {
            Some(id) => self.core.with(|engine| engine.end(now, id, digest)),
            None => Err(Failed::Superseded),
        }
    }
}
