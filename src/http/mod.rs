//! The HTTP face: publish, get, top and events over HTTP, and the page.
//!
//! | file | content |
//! |---|---|
//! | `state` | the state that all requests share |
//! | `api` | publish, get, top |
//! | `events`, `events/item`, `events/text` | a subscription as server-sent events |
//! | `headers` | reading headers |
//! | `event_id`, `sent` | the ids of events, and the progress of a stream |
//! | `path` | topics and filters in paths |
//! | `caller`, `callers` | who sends a request: tokens, and tickets of streams |
//! | `body`, `small`, `upload` | a request's body: read completely and bounded, or relayed while it arrives |
//! | `large`, `answer_budget` | sending large payloads, and the memory of unread answers |
//! | `reader` | whether a client reads its answers |
//! | `problem` | refusals, as `application/problem+json` |
//! | `assets` | the files of `web/` |
//! | `websocket` | the upgrade to a session |
//! | `traced` | the span of a request (feature `otel`) |
//! | `paced` | the rate of HTTP/2 frames that carry nothing |
//! | `rates` | what each request and its answer cost their address |
//! | `challenge` | answers to the challenges of a certificate authority |
//! | `listen` | the listeners: TLS on the daemon's port, and plain HTTP |
//!
//! `docs/http.md` and `web/openapi.json` describe the face to its users. Delivery, and accepting a
//! publication once, are the engine's.

mod answer_budget;
mod api;
mod assets;
mod body;
mod caller;
mod callers;
pub(crate) mod challenge;
mod connection;
mod event_id;
mod events;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod headers;
mod large;
pub(crate) mod listen;
mod paced;
mod path;
mod problem;
mod rates;
mod reader;
#[cfg(any(test, fuzzing))]
#[path = "tests/schema.rs"]
mod schema;
mod sent;
mod small;
mod state;
#[cfg(feature = "otel")]
mod traced;
mod upload;
pub(crate) mod websocket;

#[cfg(test)]
mod tests;

pub(crate) use api::parameters;
pub(crate) use problem::Problem;
pub(crate) use state::AppState;

use crate::access::origin::{Origins, RequestOrigin};
use crate::broker::counters::HandshakeFailure;
use crate::broker::stop::Stage;
use crate::broker::throttle::count_refusal;
use crate::engine::Charge;
use crate::tls::certificates::CertificateFacts;
use crate::wire::Code;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use connection::ConnectionHandle;
use rates::Cost;
use serde_json::json;
use std::sync::Arc;

/// Memory that a request takes until its answer was read, bytes: its tasks, and a stream of HTTP/2.
/// 3 KiB were measured.
const REQUEST: usize = 4 << 10;

/// Headers of the answer to an allowed preflight.
const PREFLIGHT: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, OPTIONS"),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "authorization, content-type, idempotency-key, last-event-id, weir-stamp, if-none-match",
    ),
    (header::ACCESS_CONTROL_MAX_AGE, "7200"),
];

/// Headers that scripts of other origins may read.
const EXPOSED: &str = "ETag, Weir-Sequence, Weir-Count, Weir-Epoch, Weir-Stamp";

/// Returns the routes of this face, and `others` with the same checks of hosts and origins. The
/// listener has to provide `ConnectInfo<SocketAddr>`.
pub(crate) fn router(state: Arc<AppState>, others: Router<Arc<AppState>>) -> Router {
    let files = assets::service(state.budget.clone());
    let router = match state.routes.clone() {
        None => Router::new().fallback_service(files),
        Some(routes) => {
            let file = |router: Router<_>, path| router.route_service(path, files.clone());
            assets::PUBLIC.into_iter().fold(Router::new(), file).fallback_service(routes)
        }
    };
    router
        .route("/v1/topics/{*topic}", get(api::get_or_top).post(api::publish))
        .route("/v1/events/{*filter}", get(events::subscribe))
        .route("/v1/tickets", post(caller::ticket))
        .route(CERTIFICATE, get(certificate))
        .merge(others)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .layer(middleware::from_fn_with_state(state.clone(), lend))
        .layer(middleware::from_fn_with_state(state.clone(), hold))
        .with_state(state)
}

async fn method_not_allowed(method: Method) -> Problem {
    problem::method_not_allowed(&method)
}

