//! The HTTP face: publish, get, top and events for whoever speaks HTTP, and the page.
//!
//! | file | what |
//! |---|---|
//! | `api` | publish, get, top |
//! | `events` | a subscription as server-sent events |
//! | `event_id`, `sent` | the ids of events, where a subscription begins, and how far a stream has come |
//! | `path` | topics and filters in paths |
//! | `body`, `small`, `upload` | a request's body: read whole and bounded, or relayed while it arrives |
//! | `large`, `answer_budget` | a large payload on its way to a client, and what unread answers hold |
//! | `reader` | whether a client reads what it is sent |
//! | `problem` | every refusal, as `application/problem+json` |
//! | `assets` | the files of `web/` |
//! | `websocket` | the upgrade to a session |
//! | `listen` | the listeners: TLS on the daemon's port, and plain beside it |
//!
//! `docs/http.md` and `web/openapi.json` describe it to its users. Delivery and publishing once
//! stay in the engine.

mod answer_budget;
mod api;
mod assets;
mod body;
mod event_id;
mod events;
mod large;
pub(crate) mod listen;
mod path;
mod problem;
mod reader;
mod sent;
mod small;
mod upload;
pub(crate) mod websocket;

#[cfg(test)]
mod tests;

pub(crate) use problem::Problem;

use crate::access::origin::{Origins, RequestOrigin};
use crate::broker::Broker;
use crate::broker::pace;
use crate::engine::{Budget, Charge, IdempotencyKeys};
use crate::tls::CertificateHash;
use crate::wire::Code;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Most streams of events at once, over all clients. What one holds for a client that does not read
/// is charged; without that, it is a cursor and its connection.
pub(crate) const EVENT_STREAMS: usize = 1024;

/// What a request takes until its answer has been read: its tasks, and a stream of HTTP/2. Bytes;
/// 3 KiB were measured.
const REQUEST: usize = 4 << 10;

/// Publications at once for which there is no room, all of it being taken: 4 MiB of requests. So
/// clients that read nothing do not stop those that publish. As many other requests wait for room.
const RESERVE: usize = 1024;

/// What an allowed preflight is answered.
const PREFLIGHT: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, OPTIONS"),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "content-type, idempotency-key, last-event-id, weir-stamp, if-none-match",
    ),
    (header::ACCESS_CONTROL_MAX_AGE, "7200"),
];

/// Headers that pages may read.
const EXPOSED: &str = "ETag, Weir-Sequence, Weir-Count, Weir-Epoch, Weir-Stamp";

/// What a browser needs to know of the daemon's certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CertificateFacts {
    /// Whether no authority vouches for it, so that a page has to name its hash.
    pub(crate) pinning: bool,
    /// The one in use.
    pub(crate) current: CertificateHash,
    /// The one that follows, if it is made already.
    pub(crate) next: Option<CertificateHash>,
}

/// What every request needs.
pub(crate) struct AppState {
    broker: Arc<Broker>,
    origins: Origins,
    certificate: Box<dyn Fn() -> CertificateFacts + Send + Sync>,
    // Of WebTransport, UDP.
    port: u16,
    stop: watch::Receiver<bool>,
    keys: IdempotencyKeys,
    // Largest payload, bytes.
    payload: usize,
    // For what peers make the daemon hold.
    budget: Budget,
    // Large payloads that are relayed while they arrive: the topics are charged for their bytes, and
    // here they are counted, so that those that may never end leave room for those that did.
    uploads: Budget,
    small: Arc<small::Smalls>,
    streams: Arc<Semaphore>,
    // For publications, where the budget has no room.
    reserve: Arc<Semaphore>,
    // For other requests, until it has.
    waiting: Semaphore,
    // How long a body may stand still.
    patience: Duration,
    // How long a stream of events waits for room.
    room: Duration,
    // How long a stream of events may be silent.
    keep_alive: Duration,
}

impl AppState {
    /// `port` is the UDP port of WebTransport. Streams of events end when `stop` says true.
    pub(crate) fn new(
        broker: Arc<Broker>,
        origins: Origins,
        certificate: impl Fn() -> CertificateFacts + Send + Sync + 'static,
        port: u16,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let (limits, keys, budget) =
            broker.with(|engine| (engine.limits(), engine.keys(), engine.budget().clone()));
        Self {
            broker,
            origins,
            certificate: Box::new(certificate),
            port,
            stop,
            keys,
            payload: limits.payload,
            uploads: Budget::new(budget.most()),
            budget,
            small: small::Smalls::new(small::MOST),
            streams: Arc::new(Semaphore::new(EVENT_STREAMS)),
            reserve: Arc::new(Semaphore::new(RESERVE)),
            waiting: Semaphore::new(RESERVE),
            patience: pace::PATIENCE,
            room: answer_budget::PATIENCE,
            keep_alive: events::KEEP_ALIVE,
        }
    }

