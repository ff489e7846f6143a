//! Dialling: address, certificate, transport, hello.

use super::{Builder, Closed, ConnectError};
use crate::net::link::{Gone, Link, ReadError, Rx, Transport, Tx};
use crate::net::tls::{self, Complaint, Expect, Trust};
use crate::net::{socket, transport};
use crate::state;
use crate::wire::{
    ALPN, ClientFrame, Code, DaemonFrame, FrameReader, Limits, MAX_CONTROL_FRAME, PATH, PORT,
    Position, ProducerId, Refusal,
};
use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// From the first packet to the welcome.
const DIAL: Duration = Duration::from_secs(5);

/// Keeps the socket open for as long as the session.
pub(super) enum Endpoint {
    Quic(quinn::Endpoint),
    WebTransport(Box<wtransport::Endpoint<wtransport::endpoint::endpoint_side::Client>>),
}

impl Endpoint {
    /// Waits until the goodbye has been sent.
    pub(super) async fn wait_idle(&self) {
        match self {
            Self::Quic(endpoint) => endpoint.wait_idle().await,
            Self::WebTransport(endpoint) => endpoint.wait_idle().await,
        }
    }
}

/// A session that has been welcomed.
pub(super) struct Dialled {
    pub(super) endpoint: Endpoint,
    pub(super) link: Link,
    pub(super) tx: Tx,
    pub(super) rx: Rx,
    pub(super) reader: FrameReader,
    pub(super) session: u64,
    pub(super) limits: Limits,
    pub(super) begin: Position,
}

/// Dials each address of the server until one answers.
pub(super) async fn dial(builder: &Builder) -> Result<Dialled, ConnectError> {
    let server = &builder.server;
    let unknown = |reason: String| ConnectError::Address { server: server.clone(), reason };
    let (host, port) = split(server).ok_or_else(|| unknown("not an address".into()))?;
    let addresses = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<_> = addresses.map_err(|error| unknown(error.to_string()))?.collect();
    let mut last = unknown("no address".into());
    for address in addresses {
        match timeout(DIAL, dial_one(builder, host, address)).await {
            Ok(Ok(dialled)) => return Ok(dialled),
            // The same daemon at its other address would say the same.
            Ok(Err(error @ (ConnectError::Certificate { .. } | ConnectError::Refused { .. }))) => {
                return Err(error);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = ConnectError::NoAnswer { server: server.clone(), after: DIAL },
        }
    }
    Err(last)
}

// HOST, HOST:PORT, [V6], [V6]:PORT or a bare V6 address.
fn split(server: &str) -> Option<(&str, u16)> {
    if let Some(rest) = server.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, port.parse().ok()?)),
            None => rest.is_empty().then_some((host, PORT)),
        };
    }
    match server.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => Some((server, PORT)),
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((server, PORT)),
    }
    .filter(|(host, _)| !host.is_empty())
}

async fn dial_one(
    builder: &Builder,
    host: &str,
    address: SocketAddr,
) -> Result<Dialled, ConnectError> {
    let server = &builder.server;
    let expect = match &builder.trust {
        Trust::Auto if address.ip().is_loopback() => {
            let places = state::places(builder.state.as_deref());
            match state::local_hashes(&places) {
                hashes if hashes.is_empty() => return Err(ConnectError::NoCertificate { places }),
                hashes => Expect::Hashes(hashes),
            }
        }
        Trust::Auto | Trust::System => Expect::System,
        Trust::Authority(path) => Expect::Authority(path),
        Trust::Pinned(hash) => Expect::Hashes(vec![*hash]),
        Trust::Insecure => Expect::Anything,
    };
    let complaint = Complaint::default();
    let connected = tokio::select! {
        connected = connect(builder.transport, &expect, host, address, &complaint) => connected,
        () = refused(address) => {
            return Err(ConnectError::NotRunning { server: server.clone() });
        }
    };
    let gone = |gone: Gone| match (complaint.get(), gone.code) {
        (Some(reason), _) => {
            ConnectError::Certificate { server: server.clone(), reason: reason.clone() }
        }
        (None, Some(code)) => ConnectError::Refused {
            server: server.clone(),
            refusal: Refusal::new(code, gone.reason),
        },
        (None, None) => ConnectError::Transport { server: server.clone(), reason: gone.reason },
    };
    let (endpoint, link) = match connected {
        Ok(connected) => connected,
        Err(Failure::Gone(error)) => return Err(gone(error)),
        Err(Failure::Other(error)) => return Err(error),
    };
    greet(builder, endpoint, link).await.map_err(gone)
}

enum Failure {
    Gone(Gone),
    Other(ConnectError),
}

impl<E: Into<ConnectError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

