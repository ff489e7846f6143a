//! Connecting: address, certificate, which transport, hello.

use super::dial::{Failure, connect, refused};
use super::{Builder, ConnectError, SessionClosed, TransportChoice};
use crate::net::error::{ConnectionLost, ReadError};
use crate::net::transport::Transport;
use crate::net::transport::connection::Connection;
use crate::net::transport::stream::{RecvStream, SendStream};
use crate::state;
use crate::tls::{self, Complaint, Expect, Trust};
use crate::wire::{
    ClientFrame, Code, DaemonFrame, FrameReader, Limits, MAX_CONTROL_FRAME, PORT, Position,
    ProducerId, Refusal,
};
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// From the first packet to the welcome.
const DIAL: Duration = Duration::from_secs(5);

/// How long raw QUIC is tried alone before WebSocket is tried beside it. QUIC is the one to have:
/// streams of their own, no waiting behind what was lost, datagrams later. Where it works it has
/// answered by then, over a path of up to a third of this; where UDP is dropped, which nobody is
/// told, this is what it costs. RFC 8305 does the same between IPv6 and IPv4, with 250 ms.
const HEAD_START: Duration = Duration::from_secs(1);

/// Keeps the socket open for as long as the session.
pub(super) enum Endpoint {
    Quic(quinn::Endpoint),
    WebTransport(Box<wtransport::Endpoint<wtransport::endpoint::endpoint_side::Client>>),
    WebSocket,
}

impl Endpoint {
    /// Waits until the goodbye has been sent.
    pub(super) async fn wait_idle(&self) {
        match self {
            Self::Quic(endpoint) => endpoint.wait_idle().await,
            Self::WebTransport(endpoint) => endpoint.wait_idle().await,
            // The link waits.
            Self::WebSocket => {}
        }
    }
}

/// A session that has been welcomed.
pub(super) struct Established {
    pub(super) endpoint: Endpoint,
    pub(super) connection: Connection,
    pub(super) tx: SendStream,
    pub(super) rx: RecvStream,
    pub(super) reader: FrameReader,
    pub(super) session: u64,
    pub(super) limits: Limits,
    pub(super) begin: Position,
}

/// Dials each address of the server until one answers.
pub(super) async fn dial(builder: &Builder) -> Result<Established, ConnectError> {
    let server = &builder.server;
    let unknown = |reason: String| ConnectError::Address { server: server.clone(), reason };
    let (host, port) = split(server).ok_or_else(|| unknown("not an address".into()))?;
    let addresses = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<_> = addresses.map_err(|error| unknown(error.to_string()))?.collect();
    let mut last = unknown("no address".into());
    for address in addresses {
        let dialled = match builder.way {
            TransportChoice::Only(kind) => {
                attempt(builder, kind, host, address, Instant::now() + DIAL).await
            }
            TransportChoice::Auto => dial_either(builder, host, address).await,
        };
        match dialled {
            // The same daemon at its other address would say the same.
            Err(error) if !is_last_word(&error) => last = error,
            done => return done,
        }
    }
    Err(last)
}

// The daemon has spoken: there is no use in asking it in another way.
fn is_last_word(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Certificate { .. } | ConnectError::Refused { .. })
}

// Raw QUIC, and WebSocket too if that fails or is slow to answer; whichever is welcomed first.
async fn dial_either(
    builder: &Builder,
    host: &str,
    address: SocketAddr,
) -> Result<Established, ConnectError> {
    let start = Instant::now();
    let quic = attempt(builder, Transport::Quic, host, address, start + DIAL);
    tokio::pin!(quic);
    let mut quic_failed = match timeout(HEAD_START, &mut quic).await {
        Ok(Err(error)) if !is_last_word(&error) => Some(error),
        Ok(done) => return done,
        Err(_) => None,
    };
    let websocket = attempt(builder, Transport::WebSocket, host, address, start + DIAL);
    tokio::pin!(websocket);
    let mut websocket_failed = None;
    loop {
        tokio::select! {
            done = &mut quic, if quic_failed.is_none() => match done {
                Err(error) if !is_last_word(&error) => quic_failed = Some(error),
                done => return done,
            },
            // Nothing that goes wrong here is the last word: what stands between may be at fault.
            done = &mut websocket, if websocket_failed.is_none() => match done {
                Err(error) => websocket_failed = Some(error),
                Ok(dialled) => {
                    let why = quic_failed.map_or_else(
                        || format!("no answer within {HEAD_START:?}"),
                        |error| error.to_string(),
                    );
                    tracing::info!(server = builder.server, why, "WebSocket in place of raw QUIC");
                    return Ok(dialled);
                }
            },
        }
        (quic_failed, websocket_failed) = match (quic_failed, websocket_failed) {
            (Some(quic), Some(websocket)) => return Err(neither(quic, websocket)),
            one => one,
        };
    }
}

