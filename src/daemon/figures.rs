//! Some figures of a running daemon, for the program around it.

use super::Daemon;
use crate::broker::Broker;
use crate::broker::admission::Admission;
use std::sync::Arc;

/// Some figures of a daemon, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Sessions of remote peers, and handshakes.
    pub(crate) sessions: u32,
    pub(crate) topics: usize,
    /// Messages that were accepted, over all topics. The first look may not begin at 0.
    pub(crate) messages: u64,
}

/// Looks at a daemon, for as long as there is one.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    broker: Arc<Broker>,
    admission: Admission,
}

impl Daemon {
    /// Returns an observer of the daemon.
    pub(crate) fn observer(&self) -> Observer {
        Observer { broker: self.broker.clone(), admission: self.admission.clone() }
    }
}

impl Observer {
    /// Returns the figures. It waits for the engine's lock, so that an answer proves that others get it,
    /// too. Returns `None` after a panic of the engine.
    pub(crate) fn look(&self) -> Option<Figures> {
        let mut figures = None;
        let sessions = self.admission.sessions().taken();
        self.broker.tidy(|engine| {
            figures =
                Some(Figures { sessions, topics: engine.topics(), messages: engine.position() });
        });
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    #[tokio::test]
    async fn an_observer_waits_for_the_lock_of_the_engine() {
        let daemon = Daemon::builder().listen(([127, 0, 0, 1], 0).into()).spawn().await.unwrap();
        daemon.publish("a", "x").unwrap();
        daemon.publish("b", "x").unwrap();
        let observer = daemon.observer();
        let figures = Figures { sessions: 0, topics: 2, messages: 2 };
        assert_eq!(observer.look(), Some(figures));
        let (looked, looks) = channel();
        let broker = daemon.broker.clone();
        let (held, holds) = channel();
        let (release, released) = channel::<()>();
        let holder = std::thread::spawn(move || {
            broker.with(|_| {
                held.send(()).unwrap();
                released.recv().unwrap();
            });
        });
        holds.recv().unwrap();
        let other = std::thread::spawn(move || looked.send(observer.look()).unwrap());
        let waits = looks.recv_timeout(Duration::from_millis(100));
        assert_eq!(waits, Err(RecvTimeoutError::Timeout), "it did not need the lock");
        release.send(()).unwrap();
        assert_eq!(looks.recv().unwrap(), Some(figures));
        holder.join().unwrap();
        other.join().unwrap();
        daemon.shutdown().await;
    }
}
