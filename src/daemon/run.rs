//! The tasks of a running daemon, and the order in which they end.

use crate::broker::stop::stopped;
use crate::http;
use crate::http::listen::Listener;
use crate::journal::threads::Journal;
use crate::net::endpoint;
use crate::net::session::list::Host;
use crate::tls::identity::Identities;
use std::panic::resume_unwind;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Returns the number of a run. It is random, because a clock may be set back and so give two runs the
// same number. It has 52 bits, so that it and the epochs, which count up from it, are integers in
// JavaScript. Two runs have the same number once in 4.5 × 10^15 restarts.
pub(super) fn new_run() -> u64 {
    (rand::random::<u64>() >> 12).max(1)
}

/// Serves until the daemon has stopped, and every session has ended.
pub(super) async fn run(
    endpoint: endpoint::Endpoint,
    (listeners, state): (Vec<Listener>, http::AppState),
    host: Host,
    identities: Arc<Identities>,
    journal: Option<Journal>,
) {
    let admission = host.admission.clone();
    let mut serving = JoinSet::new();
    let broker = admission.broker().clone();
    // Until this function returns.
    let mut turns = JoinSet::new();
    turns.spawn(async move { broker.take_turns().await });
    let app = http::router(Arc::new(state), http::websocket::routes(host.clone()));
    for listener in listeners {
        serving.spawn(listener.run(app.clone(), admission.stage()));
    }
    let mut stage = admission.stage();
    let tcp = async {
        tokio::select! {
            () = stopped(&mut stage) => {}
            // A listener that notices the stop first ends without an error.
            Some(ended) = serving.join_next() => {
                if !matches!(ended, Ok(Ok(()))) {
                    tracing::error!(?ended, "a listener failed: no HTTP and WebSocket any more");
                    serving.abort_all();
                }
            }
        }
        while serving.join_next().await.is_some() {}
        admission.ended().await;
    };
    let udp = endpoint::run(endpoint, host);
    let served = async {
        tokio::join!(tcp, udp);
        // Every face has ended, so that nothing changes the engine any more. After a panic of the
        // engine, the journal is left as after a kill.
        if let Some(journal) = journal {
            blocking(move || journal.close()).await;
        }
    };
    let failed = async {
        admission.broker().failed().await;
        tracing::error!("the engine panicked, which is a defect of the daemon: it stops");
        admission.stop();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = served => {}
        () = identities.renewing() => {}
        () = failed => {}
    }
}

/// Runs what writes and syncs files, which would block the tasks of this thread.
pub(super) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(run).await;
    done.unwrap_or_else(|failed| resume_unwind(failed.into_panic()))
}