fn neither(quic: ConnectError, websocket: ConnectError) -> ConnectError {
    match (quic, websocket) {
        // Nothing there, or found before anything was sent: the same for both.
        (error @ ConnectError::NotRunning { .. }, ConnectError::NotRunning { .. })
        | (error @ (ConnectError::NoCertificate { .. } | ConnectError::Tls(_)), _) => error,
        (quic, websocket) => {
            ConnectError::Neither { quic: quic.into(), websocket: websocket.into() }
        }
    }
}

async fn attempt(
    builder: &Builder,
    kind: Transport,
    host: &str,
    address: SocketAddr,
    deadline: Instant,
) -> Result<Established, ConnectError> {
    let after = deadline.saturating_duration_since(Instant::now());
    let dialled = timeout_at(deadline, dial_one(builder, kind, host, address)).await;
    dialled.unwrap_or_else(|_| {
        Err(ConnectError::NoAnswer { server: builder.server.clone(), transport: kind, after })
    })
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
    kind: Transport,
    host: &str,
    address: SocketAddr,
) -> Result<Established, ConnectError> {
    let server = &builder.server;
    let expect = expect(builder, address).await?;
    let complaint = Complaint::default();
    let connected = tokio::select! {
        connected = connect(kind, &expect, host, address, &complaint) => connected,
        () = refused(kind, address) => {
            return Err(ConnectError::NotRunning { server: server.clone() });
        }
    };
    let gone = |gone: ConnectionLost| match (complaint.get(), gone.code) {
        (Some(reason), _) => {
            ConnectError::Certificate { server: server.clone(), reason: reason.clone() }
        }
        (None, Some(code)) => ConnectError::Refused {
            server: server.clone(),
            refusal: Refusal::new(code, gone.reason),
        },
        (None, None) => ConnectError::Transport { server: server.clone(), reason: gone.reason },
    };
    let (endpoint, connection) = match connected {
        Ok(connected) => connected,
        Err(Failure::ConnectionLost(error)) => return Err(gone(error)),
        Err(Failure::Other(error)) => return Err(error),
        Err(Failure::NotRunning) => {
            return Err(ConnectError::NotRunning { server: server.clone() });
        }
    };
    greet(builder, endpoint, connection).await.map_err(gone)
}

// What the daemon's certificate has to be. Files are read on a thread for that: others go on.
async fn expect(builder: &Builder, address: SocketAddr) -> Result<Expect, ConnectError> {
    let (trust, state) = (builder.trust.clone(), builder.state.clone());
    let read = move || match trust {
        Trust::Auto if address.ip().is_loopback() => {
            let places = state::places(state.as_deref());
            match tls::local_hashes(&places) {
                hashes if hashes.is_empty() => Err(ConnectError::NoCertificate { places }),
                hashes => Ok(Expect::Hashes(hashes.into_iter().collect())),
            }
        }
        Trust::Auto | Trust::System => Ok(Expect::system()?),
        Trust::Authority(path) => Ok(Expect::authority(&path)?),
        Trust::Pinned(hashes) => Ok(Expect::Hashes(hashes)),
        Trust::Insecure => Ok(Expect::Anything),
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(expect) => expect,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

async fn greet(
    builder: &Builder,
    endpoint: Endpoint,
    connection: Connection,
) -> Result<Established, ConnectionLost> {
    let (mut tx, mut rx) = connection.open_bi().await?;
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
        let broken = |reason: String| ConnectionLost { code: None, reason };
        if let Some(frame) = reader.next_frame().map_err(|error| broken(error.to_string()))? {
            return match DaemonFrame::decode(&frame).map_err(|error| broken(error.to_string()))? {
                DaemonFrame::Welcome { session, run, limits, .. } => Ok(Established {
                    endpoint,
                    connection,
                    tx,
                    rx,
                    reader,
                    session,
                    limits,
                    begin: Position { run, position: 0 },
                }),
                DaemonFrame::Goodbye { code, reason, .. } => {
                    Err(ConnectionLost { code: Some(code), reason: reason.into() })
                }
                _ => Err(broken("the daemon did not begin with a welcome".into())),
            };
        }
        let mut pieces = [Bytes::new()];
        match rx.read(&mut pieces).await {
            Ok(Some(_)) => reader.push(std::mem::take(&mut pieces[0])),
            Ok(None) | Err(ReadError::Reset) => return Err(connection.closed().await),
            Err(ReadError::Broken(refusal)) => return Err(broken(refusal.to_string())),
            Err(ReadError::ConnectionLost(gone)) => return Err(gone),
        }
    }
}

/// As the client was closed by its own program.
pub(super) fn closed_here() -> SessionClosed {
    SessionClosed { code: Some(Code::DONE), reason: "closed by this client".into() }
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
