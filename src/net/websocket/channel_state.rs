//! The state of a channel that its reader shares with the other tasks of the session.

use super::activity::ActivityMonitor;
use super::close_codes::connection_lost;
use super::demux::Demux;
use crate::net::error::ConnectionLost;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Error;

/// The requests of a channel, the activity of its peer, and the reason of its end.
pub(super) struct ChannelState {
    /// At the client only. Frames of clients need no splitting.
    pub(super) demux: Option<Mutex<Demux>>,
    pub(super) activity: Arc<ActivityMonitor>,
    lost: watch::Sender<Option<ConnectionLost>>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ChannelState {
    pub(super) fn new(activity: Arc<ActivityMonitor>, demux: Option<Mutex<Demux>>) -> Self {
        Self { demux, activity, lost: watch::channel(None).0 }
    }

    /// Returns the reason of the end, once the channel is closed or lost.
    pub(super) fn lost(&self) -> Option<ConnectionLost> {
        self.lost.borrow().clone()
    }

    /// Waits until the channel is closed or lost.
    pub(super) async fn closed(&self) -> ConnectionLost {
        let mut lost = self.lost.subscribe();
        let lost = lost.wait_for(Option::is_some).await.ok().and_then(|lost| lost.clone());
        lost.unwrap_or_else(|| connection_lost(&Error::AlreadyClosed))
    }

    /// Ends the channel, and wakes the tasks that read it. The first reason is kept.
    pub(super) fn end(&self, lost: ConnectionLost) {
        let first = self.lost.send_if_modified(|was| {
            let first = was.is_none();
            was.get_or_insert(lost);
            first
        });
        if first {
            self.activity.wake_reader();
            let mut wake = Vec::new();
            if let Some(demux) = &self.demux {
                locked(demux).take_wakers(&mut wake);
            }
            wake.into_iter().for_each(Waker::wake);
        }
    }
}
