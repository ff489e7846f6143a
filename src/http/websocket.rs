//! The upgrade to WebSocket (RFC 6455): from there on it is a session like any other.

use super::{Problem, Shared};
use crate::net::doors::Doors;
use crate::net::websocket;
use crate::wire::{Code, PATH};
use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use std::net::SocketAddr;
use std::sync::Arc;

/// The route of sessions. Hosts and origins are checked before it.
pub(crate) fn routes(doors: Doors) -> Router<Arc<Shared>> {
    let upgrade =
        move |ConnectInfo(remote): ConnectInfo<SocketAddr>,
              upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>| {
            let doors = doors.clone();
            async move { accept(&doors, remote, upgrade).unwrap_or_else(Problem::into_response) }
        };
    Router::new().route(PATH, any(upgrade))
}

fn accept(
    doors: &Doors,
    remote: SocketAddr,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| {
        Problem::bad_request(format!(
            "{rejection}: {PATH} is for WebSocket (RFC 6455), and for WebTransport over UDP"
        ))
    })?;
    let place = doors.admit().ok_or_else(|| {
        Problem::of(Code::OVERLOADED, "no more sessions (limits.sessions): try again later")
    })?;
    let payload = doors.core().with(|engine| engine.limits().payload);
    let doors = doors.clone();
    Ok(websocket::bounded(upgrade, payload).on_upgrade(move |socket| async move {
        doors.serve(websocket::served(socket, remote), place).await;
    }))
}
