//! One UDP port: accepting connections, and the split by ALPN (RFC 7301).

use super::core::Core;
use super::identity::Identity;
use super::link::Link;
use super::{session, socket, tls, transport};
use crate::wire::{ALPN, PATH};
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use wtransport::endpoint::IncomingSessionFuture;

/// From the first packet to an established session.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes under way beyond which a peer has to prove its address first (RFC 9000, section
/// 8.1.2): a flood from forged addresses then costs next to nothing.
const UNPROVEN: usize = 256;

/// Binds the port.
pub(crate) fn bind(address: SocketAddr, identity: Identity) -> Result<quinn::Endpoint, BindError> {
    let at = |error| BindError::Address { address, error };
    let mut socket = socket::bind(address);
    if address.ip() == Ipv6Addr::UNSPECIFIED
        && let Err(error) = &socket
        && !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
    {
        tracing::warn!(%error, "no IPv6 on this machine: listening on IPv4 only");
        socket = socket::bind((Ipv4Addr::UNSPECIFIED, address.port()).into());
    }
    let socket = socket.map_err(at)?;
    socket::report(&socket);
    let crypto = tls::server(identity.chain, identity.key)?;
    let crypto = QuicServerConfig::try_from(crypto).map_err(|_| tls::TlsError::NoInitialCipher)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport::daemon()));
    let runtime = Arc::new(quinn::TokioRuntime);
    quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime)
        .map_err(at)
}

/// Why the daemon could not take its port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address.
    #[error("{}", address_error(*address, error))]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
}

fn address_error(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "UDP {address} is taken: another daemon may be running; stop it, or choose another \
             port (--listen {}:{})",
            match address.ip() {
                std::net::IpAddr::V4(ip) => ip.to_string(),
                std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            },
            address.port().wrapping_add(1).max(1024)
        ),
        io::ErrorKind::PermissionDenied if (1..1024).contains(&address.port()) => {
            format!("UDP {address} needs privileges: choose a port above 1023 (--listen)")
        }
        _ => format!("UDP {address}: {error}: choose another address (--listen)"),
    }
}

/// Accepts until told to stop, and returns when every session has ended.
pub(crate) async fn run(
    endpoint: quinn::Endpoint,
    core: Arc<Core>,
    most: usize,
    mut stop: watch::Receiver<bool>,
) {
    let mut sessions = JoinSet::new();
    let stopping = stop.clone();
    // One clone for each handshake under way.
    let handshakes = Arc::new(());
    let mut full = false;
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                if sessions.len() >= most {
                    if !std::mem::replace(&mut full, true) {
                        tracing::warn!(most, "no more sessions (limits.sessions): refusing");
                    }
                    incoming.refuse();
                    continue;
                }
                full = false;
                if Arc::strong_count(&handshakes) > UNPROVEN && incoming.may_retry() {
                    // It comes again with a token.
                    let _ = incoming.retry();
                    continue;
                }
                match incoming.accept() {
                    Ok(connecting) => {
                        let (core, stop) = (core.clone(), stopping.clone());
                        sessions.spawn(greet(connecting, handshakes.clone(), core, stop));
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
    endpoint.wait_idle().await;
}

async fn greet(
    connecting: quinn::Connecting,
    handshake: Arc<()>,
    core: Arc<Core>,
    mut stop: watch::Receiver<bool>,
) {
    let established = tokio::select! {
        established = timeout(HANDSHAKE, establish(connecting)) => established,
        () = session::stopped(&mut stop) => return,
    };
    drop(handshake);
    match established {
        Ok(Ok(link)) => session::serve(core, link, stop).await,
        Ok(Err(reason)) => tracing::debug!(reason, "handshake"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}

async fn establish(mut connecting: quinn::Connecting) -> Result<Link, String> {
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
    request.accept().await.map(Link::WebTransport).map_err(|error| error.to_string())
}
