//! A task of the daemon that panics: a defect, which ends what it served, and is told there.

use crate::wire::{Code, Refusal};
use tokio::task::JoinError;

/// What is told of a defect: in the log, and, by what this gives, to the peer. `what` has failed.
pub(crate) fn defect(what: &str) -> Refusal {
    tracing::error!(what, "a task of the daemon panicked: this is a defect of the daemon");
    Refusal::new(Code::OVERLOADED, "the daemon failed: see its log")
}

/// Why the session of a task ends with it: because it panicked. One that was stopped did not.
pub(crate) fn of_task<T>(ended: Result<T, JoinError>) -> Option<Refusal> {
    let panicked = ended.err().is_some_and(|error| error.is_panic());
    panicked.then(|| defect("a task of a session"))
}

/// Where tests make a future panic; nothing in what is released.
#[cfg(not(test))]
pub(crate) fn seam<F: Future>(_: &super::Broker, _what: &str, future: F) -> F {
    future
}

#[cfg(test)]
pub(crate) use seam::{seam, strike};

#[cfg(test)]
mod seam {
    use crate::broker::Broker;
    use tokio::sync::watch;

    // The cores whose futures are to panic, by number.
    static STRUCK: std::sync::LazyLock<watch::Sender<Vec<(u64, &str)>>> =
        std::sync::LazyLock::new(|| watch::Sender::new(Vec::new()));

    /// Everything of this name that goes through the seam panics, now and from here on.
    pub(crate) fn strike(broker: &Broker, what: &'static str) {
        STRUCK.send_modify(|struck| struck.push((broker.number, what)));
    }

    pub(crate) fn seam<F: Future>(
        broker: &Broker,
        what: &'static str,
        future: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let (broker, mut struck) = (broker.number, STRUCK.subscribe());
        async move {
            tokio::select! {
                biased;
                _ = struck.wait_for(|struck| struck.contains(&(broker, what))) => panic!("struck by a test"),
                output = future => output,
            }
        }
    }
}