    fn stopping(&self) -> Result<(), Problem> {
        if *self.stop.borrow() {
            return Err(Problem::of(
                Code::SHUTTING_DOWN,
                "the daemon stops: ask again, or another",
            ));
        }
        Ok(())
    }
}

/// All routes, and `others` under the same rules of hosts and origins. The listener is to provide
/// `ConnectInfo<SocketAddr>`.
pub(crate) fn router(shared: Arc<AppState>, others: Router<Arc<AppState>>) -> Router {
    Router::new()
        .route("/v1/topics/{*topic}", get(api::get_or_top).post(api::publish))
        .route("/v1/events/{*filter}", get(events::subscribe))
        .route(CERTIFICATE, get(certificate))
        .merge(others)
        .fallback_service(assets::service(shared.budget.clone()))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .layer(middleware::from_fn_with_state(shared.clone(), lend))
        .layer(middleware::from_fn_with_state(shared.clone(), hold))
        .with_state(shared)
}

async fn method_not_allowed(method: Method) -> Problem {
    problem::method_not_allowed(&method)
}

async fn certificate(State(shared): State<Arc<AppState>>) -> Response {
    let CertificateFacts { pinning, current, next } = (shared.certificate)();
    let facts = json!({
        "pinning": pinning,
        "current": current.to_string(),
        "next": next.map(|next| next.to_string()),
        "port": shared.port,
        "path": crate::wire::PATH,
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(facts)).into_response()
}

const CERTIFICATE: &str = "/certificate.sha256";

// What any page may read, wherever it comes from.
fn is_public(path: &str) -> bool {
    matches!(path, "/weir.js" | "/weir.d.ts" | "/openapi.json")
}

// Hosts, origins, preflights, and the headers that every answer has.
async fn guard(
    State(shared): State<Arc<AppState>>,
    request: Request,
    next: middleware::Next,
) -> Response {
    let path = request.uri().path();
    let public = is_public(path);
    let asked = match check_origin(&shared.origins, &request, public) {
        Ok(asked) => asked,
        Err(problem) => {
            // `weir.js` asks here first, and tells its page why it may not.
            let all = (path == CERTIFICATE).then(|| HeaderValue::from_static("*"));
            return finish(problem.into_response(), all);
        }
    };
    let allowed = match asked.origin {
        _ if public => Some(HeaderValue::from_static("*")),
        Some(_) => request.headers().get(header::ORIGIN).cloned(),
        None => None,
    };
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let response = if preflight {
        (StatusCode::NO_CONTENT, PREFLIGHT).into_response()
    } else {
        next.run(request).await
    };
    finish(response, allowed)
}

fn check_origin<'a>(
    origins: &Origins,
    request: &'a Request,
    public: bool,
) -> Result<RequestOrigin<'a>, Problem> {
    let headers = request.headers();
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => api::only(headers, &header::HOST)?.unwrap_or_default(),
    };
    let asked = RequestOrigin::new(api::only(headers, &header::ORIGIN)?, host)?;
    origins.check(&asked, public)?;
    Ok(asked)
}

// Everything is answered once its body has come, or no more of it is to be waited for.
async fn lend(
    State(shared): State<Arc<AppState>>,
    request: Request,
    next: middleware::Next,
) -> Response {
    // A client that asks first is told before it sends.
    let asks = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let (body, returned) = body::ReturnableBody::lend(body);
    let response = next.run(Request::from_parts(head, body)).await;
    // One that stands still has been waited for already.
    if !asks && response.status() != StatusCode::REQUEST_TIMEOUT {
        body::drain(&shared, returned).await;
    }
    response
}

// Every request has room, and its answer is given to the transport a piece at a time.
async fn hold(
    State(shared): State<Arc<AppState>>,
    request: Request,
    next: middleware::Next,
) -> Response {
    let under_way = request.extensions().get::<Arc<listen::Line>>().map(listen::Line::begin);
    let mut holds = reader::Holds { under_way, ..Default::default() };
    holds.room = shared.budget.take(REQUEST);
    if holds.room.is_none() && request.method() == Method::POST {
        holds.reserve = shared.reserve.clone().try_acquire_owned().ok();
    } else if holds.room.is_none()
        && let Ok(_place) = shared.waiting.try_acquire()
    {
        holds.room = answer_budget::wait(&shared.budget, REQUEST, answer_budget::SOON).await;
    }
    let mut response = if holds.room.is_none() && holds.reserve.is_none() {
        finish(answer_budget::full().into_response(), None)
    } else {
        next.run(request).await
    };
    holds.answer = response.extensions_mut().remove::<Arc<Charge>>();
    response.map(|body| Body::new(reader::Permitted::new(body, holds)))
}

fn finish(mut response: Response, allowed: Option<HeaderValue>) -> Response {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(allowed) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        let exposed = HeaderValue::from_static(EXPOSED);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}
