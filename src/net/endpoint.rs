//! The UDP side: accepting connections, and the split by ALPN (RFC 7301).

use super::doors::{Doors, Place};
use super::identity::Identities;
use super::link::Link;
use super::ports::BindError;
use super::{session, tls, transport};
use crate::http::Asked;
use crate::wire::{ALPN, Code, PATH};
pub(crate) use quinn::Endpoint;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use wtransport::endpoint::IncomingSessionFuture;

/// From the first packet to an established session.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes under way beyond which a peer has to prove its address first (RFC 9000, section
/// 8.1.2): a flood from forged addresses then costs next to nothing.
const UNPROVEN: usize = 256;

/// Takes the socket for both protocols.
pub(crate) fn open(socket: UdpSocket, identities: Arc<Identities>) -> Result<Endpoint, BindError> {
    let crypto = tls::server(identities, &[b"h3", ALPN])?;
    let crypto = QuicServerConfig::try_from(crypto).map_err(|_| tls::TlsError::NoInitialCipher)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport::daemon()));
    let runtime = Arc::new(quinn::TokioRuntime);
    let at = socket.local_addr();
    Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime)
        .and_then(|endpoint| at.map(|_| endpoint))
        .map_err(|error| BindError::Endpoint { error })
}

/// Accepts until told to stop, and returns when every one of its sessions has ended.
pub(crate) async fn run(endpoint: Endpoint, doors: Doors) {
    let mut sessions = JoinSet::new();
    let mut stop = doors.stop();
    // One clone for each handshake under way.
    let handshakes = Arc::new(());
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                let Some(place) = doors.admit() else {
                    incoming.refuse();
                    continue;
                };
                if Arc::strong_count(&handshakes) > UNPROVEN && incoming.may_retry() {
                    // It comes again with a token.
                    let _ = incoming.retry();
                    continue;
                }
                match incoming.accept() {
                    Ok(connecting) => {
                        sessions.spawn(greet(connecting, handshakes.clone(), place, doors.clone()));
                    }
                    Err(error) => tracing::debug!(%error, "handshake"),
                }
            }
            Some(ended) = sessions.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a session's task failed");
                }
            }
            () = session::stopped(&mut stop) => break,
        }
    }
    // Sessions say goodbye by themselves; newcomers are turned away meanwhile.
    endpoint.set_server_config(None);
    while sessions.join_next().await.is_some() {}
    // Left are those that were refused as they came.
    endpoint.close(Code::SHUTTING_DOWN.0.into(), b"");
    endpoint.wait_idle().await;
}

async fn greet(connecting: quinn::Connecting, handshake: Arc<()>, place: Place, doors: Doors) {
    let mut stop = doors.stop();
    let established = tokio::select! {
        // In a box, which goes with it: the session's task has no room for what is past.
        established = Box::pin(timeout(HANDSHAKE, establish(connecting, &doors))) => established,
        () = session::stopped(&mut stop) => return,
    };
    drop(handshake);
    match established {
        Ok(Ok(link)) => doors.serve(link, place).await,
        Ok(Err(reason)) => tracing::debug!(reason, "handshake"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}

async fn establish(mut connecting: quinn::Connecting, doors: &Doors) -> Result<Link, String> {
    let data = connecting.handshake_data().await.map_err(|error| error.to_string())?;
    let protocol = data.downcast::<HandshakeData>().ok().and_then(|data| data.protocol);
    if protocol.as_deref() == Some(ALPN) {
        return connecting.await.map(Link::Quic).map_err(|error| error.to_string());
    }
    // rustls has already refused everything but h3.
    let request = IncomingSessionFuture::with_quic_connecting(connecting);
    let request = request.await.map_err(|error| error.to_string())?;
    let path = request.path();
    if path.split('?').next() != Some(PATH) {
        let reason = format!("WebTransport asked for {path}, the path is {PATH}");
        request.not_found().await;
        return Err(reason);
    }
    let asked = Asked::new(request.origin(), request.authority());
    if let Err(problem) = asked.and_then(|asked| doors.origins().check(&asked, false)) {
        tracing::info!(%problem, "WebTransport from a page that may not, or under another name");
        request.forbidden().await;
        return Err(problem.to_string());
    }
    let link = request.accept().await.map(Link::WebTransport).map_err(|error| error.to_string())?;
    link.allow_streams();
    Ok(link)
}
