//! Answers to the challenges of a certificate authority (RFC 8555, section 8.3).
//!
//! The authority connects by the name that it checks, and needs no origin. The answers are known to
//! it beforehand, and exist only while an order is under way. So this route has none of the checks
//! and budgets of the others.

use crate::tls::acme::Challenges;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use std::sync::Arc;

/// Returns the route of the answers.
pub(crate) fn routes(challenges: Arc<Challenges>) -> Router {
    Router::new().route("/.well-known/acme-challenge/{token}", get(answer)).with_state(challenges)
}

async fn answer(State(challenges): State<Arc<Challenges>>, Path(token): Path<String>) -> Response {
    match challenges.http(&token) {
        Some(answer) => {
            ([(header::CONTENT_TYPE, "application/octet-stream")], answer).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
