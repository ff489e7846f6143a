//! Panics of the daemon's tasks. A panic is a defect: it ends what the task served, and the peer
//! gets the reason.

use crate::wire::{Code, Refusal};
use tokio::task::JoinError;

/// Logs that `what` has panicked, and returns the refusal for the peer.
pub(crate) fn defect(what: &str) -> Refusal {
    tracing::error!(what, "a task of the daemon panicked: this is a defect of the daemon");
    Refusal::new(Code::OVERLOADED, "the daemon failed: see its log")
}

/// The reason why a task's end ends its session: the task panicked. An aborted task did not.
pub(crate) fn of_task<T>(ended: Result<T, JoinError>) -> Option<Refusal> {
    let panicked = ended.err().is_some_and(|error| error.is_panic());
    panicked.then(|| defect("a task of a session"))
}

/// The place where tests make a future panic. Without tests it does nothing.
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

    // The brokers whose futures panic, by number, and the names of the futures.
    static STRUCK: std::sync::LazyLock<watch::Sender<Vec<(u64, &str)>>> =
        std::sync::LazyLock::new(|| watch::Sender::new(Vec::new()));

    /// Makes every future of this name panic from now on.
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
