//! Dialling: one address, one transport, up to where the frames begin.

use super::ConnectError;
use super::connect::Endpoint;
use crate::net::error::ConnectionLost;
use crate::net::quic::{settings, socket};
use crate::net::transport::Transport;
use crate::net::transport::connection::Connection;
use crate::net::websocket;
use crate::tls::{self, Complaint, Expect};
use crate::wire::{ALPN, Code, PATH};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::ServerName;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::{self, http};

/// Why there is no connection.
pub(super) enum Failure {
    /// It broke, or was refused.
    ConnectionLost(ConnectionLost),
    /// Nothing listens.
    NotRunning,
    /// Something else.
    Other(ConnectError),
}

impl<E: Into<ConnectError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Connects, up to where the frames begin.
pub(super) async fn connect(
    kind: Transport,
    expect: &Expect,
    host: &str,
    address: SocketAddr,
    complaint: &Complaint,
) -> Result<(Endpoint, Connection), Failure> {
    match kind {
        Transport::Quic => quic(expect, host, address, complaint).await,
        Transport::WebTransport => web_transport(expect, host, address, complaint).await,
        Transport::WebSocket => web_socket(expect, host, address, complaint).await,
    }
}

fn udp(address: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    socket::bind(match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    })
}

fn gone(reason: impl Display) -> Failure {
    Failure::ConnectionLost(ConnectionLost { code: None, reason: reason.to_string() })
}

async fn quic(
    expect: &Expect,
    host: &str,
    address: SocketAddr,
    complaint: &Complaint,
) -> Result<(Endpoint, Connection), Failure> {
    let crypto = tls::client(expect, ALPN, complaint)?;
    let crypto = QuicClientConfig::try_from(crypto).map_err(|_| tls::TlsError::NoInitialCipher)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(settings::client()));
    let runtime = Arc::new(quinn::TokioRuntime);
    // One connection has the socket for itself: packets need not say which one they are for, which
    // saves 8 bytes of each (RFC 9000, section 5.1).
    let mut endpoint = quinn::EndpointConfig::default();
    endpoint.cid_generator(|| Box::new(quinn_proto::RandomConnectionIdGenerator::new(0)));
    let endpoint = quinn::Endpoint::new(endpoint, None, udp(address)?, runtime)?;
    let connecting = endpoint.connect_with(config, address, host).map_err(gone)?;
    let connection = connecting.await.map_err(|error| Failure::ConnectionLost(error.into()))?;
    Ok((Endpoint::Quic(endpoint), Connection::Quic(connection)))
}

async fn web_transport(
    expect: &Expect,
    host: &str,
    address: SocketAddr,
    complaint: &Complaint,
) -> Result<(Endpoint, Connection), Failure> {
    let crypto = tls::client(expect, b"h3", complaint)?;
    let config = wtransport::ClientConfig::builder()
        .with_bind_socket(udp(address)?)
        .with_custom_tls_and_transport(crypto, settings::client());
    let endpoint = wtransport::Endpoint::client(config.build())?;
    // By name only where a name is checked: it is looked up once more.
    let authority = match expect {
        Expect::Authorities(_) if host.parse::<IpAddr>().is_err() => {
            format!("{host}:{}", address.port())
        }
        _ => address.to_string(),
    };
    let connected = endpoint.connect(format!("https://{authority}{PATH}")).await;
    let connection = connected.map_err(gone)?;
    Ok((Endpoint::WebTransport(Box::new(endpoint)), Connection::WebTransport(connection)))
}

async fn web_socket(
    expect: &Expect,
    host: &str,
    address: SocketAddr,
    complaint: &Complaint,
) -> Result<(Endpoint, Connection), Failure> {
    let crypto = tls::client(expect, b"http/1.1", complaint)?;
    let tcp = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => Failure::NotRunning,
        _ => gone(format!("connecting over TCP: {error}")),
    })?;
    // Small messages do not wait for one another.
    tcp.set_nodelay(true).map_err(gone)?;
    // What is no name, such as an address with a zone, is not checked as one either.
    let name = ServerName::try_from(host.to_owned());
    let name = name.unwrap_or_else(|_| ServerName::from(address.ip()));
    let tls = TlsConnector::from(Arc::new(crypto)).connect(name, tcp).await.map_err(gone)?;
    let (left, right) = if host.contains(':') { ("[", "]") } else { ("", "") };
    let url = format!("wss://{left}{host}{right}:{}{PATH}", address.port());
    let io: Box<dyn websocket::Io> = Box::new(tls);
    let config = Some(websocket::dialled_config());
    let upgraded = tokio_tungstenite::client_async_with_config(url, io, config).await;
    let (socket, _) = upgraded.map_err(|error| match error {
        tungstenite::Error::Http(response) => Failure::ConnectionLost(not_upgraded(&response)),
        other => gone(format!("asking for a WebSocket: {other}")),
    })?;
    Ok((Endpoint::WebSocket, Connection::WebSocket(websocket::dialled(socket, address))))
}

// HTTP's way to refuse a session.
fn not_upgraded(response: &http::Response<Option<Vec<u8>>>) -> ConnectionLost {
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(&body[..body.len().min(200)]);
    let says = body.lines().next().filter(|line| !line.is_empty());
    let says = says.map_or_else(String::new, |line| format!(", it says: {line}"));
    let (code, what) = match status.as_u16() {
        404 => (None, format!("there is no WebSocket at {PATH}: is this a daemon's port?")),
        403 => (Some(Code::FORBIDDEN), "the daemon does not let this client in".into()),
        421 => (
            Some(Code::FORBIDDEN),
            "the daemon is asked under a name that is not in its http.names".into(),
        ),
        429 => (Some(Code::RATE_LIMITED), "too many sessions from here".into()),
        503 => (Some(Code::OVERLOADED), "the daemon takes no more sessions".into()),
        _ => (None, "no WebSocket".into()),
    };
    ConnectionLost { code, reason: format!("{what} (HTTP {status}{says})") }
}

/// Comes back only when nothing listens at a loopback address: the system tells a connected
/// socket, and would not tell QUIC's.
pub(super) async fn refused(kind: Transport, address: SocketAddr) {
    let probe = async {
        let socket = tokio::net::UdpSocket::bind((address.ip(), 0)).await?;
        socket.connect(address).await?;
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 1]).await
    };
    if kind != Transport::WebSocket
        && address.ip().is_loopback()
        && let Err(error) = probe.await
        && error.kind() == std::io::ErrorKind::ConnectionRefused
    {
        return;
    }
    std::future::pending::<()>().await;
}