async fn connect(
    kind: Transport,
    expect: &Expect<'_>,
    host: &str,
    address: SocketAddr,
    complaint: &Complaint,
) -> Result<(Endpoint, Link), Failure> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = socket::bind(local)?;
    match kind {
        Transport::Quic => {
            let crypto = tls::client(expect, ALPN, complaint)?;
            let crypto =
                QuicClientConfig::try_from(crypto).map_err(|_| tls::TlsError::NoInitialCipher)?;
            let mut config = quinn::ClientConfig::new(Arc::new(crypto));
            config.transport_config(Arc::new(transport::client()));
            let runtime = Arc::new(quinn::TokioRuntime);
            let endpoint =
                quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, runtime)?;
            let gone = |reason: String| Failure::Gone(Gone { code: None, reason });
            let connecting = endpoint
                .connect_with(config, address, host)
                .map_err(|error| gone(error.to_string()))?;
            let connection = connecting.await.map_err(|error| Failure::Gone(error.into()))?;
            Ok((Endpoint::Quic(endpoint), Link::Quic(connection)))
        }
        Transport::WebTransport => {
            let crypto = tls::client(expect, b"h3", complaint)?;
            let config = wtransport::ClientConfig::builder()
                .with_bind_socket(socket)
                .with_custom_tls_and_transport(crypto, transport::client());
            let endpoint = wtransport::Endpoint::client(config.build())?;
            // By name only where a name is checked.
            let authority = match expect {
                Expect::System | Expect::Authority(_)
                    if host.parse::<std::net::IpAddr>().is_err() =>
                {
                    format!("{host}:{}", address.port())
                }
                _ => address.to_string(),
            };
            let connected = endpoint.connect(format!("https://{authority}{PATH}")).await;
            let connection = connected
                .map_err(|error| Failure::Gone(Gone { code: None, reason: error.to_string() }))?;
            Ok((Endpoint::WebTransport(Box::new(endpoint)), Link::WebTransport(connection)))
        }
    }
}

// Comes back only when nothing listens at a loopback address: the system tells a connected
// socket, and would not tell QUIC's.
async fn refused(address: SocketAddr) {
    let probe = async {
        let socket = tokio::net::UdpSocket::bind((address.ip(), 0)).await?;
        socket.connect(address).await?;
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 1]).await
    };
    if address.ip().is_loopback()
        && let Err(error) = probe.await
        && error.kind() == std::io::ErrorKind::ConnectionRefused
    {
        return;
    }
    std::future::pending::<()>().await;
}

async fn greet(builder: &Builder, endpoint: Endpoint, link: Link) -> Result<Dialled, Gone> {
    let (mut tx, mut rx) = link.open_bi().await?;
    let hello = ClientFrame::Hello {
        version: crate::wire::VERSION,
        // Of this session alone: its numbers begin at 1.
        producer: ProducerId(rand::random()),
        token: builder.token.as_deref(),
        agent: concat!("weir-rust/", env!("CARGO_PKG_VERSION")),
    };
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    // If this does not get through, reading tells why.
    let _ = tx.write(&mut [bytes.into()]).await;
    let mut reader = FrameReader::new(MAX_CONTROL_FRAME);
    loop {
        let broken = |reason: String| Gone { code: None, reason };
        if let Some(frame) = reader.next_frame().map_err(|error| broken(error.to_string()))? {
            return match DaemonFrame::decode(&frame).map_err(|error| broken(error.to_string()))? {
                DaemonFrame::Welcome { session, run, limits, .. } => Ok(Dialled {
                    endpoint,
                    link,
                    tx,
                    rx,
                    reader,
                    session,
                    limits,
                    begin: Position { run, position: 0 },
                }),
                DaemonFrame::Goodbye { code, reason, .. } => {
                    Err(Gone { code: Some(code), reason: reason.into() })
                }
                _ => Err(broken("the daemon did not begin with a welcome".into())),
            };
        }
        let mut pieces = [Bytes::new()];
        match rx.read(&mut pieces).await {
            Ok(Some(_)) => reader.push(std::mem::take(&mut pieces[0])),
            Ok(None) | Err(ReadError::Reset) => return Err(link.closed().await),
            Err(ReadError::Gone(gone)) => return Err(gone),
        }
    }
}

/// As the client was closed by its own program.
pub(super) fn closed_here() -> Closed {
    Closed { code: Some(Code::DONE), reason: "closed by this client".into() }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn servers_are_written_in_the_usual_ways() {
        assert_eq!(split("localhost"), Some(("localhost", 4433)));
        assert_eq!(split("localhost:1"), Some(("localhost", 1)));
        assert_eq!(split("[::1]"), Some(("::1", 4433)));
        assert_eq!(split("[::1]:5"), Some(("::1", 5)));
        assert_eq!(split("::1"), Some(("::1", 4433)));
        for bad in ["", ":1", "a:b", "[::1", "[::1]x", "a:70000"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
