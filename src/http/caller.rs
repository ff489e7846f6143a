//! The sender of a request: a token in `Authorization` (RFC 6750, section 2.1), or a ticket in the address of
//! a stream of events.
//!
//! `EventSource` of browsers cannot send headers, and an address is written to logs and histories. So
//! it has a ticket there, which is worth little: it is a random number, valid for a minute, and for
//! streams of events only.

use super::callers::{Known, Owner, Ticket};
use super::connection::ConnectionHandle;
use super::headers;
use super::problem::Problem;
use super::state::AppState;
use crate::access::{Credentials, Identity};
use crate::net::now;
use crate::wire::{Code, Refusal};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a ticket is valid: one minute.
const TICKET: Duration = Duration::from_secs(60);

/// The ticket of everybody who has no token. It is worth as much as no ticket, and takes no place.
const NOBODY: Ticket = [0; 16];

/// Returns who sends a request with these headers.
pub(super) async fn identify(
    state: &AppState,
    connection: &ConnectionHandle,
    headers: &HeaderMap,
) -> Result<Arc<Identity>, Problem> {
    Ok(find_out(state, connection, headers).await?.identity)
}

// The sender of a request.
struct Sender {
    identity: Arc<Identity>,
    // The generation of the keys before its token was verified.
    generation: u64,
    // The owner of the tickets that it takes. None if it has shown nothing and has what everybody has.
    owner: Option<Owner>,
}

async fn find_out(
    state: &AppState,
    connection: &ConnectionHandle,
    headers: &HeaderMap,
) -> Result<Sender, Problem> {
    let access = state.admission.access();
    let generation = access.generation();
    let rules = access.rules();
    let token = if rules.is_open() { None } else { token(headers)? };
    let address = connection.address().to_canonical();
    let Some(token) = token else {
        if !rules.asks_without_token() {
            let identity = rules.anonymous().clone();
            return Ok(Sender { identity, generation, owner: None });
        }
        let identity = ask(state, Credentials::from_address(address)).await?;
        let owner = Some(owner(&identity, &address.to_string()));
        return Ok(Sender { identity, generation, owner });
    };
    let key = key(token, address);
    let sender = |identity: Arc<Identity>| {
        let owner = Some(owner(&identity, token));
        Sender { identity, generation, owner }
    };
    if let Some(identity) = state.answers.get(&key, generation) {
        return Ok(sender(identity));
    }
    let credentials = Credentials::from_address(address).with_token(Some(token));
    let identity = ask(state, credentials).await?;
    let kept = rules.kept();
    if !kept.is_zero() {
        let until = Instant::now() + kept;
        let known = Known { identity: identity.clone(), until, generation };
        state.answers.put(key, known);
    }
    Ok(sender(identity))
}

// The owner of tickets is a name, or without one whatever the sender has shown.
fn owner(identity: &Identity, shown: &str) -> Owner {
    let (kind, text) = identity.name().map_or(("other", shown), |name| ("name", name));
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_bytes()).update(b" ").update(text.as_bytes());
    *hasher.finalize().as_bytes()
}

async fn ask(state: &AppState, credentials: Credentials<'_>) -> Result<Arc<Identity>, Problem> {
    // Boxed, because few requests wait for it.
    Ok(Box::pin(state.admission.identify(credentials, now())).await?)
}

fn key(token: &str, address: IpAddr) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(address.to_string().as_bytes()).update(b" ").update(token.as_bytes());
    *hasher.finalize().as_bytes()
}

// Returns the token. The scheme may be written in any case.
fn token(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers::only(headers, &header::AUTHORIZATION)? else {
        return Ok(None);
    };
    let bad = || Problem::of(Code::UNAUTHORIZED, "write it as Authorization: Bearer TOKEN");
    let (scheme, token) = value.split_once(' ').ok_or_else(bad)?;
    let token = token.trim_start_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains(' ') {
        return Err(bad());
    }
    Ok(Some(token))
}

/// `POST /v1/tickets`.
pub(super) async fn ticket(
    State(state): State<Arc<AppState>>,
    Extension(connection): Extension<Arc<ConnectionHandle>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Sender { identity, generation, owner } = find_out(&state, &connection, &headers).await?;
    let ticket = match owner {
        None => NOBODY,
        Some(owner) => {
            let ticket = rand::random();
            let known = Known { identity, until: Instant::now() + TICKET, generation };
            state.tickets.put(ticket, owner, known);
            ticket
        }
    };
    let lifetime = TICKET.as_secs();
    let answer = json!({ "ticket": URL_SAFE_NO_PAD.encode(ticket), "expires_in": lifetime });
    Ok((StatusCode::OK, [(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

/// Returns who has taken a ticket.
pub(super) fn of_ticket(state: &AppState, ticket: &str) -> Result<Arc<Identity>, Problem> {
    let access = state.admission.access();
    let bytes = URL_SAFE_NO_PAD.decode(ticket).ok().and_then(|bytes| bytes.try_into().ok());
    let known = bytes.and_then(|ticket: Ticket| match ticket {
        NOBODY => {
            let rules = access.rules();
            (!rules.asks_without_token()).then(|| rules.anonymous().clone())
        }
        _ => state.tickets.get(&ticket, access.generation()),
    });
    known.ok_or_else(|| {
        let reason = "the ticket is not valid any more: take another one at POST /v1/tickets";
        Problem::of(Code::UNAUTHORIZED, reason)
    })
}

/// Makes a refusal that is shared an answer.
pub(super) fn allowed(decision: Result<(), &Arc<Refusal>>) -> Result<(), Problem> {
    decision.map_err(|refusal| Problem::from(Refusal::clone(refusal)))
}
