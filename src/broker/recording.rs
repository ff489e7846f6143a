//! The broker's work for the journal. It hands the engine's records over, in their order, and lets
//! receipts and publishers wait.

use super::{Broker, Inner, Lock};
use crate::journal::queue::JournalQueue;
use crate::wire::Refusal;
use std::time::Duration;
use tokio::time::timeout;

/// Maximum time that publications wait for a journal that is slow, 5 s. Then the engine refuses
/// them, or the journal has room for those that were read.
const SLOW: Duration = Duration::from_secs(5);

impl Inner {
    // Tells the engine whether the journal takes publications.
    pub(super) fn begin_work(&mut self) {
        self.tell_time();
        self.engine.begin_work();
        if let Some(journal) = &self.journal {
            if journal.refuses() != self.refuses {
                self.refuse(journal.refusal());
            }
        } else if let Some(log) = &self.log
            && log.refuses() != self.refuses
        {
            self.refuse(log.refusal());
        }
    }

    fn refuse(&mut self, why: Option<Refusal>) {
        self.refuses = why.is_some();
        self.engine.refuse_publications(why);
    }

    // Hands over what the journal keeps, or what is for the log. Returns whether there was anything.
    pub(super) fn record(&mut self) -> bool {
        match &self.journal {
            Some(journal) if self.engine.has_records() => {
                journal.push(&mut self.engine);
                true
            }
            _ => self.propose(),
        }
    }
}

impl<L: Lock> Broker<L> {
    /// Returns the journal, if receipts have to wait for it.
    pub(crate) fn journal(&self) -> Option<&JournalQueue> {
        self.journal.as_deref()
    }

    /// Waits until everything that the engine has accepted so far is kept.
    pub(crate) async fn kept(&self) {
        if let Some(journal) = &self.journal {
            journal.kept_through(journal.pushed()).await;
        }
    }

    /// Waits until publications may be handed to the engine: the journal is not too far behind.
    pub(crate) async fn room_to_publish(&self) {
        if let Some(journal) = self.journal.as_ref().filter(|journal| !journal.has_room()) {
            // A journal that fails refuses publications, which then need not wait.
            let _ = timeout(SLOW, journal.room()).await;
        }
        if let Some(log) = self.log.as_ref().filter(|log| !log.has_room()) {
            let _ = timeout(SLOW, log.room()).await;
        }
    }

    pub(super) fn notify_journal(&self, recorded: bool) {
        if recorded {
            if let Some(journal) = &self.journal {
                journal.notify();
            }
            if let Some(log) = &self.log {
                log.notify();
            }
        }
    }
}