async fn certificate(State(state): State<Arc<AppState>>) -> Response {
    let CertificateFacts { pinning, current, next } = (state.certificate)();
    let facts = json!({
        "pinning": pinning,
        "current": current.to_string(),
        "next": next.map(|next| next.to_string()),
        "port": state.port,
        "path": crate::wire::PATH,
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(facts)).into_response()
}

const CERTIFICATE: &str = "/certificate.sha256";

/// Returns routes of an [`apart`](listen::Listener::apart) listener. Their requests keep their
/// connection open, and answers that are not read are detected.
pub(crate) fn apart(routes: Router) -> Router {
    routes.layer(middleware::from_fn(|request: Request, next: middleware::Next| async {
        let connection = request.extensions().get::<Arc<ConnectionHandle>>();
        let active = connection.map(|connection| connection.begin(false));
        let holds = reader::Holds { active, ..Default::default() };
        let response = next.run(request).await;
        response.map(|body| Body::new(reader::Permitted::new(body, holds)))
    }))
}

// Returns whether pages of every origin may read the path.
fn is_public(path: &str) -> bool {
    assets::PUBLIC.contains(&path)
}

// Checks hosts and origins, slows down addresses that are above their rates, answers preflights,
// refuses requests to a daemon that drains, and adds the headers that every answer has.
async fn guard(
    State(state): State<Arc<AppState>>,
    request: Request,
    next: middleware::Next,
) -> Response {
    let path = request.uri().path();
    let public = is_public(path);
    let paid = Cost::of(&request).pay().await;
    let from = match check_origin(&state.admission.origins(), &request, public) {
        Ok(from) => from,
        Err(problem) => {
            if path == crate::wire::PATH {
                state.broker.counters().handshake_failed(HandshakeFailure::Origin);
            }
            // `weir.js` requests this path first, and has to be able to read the refusal.
            let all = (path == CERTIFICATE).then(|| HeaderValue::from_static("*"));
            return finish(problem.into_response(), all);
        }
    };
    let allowed = match from.origin {
        _ if public => Some(HeaderValue::from_static("*")),
        Some(_) => request.headers().get(header::ORIGIN).cloned(),
        None => None,
    };
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let response = if let Err(too_fast) = paid {
        too_fast.into_response()
    } else if preflight {
        (StatusCode::NO_CONTENT, PREFLIGHT).into_response()
    } else if let Err(stopping) = state.stopping(is_served_late(&request)) {
        stopping.into_response()
    } else {
        next.run(request).await
    };
    finish(response, allowed)
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

fn check_origin<'a>(
    origins: &Origins,
    request: &'a Request,
    public: bool,
) -> Result<RequestOrigin<'a>, Problem> {
    let headers = request.headers();
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => headers::only(headers, &header::HOST)?.unwrap_or_default(),
    };
    let fetch = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    let from = RequestOrigin::new(headers::only(headers, &header::ORIGIN)?, host)?.with_fetch(
        fetch(&FETCH_SITE),
        fetch(&FETCH_MODE),
        reads,
    );
    origins.check(&from, public)?;
    Ok(from)
}

fn is_served_late(request: &Request) -> bool {
    let connection = request.extensions().get::<Arc<ConnectionHandle>>();
    connection.is_some_and(|connection| connection.is_served_late())
}

// Answers a request only when its body has arrived, or is not worth waiting for.
async fn lend(
    State(state): State<Arc<AppState>>,
    request: Request,
    next: middleware::Next,
) -> Response {
    // A client that expects 100 (Continue) has not sent its body yet.
    let expects = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let connection = head.extensions.get::<Arc<ConnectionHandle>>().cloned();
    let (body, returned) = body::ReturnableBody::lend(body);
    let response = next.run(Request::from_parts(head, body)).await;
    // After a timeout, the body was waited for already.
    if !expects && response.status() != StatusCode::REQUEST_TIMEOUT {
        body::drain(&state, connection.as_deref(), returned).await;
    }
    response
}

// Charges the request to the budget, and hands its answer to the transport one piece at a time.
async fn hold(
    State(state): State<Arc<AppState>>,
    request: Request,
    next: middleware::Next,
) -> Response {
    #[cfg(feature = "otel")]
    let traced = traced::Traced::begin(&state.admission, &request);
    let drains = *state.stage.borrow() >= Stage::Draining;
    let connection = request.extensions().get::<Arc<ConnectionHandle>>();
    let active = connection.map(|connection| connection.begin(drains));
    let work = Some(state.in_flight.begin());
    let mut holds = reader::Holds { active, work, ..Default::default() };
    let cost = Cost::of(&request);
    holds.room = state.budget.take(REQUEST);
    if holds.room.is_none() && request.method() == Method::POST {
        holds.reserve = state.reserve.clone().try_acquire_owned().ok();
    } else if holds.room.is_none()
        && let Ok(_place) = state.waiting.try_acquire()
    {
        holds.room = answer_budget::wait(&state.budget, REQUEST, answer_budget::SOON).await;
    }
    let mut response = if holds.room.is_none() && holds.reserve.is_none() {
        cost.pay_at_once();
        finish(answer_budget::full().into_response(), None)
    } else {
        next.run(request).await
    };
    cost.answered(response.status());
    #[cfg(feature = "otel")]
    if let Some(traced) = traced {
        traced.answered(response.status());
    }
    if let Some(code) = response.extensions_mut().remove::<Code>() {
        count_refusal(&state.counts, code);
    }
    holds.answer = response.extensions_mut().remove::<Arc<Charge>>();
    if response.extensions_mut().remove::<events::Endless>().is_some() {
        holds.work = None;
    }
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
