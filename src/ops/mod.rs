//! Metrics and health, on a listener of their own: it answers while the daemon reads its journal, while
//! it drains, and while its faces are full.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | all metrics, as OpenMetrics |
//! | `/healthz` | 200 while the process can do its work, 503 after a panic of the engine |
//! | `/readyz` | 200 while the daemon should get work, else 503 with the reason |
//! | `/sessions`, `/topics` | for this machine: who is connected, and what is published |
//!
//! Only the last two contain names of topics, identities or addresses.

mod family;
mod health;
mod lists;
pub(crate) mod metrics;
mod ranked;
mod shared;
pub(crate) mod stats;
#[cfg(test)]
mod tests;

use crate::broker::places::Places;
use crate::broker::stop::Stage;
use crate::http;
use crate::http::listen::Listener;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics::Metrics;
use serde_json::json;
use shared::{NOT_KEPT, Shared};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Maximum number of connections. Each holds at most one answer, of some 20 KiB. A collector has one
/// connection, and a load balancer a few.
const CONNECTIONS: usize = 64;

/// The media type of OpenMetrics 1.0, section 4.1.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The listener for metrics and health. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    serving: JoinSet<io::Result<()>>,
    shared: Arc<Shared>,
    // Its connections end with the task, and not before.
    _stage: watch::Sender<Stage>,
}

impl Server {
    /// Begins to answer, as a daemon that does not serve yet.
    pub(crate) fn start(listener: TcpListener) -> Self {
        let shared = Arc::new(Shared::new());
        let full = "no more connections for metrics and health: closing";
        let connections = Places::new(CONNECTIONS, full);
        let listener = Listener::apart(listener, &connections, routes(shared.clone()));
        let (stage, stages) = watch::channel(Stage::Running);
        let mut serving = JoinSet::new();
        serving.spawn(listener.run(Router::new(), stages));
        Self { serving, shared, _stage: stage }
    }

    /// The daemon serves, and has metrics.
    pub(crate) fn serve(&self, metrics: Metrics) {
        // An error means that it served before.
        let _ = self.shared.metrics.set(metrics);
    }

    /// Ends it. The port is free then.
    pub(crate) async fn stop(mut self) {
        self.serving.shutdown().await;
    }
}

fn routes(shared: Arc<Shared>) -> Router {
    let routes = Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/sessions", get(lists::sessions))
        .route("/topics", get(lists::topics))
        .fallback(|| async {
            (StatusCode::NOT_FOUND, "see /metrics, /healthz, /readyz, /sessions and /topics\n")
        })
        .with_state(shared);
    http::apart(routes)
}

async fn scrape(State(shared): State<Arc<Shared>>) -> Response {
    // It cannot fail, because the semaphore is never closed.
    let _one = shared.scraping.acquire().await;
    match metrics::text(shared.metrics.get().cloned()) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS), NOT_KEPT], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    let lives = health::lives(shared.admission());
    let status = if lives { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [NOT_KEPT], Json(json!({ "lives": lives }))).into_response()
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match health::readiness(shared.admission()) {
        Ok(()) => ([NOT_KEPT], Json(json!({ "ready": true }))).into_response(),
        Err(why) => {
            let retry = (header::RETRY_AFTER, HeaderValue::from_static("1"));
            let status = StatusCode::SERVICE_UNAVAILABLE;
            (status, [retry], [NOT_KEPT], Json(why.json())).into_response()
        }
    }
}
