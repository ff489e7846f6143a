//! A publication that is relayed while it arrives, and aborted when it is dropped before its end.

use super::Broker;
use crate::engine::{Receipt, UploadError, UploadId};
use crate::wire::Digest;
use bytes::Bytes;

/// Held by a receiver without a session, which would otherwise abort the upload.
pub(crate) struct Upload<'a> {
    broker: &'a Broker,
    id: UploadId,
    ended: bool,
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.broker.tidy(|engine| engine.abort(self.id));
        }
    }
}

impl<'a> Upload<'a> {
    /// Takes over an upload that the engine has begun.
    pub(crate) fn new(broker: &'a Broker, id: UploadId) -> Self {
        Self { broker, id, ended: false }
    }

    /// Appends a chunk of the payload. The engine keeps it without copying.
    pub(crate) fn append(&self, chunk: Bytes) -> Result<(), UploadError> {
        self.broker.with(|engine| engine.append(self.id, chunk))
    }

    /// Completes the payload, whose digest is `digest`. `now` is in µs since 1970.
    pub(crate) async fn end(mut self, now: u64, digest: Digest) -> Result<Receipt, UploadError> {
        self.ended = true;
        self.broker.end_upload(now, self.id, digest).await
    }
}
