//! The upgrade to WebSocket (RFC 6455). The result is a session like any other.

use super::problem::Problem;
use super::state::AppState;
use crate::broker::counters::HandshakeFailure;
use crate::net::session::list::Host;
use crate::net::transport::connection::Connection;
use crate::net::{session, websocket};
use crate::wire::{Code, PATH};
use axum::Extension;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Returns the route of sessions. The router has checked hosts and origins before.
pub(crate) fn routes(host: Host) -> Router<Arc<AppState>> {
    // The connection is taken before axum does, because axum would read complete messages from it.
    let upgrade =
        move |ConnectInfo(remote): ConnectInfo<SocketAddr>,
              headers: HeaderMap,
              connection: Option<Extension<OnUpgrade>>,
              upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>| {
            let connection = connection.map(|Extension(connection)| connection);
            let host = host.clone();
            async move {
                let upgrade = upgrade.map(drop);
                let accepted = accept(&host, remote, &headers, connection, upgrade);
                accepted.unwrap_or_else(Problem::into_response)
            }
        };
    Router::new().route(PATH, any(upgrade))
}

fn accept(
    host: &Host,
    remote: SocketAddr,
    headers: &HeaderMap,
    connection: Option<OnUpgrade>,
    upgrade: Result<(), WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    upgrade.map_err(|rejection| {
        host.failed(HandshakeFailure::Request);
        Problem::bad_request(format!(
            "{rejection}: {PATH} is for WebSocket (RFC 6455), and for WebTransport over UDP"
        ))
    })?;
    let (Some(connection), Some(key)) = (connection, headers.get(header::SEC_WEBSOCKET_KEY)) else {
        host.failed(HandshakeFailure::Request);
        return Err(Problem::bad_request(format!("{PATH} is upgraded from HTTP/1.1 only")));
    };
    let mut permit = host.admission.admit(remote.ip()).ok_or_else(|| {
        host.failed(HandshakeFailure::Refused);
        Problem::of(Code::OVERLOADED, "no more sessions (limits.sessions): try again later")
    })?;
    host.admission.admit_address(&mut permit, remote.ip()).map_err(|_| {
        host.failed(HandshakeFailure::Refused);
        let reason = "too many sessions from this address (limits.sessions_per_address)";
        Problem::of(Code::RATE_LIMITED, reason)
    })?;
    let payload = host.admission.broker().with(|engine| engine.limits().payload);
    let host = host.clone();
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    tokio::spawn(async move {
        match connection.await {
            Ok(io) => {
                let io = Box::new(TokioIo::new(io));
                let socket = websocket::served(io, remote, payload).await;
                session::serve(&host, Connection::WebSocket(socket), permit).await;
            }
            Err(error) => {
                host.failed(HandshakeFailure::Failed);
                tracing::debug!(%error, "no upgrade");
            }
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let fields = [
        (header::CONNECTION, Ok(HeaderValue::from_static("upgrade"))),
        (header::UPGRADE, Ok(HeaderValue::from_static("websocket"))),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    for (name, value) in fields {
        // Base64 is always a valid header value.
        response.headers_mut().extend(value.ok().map(|value| (name, value)));
    }
    Ok(response)
}
