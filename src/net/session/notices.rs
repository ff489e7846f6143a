//! The state of the daemon that sessions are told.

use bytes::Bytes;
use std::sync::{Mutex, PoisonError};

/// The state that lasts, as a frame. None if there is nothing to notice.
#[derive(Default)]
pub(super) struct Notices(Mutex<Option<Bytes>>);

impl Notices {
    /// Calls with the notice under the lock, if there is one.
    pub(super) fn with(&self, call: impl FnOnce(&Bytes)) {
        if let Some(notice) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            call(notice);
        }
    }

    pub(super) fn set(&self, notice: Option<Bytes>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = notice;
    }
}
