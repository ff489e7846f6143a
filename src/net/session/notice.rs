//! Notices of the daemon's state, for the clients that know them.

use super::list::Sessions;
use super::peer::Peer;
use crate::journal::queue::JournalQueue;
use crate::wire::{Code, DaemonFrame};
use bytes::Bytes;

/// The index of [`DaemonFrame::Notice`].
const NOTICE: u32 = 21;

/// Tells the state to a session that has just said which frames it knows.
pub(super) fn tell(peer: &Peer) {
    // Pushed under the lock, so that a later state comes later.
    peer.notices.with(|notice| push(peer, notice));
}

impl Sessions {
    /// Tells a new state to all sessions.
    fn notify(&self, code: Code, reason: &str) {
        let notice = DaemonFrame::Notice { code, reason }.to_bytes();
        // It is there before the sessions are visited: one that says meanwhile what it knows finds it.
        self.notices.set((code != Code::DONE).then(|| notice.clone()));
        self.peers().iter().for_each(|peer| push(peer, &notice));
    }

    /// Tells the sessions when the journal does not keep what is published, and when it does again.
    pub(crate) async fn watch(&self, journal: &JournalQueue) {
        let mut unkept = journal.unkept();
        // The sender is in the journal's queue, so that this ends with the daemon only.
        while unkept.wait_for(|unkept| *unkept).await.is_ok() {
            self.notify(
                Code::UNKEPT,
                "the daemon's journal cannot be written: what is published now is lost if the daemon \
                 ends before it can",
            );
            if unkept.wait_for(|unkept| !unkept).await.is_err() {
                return;
            }
            self.notify(Code::DONE, "the daemon's journal is written again");
        }
    }
}

// The welcome of a session that is not open yet may still have to be sent; what the client knows is
// looked at once more then. A client that does not read its control stream gets the newest notice
// when it does.
fn push(peer: &Peer, notice: &Bytes) {
    if peer.is_open() && peer.session().knows(NOTICE) {
        peer.outbox.set_notice(notice.clone());
    }
}
