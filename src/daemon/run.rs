//! The tasks of a running daemon, and the order in which they end.

use super::blocking::blocking;
use crate::broker::stop::stopped;
use crate::http;
use crate::http::listen::Listener;
use crate::journal::threads::Journal;
use crate::net::endpoint;
use crate::net::session::list::Host;
use crate::ops;
use crate::ops::metrics::Metrics;
use crate::tls::certificates::Certificates;
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
    certificates: Arc<Certificates>,
    journal: Option<Journal>,
    (ops, metrics): (Option<ops::Server>, Metrics),
) {
    let admission = host.admission.clone();
    let mut serving = JoinSet::new();
    let broker = admission.broker().clone();
    // Until this function returns.
    let mut turns = JoinSet::new();
    if broker.journal().is_some() {
        let (broker, sessions) = (broker.clone(), host.sessions.clone());
        turns.spawn(async move {
            if let Some(journal) = broker.journal() {
                sessions.watch(journal).await;
            }
        });
    }
    let sessions = host.sessions.clone();
    turns.spawn(async move { sessions.sample().await });
    let expiring = broker.clone();
    turns.spawn(async move { expiring.expire_messages().await });
    turns.spawn(ops::stats::publish(metrics));
    turns.spawn(async move { broker.take_turns().await });
    let mut app = http::router(Arc::new(state), http::websocket::routes(host.clone()));
    if let Some(challenges) = certificates.http_challenges() {
        app = app.merge(http::challenge::routes(challenges));
    }
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
        () = certificates.renewing() => {}
        () = failed => {}
    }
    // Until now it has said that the daemon stops.
    if let Some(ops) = ops {
        ops.stop().await;
    }
}
