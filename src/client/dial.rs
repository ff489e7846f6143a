//! Dialling: connects to one address over one transport, up to the point where frames can be sent.

use super::error::ConnectError;
use crate::net::error::ConnectionLost;
use crate::net::quic::{settings, socket};
use crate::net::transport::Transport;
use crate::net::transport::connection::Connection;
use crate::net::websocket;
use crate::tls::{self, ClientIdentity, Complaint, Expect};
use crate::wire::{ALPN, Code, PATH};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::ServerName;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::{self, http};

/// Why no connection was made.
pub(super) enum Failure {
    /// The connection was refused, or was lost.
    ConnectionLost(ConnectionLost),
    /// Nothing listens at the address.
    NotRunning,
    /// Another error.
    Other(ConnectError),
}

impl<E: Into<ConnectError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Keeps the socket open for as long as the session.
pub(super) enum Endpoint {
    Quic(quinn::Endpoint),
    WebTransport(Box<wtransport::Endpoint<wtransport::endpoint::endpoint_side::Client>>),
    WebSocket,
}

impl Endpoint {
    /// Waits until the goodbye was sent.
    pub(super) async fn wait_idle(&self) {
        match self {
            Self::Quic(endpoint) => endpoint.wait_idle().await,
            Self::WebTransport(endpoint) => endpoint.wait_idle().await,
            // Its connection waits itself.
            Self::WebSocket => {}
        }
    }
}

/// The address to connect to, and how.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) transport: Transport,
    pub(super) expect: &'a Expect,
    /// The certificate that the client shows over raw QUIC.
    pub(super) own: Option<&'a ClientIdentity>,
    pub(super) host: &'a str,
    pub(super) address: SocketAddr,
    /// Receives the reason if the certificate is not trusted.
    pub(super) complaint: &'a Complaint,
}

impl Target<'_> {
    /// Connects, up to the point where frames can be sent.
    pub(super) async fn connect(&self) -> Result<(Endpoint, Connection), Failure> {
        match self.transport {
            Transport::Quic => self.quic().await,
            Transport::WebTransport => self.web_transport().await,
            Transport::WebSocket => self.web_socket().await,
        }
    }

    /// Returns only if no socket is bound to a loopback address. The system reports that to a
    /// connected UDP socket, but not to QUIC's socket, which is not connected.
    pub(super) async fn refused(&self) {
        let probe = async {
            let socket = tokio::net::UdpSocket::bind((self.address.ip(), 0)).await?;
            socket.connect(self.address).await?;
            socket.send(&[0]).await?;
            socket.recv(&mut [0; 1]).await
        };
        if self.transport != Transport::WebSocket
            && self.address.ip().is_loopback()
            && let Err(error) = probe.await
            && error.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    async fn quic(&self) -> Result<(Endpoint, Connection), Failure> {
        let Self { expect, own, host, address, complaint, .. } = *self;
        let crypto = tls::client(expect, ALPN, complaint, own)?;
        let crypto =
            QuicClientConfig::try_from(crypto).map_err(|_| tls::TlsError::NoInitialCipher)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(settings::client()));
        let runtime = Arc::new(quinn::TokioRuntime);
        // The socket has only one connection. Connection ids of length 0 are enough, which saves 8
        // bytes in each packet (RFC 9000, section 5.1).
        let mut endpoint = quinn::EndpointConfig::default();
        endpoint.cid_generator(|| Box::new(quinn_proto::RandomConnectionIdGenerator::new(0)));
        let socket = udp(address).map_err(ConnectError::Socket)?;
        let endpoint = quinn::Endpoint::new(endpoint, None, socket, runtime);
        let endpoint = endpoint.map_err(ConnectError::Socket)?;
        let connecting = endpoint.connect_with(config, address, host).map_err(lost)?;
        let connection = connecting.await.map_err(|error| Failure::ConnectionLost(error.into()))?;
        Ok((Endpoint::Quic(endpoint), Connection::Quic(connection)))
    }

    async fn web_transport(&self) -> Result<(Endpoint, Connection), Failure> {
        let Self { expect, host, address, complaint, .. } = *self;
        let crypto = tls::client(expect, b"h3", complaint, None)?;
        let config = wtransport::ClientConfig::builder()
            .with_bind_socket(udp(address).map_err(ConnectError::Socket)?)
            .with_custom_tls_and_transport(crypto, settings::client());
        let endpoint =
            wtransport::Endpoint::client(config.build()).map_err(ConnectError::Socket)?;
        // The library resolves a name once more, so that a name is used only if it is verified.
        let authority = match expect {
            Expect::Authorities(_) if host.parse::<IpAddr>().is_err() => {
                format!("{host}:{}", address.port())
            }
            _ => address.to_string(),
        };
        let connected = endpoint.connect(format!("https://{authority}{PATH}")).await;
        let connection = connected.map_err(lost)?;
        Ok((Endpoint::WebTransport(Box::new(endpoint)), Connection::WebTransport(connection)))
    }

    async fn web_socket(&self) -> Result<(Endpoint, Connection), Failure> {
        let Self { expect, host, address, complaint, .. } = *self;
        let crypto = tls::client(expect, b"http/1.1", complaint, None)?;
        let tcp = TcpStream::connect(address).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Failure::NotRunning,
            _ => lost(format!("connecting over TCP: {error}")),
        })?;
        // Without this, small messages would wait for the acknowledgement of earlier ones.
        tcp.set_nodelay(true).map_err(lost)?;
        // An IPv6 address with a zone id is not a valid server name. The address without the zone is
        // verified instead.
        let name = ServerName::try_from(host.to_owned());
        let name = name.unwrap_or_else(|_| ServerName::from(address.ip()));
        let tls = TlsConnector::from(Arc::new(crypto)).connect(name, tcp).await.map_err(lost)?;
        let (left, right) = if host.contains(':') { ("[", "]") } else { ("", "") };
        let url = format!("wss://{left}{host}{right}:{}{PATH}", address.port());
        let io: Box<dyn websocket::Io> = Box::new(tls);
        let config = Some(websocket::dialled_config());
        let upgraded = tokio_tungstenite::client_async_with_config(url, io, config).await;
        let (socket, _) = upgraded.map_err(|error| match error {
            tungstenite::Error::Http(response) => Failure::ConnectionLost(not_upgraded(&response)),
            other => lost(format!("asking for a WebSocket: {other}")),
        })?;
        Ok((Endpoint::WebSocket, Connection::WebSocket(websocket::dialled(socket, address))))
    }
}

pub(super) fn udp(address: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    socket::bind(match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    })
}

fn lost(reason: impl Display) -> Failure {
    Failure::ConnectionLost(ConnectionLost { code: None, reason: reason.to_string() })
}

// Maps an HTTP status, with which the daemon refuses a WebSocket, to the error of a session.
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
            "the daemon is addressed by a name that is not in its http.names".into(),
        ),
        429 => (Some(Code::RATE_LIMITED), "too many sessions from here".into()),
        503 => (Some(Code::OVERLOADED), "the daemon takes no more sessions".into()),
        _ => (None, "no WebSocket".into()),
    };
    ConnectionLost { code, reason: format!("{what} (HTTP {status}{says})") }
}
