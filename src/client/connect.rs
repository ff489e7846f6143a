//! Connecting: addresses, the certificate, the choice of the transport, and the hello.

use super::builder::{Builder, TransportChoice};
use super::dial::{Endpoint, Failure, Target};
use super::error::ConnectError;
use super::session_state::SessionState;
use crate::net::error::{ConnectionLost, ReadError};
use crate::net::transport::Transport;
use crate::net::transport::connection::Connection;
use crate::net::transport::stream::{RecvStream, SendStream};
use crate::state;
use crate::tls::{self, ClientIdentity, Complaint, Expect, TlsError, Trust};
use crate::wire::{
    ClientFrame, DAEMON_FRAMES, DaemonFrame, FrameReader, MAX_CONTROL_FRAME, PORT, Position,
    ProducerId, Refusal,
};
use bytes::Bytes;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Maximum time from the first packet to the welcome.
const DIAL: Duration = Duration::from_secs(5);

/// How long the client tries raw QUIC alone before it tries WebSocket in parallel.
///
/// QUIC is preferred, because it has independent streams and datagrams, and a lost packet delays
/// only its own stream. QUIC answers within this time if UDP passes and the round-trip time is at most
/// a third of it. Networks that block UDP drop the packets without an error, so that a fallback
/// takes this long. RFC 8305 does the same for IPv6 and IPv4, with 250 ms.
const HEAD_START: Duration = Duration::from_secs(1);

/// The values that the attempts to open a session share.
#[derive(Clone, Copy)]
struct Dialler<'a> {
    builder: &'a Builder,
    producer: ProducerId,
    token: Option<&'a str>,
}

/// A session for which the daemon has sent its welcome, and its control stream.
pub(super) struct Established {
    pub(super) state: Arc<SessionState>,
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
    pub(super) reader: FrameReader,
}

/// Returns an error if the server's name is malformed, which no other attempt changes.
pub(super) fn check_server(builder: &Builder) -> Result<(), ConnectError> {
    split(&builder.server).map(drop).ok_or_else(|| malformed(&builder.server))
}

pub(crate) fn malformed(server: &str) -> ConnectError {
    ConnectError::Address { server: server.to_owned(), reason: "not an address".into() }
}

/// Opens a session of a producer: tries each of the server's addresses for at most 5 s.
pub(super) async fn dial(
    builder: &Builder,
    producer: ProducerId,
) -> Result<Established, ConnectError> {
    let token = builder.token.get().await?;
    let client = Dialler { builder, producer, token: token.as_deref() };
    let server = &builder.server;
    let (host, port) = split(server).ok_or_else(|| malformed(server))?;
    let reason = "no address".into();
    let mut last = ConnectError::Address { server: server.clone(), reason };
    for address in addresses(server, host, port).await? {
        let established = match builder.choice {
            TransportChoice::Only(transport) => {
                attempt(client, transport, host, address, Instant::now() + DIAL).await
            }
            TransportChoice::Auto => dial_either(client, host, address).await,
        };
        match established {
            // A final error would be the same at the daemon's other addresses.
            Err(error) if !is_final(&error) => last = error,
            done => return done,
        }
    }
    Err(last)
}

/// Resolves a server's name.
pub(crate) async fn addresses(
    server: &str,
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let found = tokio::net::lookup_host((host, port)).await;
    let unknown = |error: std::io::Error| {
        let reason = error.to_string();
        ConnectError::Address { server: server.to_owned(), reason }
    };
    Ok(found.map_err(unknown)?.collect())
}

// Returns whether the daemon itself caused the error, so that another attempt is of no use.
fn is_final(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Certificate { .. } | ConnectError::Refused { .. })
}

// Tries raw QUIC, and WebSocket too if QUIC fails or is slow. Returns the first session that the
// daemon welcomes.
async fn dial_either(
    client: Dialler<'_>,
    host: &str,
    address: SocketAddr,
) -> Result<Established, ConnectError> {
    let start = Instant::now();
    let quic = attempt(client, Transport::Quic, host, address, start + DIAL);
    tokio::pin!(quic);
    let mut quic_failed = match timeout(HEAD_START, &mut quic).await {
        Ok(Err(error)) if !is_final(&error) => Some(error),
        Ok(done) => return done,
        Err(_) => None,
    };
    let websocket = attempt(client, Transport::WebSocket, host, address, start + DIAL);
    tokio::pin!(websocket);
    let mut websocket_failed = None;
    loop {
        tokio::select! {
            done = &mut quic, if quic_failed.is_none() => match done {
                Err(error) if !is_final(&error) => quic_failed = Some(error),
                done => return done,
            },
            // An error of WebSocket is never final, because a proxy may have caused it.
            done = &mut websocket, if websocket_failed.is_none() => match done {
                Err(error) => websocket_failed = Some(error),
                Ok(established) => {
                    let why = quic_failed.map_or_else(
                        || format!("no answer within {HEAD_START:?}"),
                        |error| error.to_string(),
                    );
                    tracing::info!(server = client.builder.server, why, "WebSocket in place of raw QUIC");
                    return Ok(established);
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
        // These errors apply to both transports: nothing listens, or no packet was sent.
        (error @ ConnectError::NotRunning { .. }, ConnectError::NotRunning { .. })
        | (error @ (ConnectError::NoCertificate { .. } | ConnectError::Tls(_)), _) => error,
        (quic, websocket) => {
            ConnectError::Neither { quic: quic.into(), websocket: websocket.into() }
        }
    }
}

async fn attempt(
    client: Dialler<'_>,
    transport: Transport,
    host: &str,
    address: SocketAddr,
    deadline: Instant,
) -> Result<Established, ConnectError> {
    let after = deadline.saturating_duration_since(Instant::now());
    let established = timeout_at(deadline, dial_one(client, transport, host, address)).await;
    established.unwrap_or_else(|_| {
        Err(ConnectError::NoAnswer { server: client.builder.server.clone(), transport, after })
    })
}

// Splits HOST, HOST:PORT, [V6], [V6]:PORT or a bare V6 address into host and port.
pub(crate) fn split(server: &str) -> Option<(&str, u16)> {
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
    client: Dialler<'_>,
    transport: Transport,
    host: &str,
    address: SocketAddr,
) -> Result<Established, ConnectError> {
    let Dialler { builder, .. } = client;
    let server = &builder.server;
    let (expect, own) = &files(builder, address).await?;
    let complaint = &Complaint::default();
    let own = own.as_ref();
    let target = Target { transport, expect, own, host, address, complaint };
    let connected = tokio::select! {
        connected = target.connect() => connected,
        () = target.refused() => Err(Failure::NotRunning),
    };
    let failed = |lost: ConnectionLost| match (complaint.get(), lost.code) {
        (Some(reason), _) => {
            ConnectError::Certificate { server: server.clone(), reason: reason.clone() }
        }
        (None, Some(code)) => ConnectError::Refused {
            server: server.clone(),
            refusal: Refusal::new(code, lost.reason),
        },
        (None, None) => ConnectError::Transport { server: server.clone(), reason: lost.reason },
    };
    let (endpoint, connection) = connected.map_err(|failure| match failure {
        Failure::ConnectionLost(lost) => failed(lost),
        Failure::NotRunning => ConnectError::NotRunning { server: server.clone() },
        Failure::Other(error) => error,
    })?;
    greet(client, endpoint, connection).await.map_err(failed)
}

// Returns the requirements on the daemon's certificate.
fn expect(trust: Trust, state: Option<&Path>, address: SocketAddr) -> Result<Expect, ConnectError> {
    match trust {
        Trust::Auto if address.ip().is_loopback() => {
            let places = state::places(state);
            match tls::local_hashes(&places) {
                hashes if hashes.is_empty() => Err(ConnectError::NoCertificate { places }),
                hashes => Ok(Expect::Hashes(hashes.into_iter().collect())),
            }
        }
        Trust::Auto | Trust::System => Ok(Expect::system()?),
        Trust::Authority(path) => Ok(Expect::authority(&path)?),
        Trust::Pinned(hashes) => Ok(Expect::Hashes(hashes)),
        Trust::Insecure => Ok(Expect::Anything),
    }
}

// Returns the requirements on the daemon's certificate, and the client's own. Reads files on a thread
// for blocking calls. It reads them for each attempt, because they may have been renewed.
async fn files(
    builder: &Builder,
    address: SocketAddr,
) -> Result<(Expect, Option<ClientIdentity>), ConnectError> {
    let (trust, state) = (builder.trust.clone(), builder.state.clone());
    let own = builder.certificate.clone();
    let read = move || {
        let own = own.map(|[certificate, key]| ClientIdentity::read(&certificate, &key));
        let own = own.transpose().map_err(TlsError::from)?;
        Ok((expect(trust, state.as_deref(), address)?, own))
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down, and drops this future too.
            Err(_) => std::future::pending().await,
        },
    }
}

async fn greet(
    Dialler { producer, token, .. }: Dialler<'_>,
    endpoint: Endpoint,
    connection: Connection,
) -> Result<Established, ConnectionLost> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let hello = ClientFrame::Hello {
        version: crate::wire::VERSION,
        producer,
        token,
        agent: concat!("weir-rust/", env!("CARGO_PKG_VERSION")),
    };
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    ClientFrame::Knows { frames: DAEMON_FRAMES }.encode(&mut bytes);
    // If this fails, the read below returns the reason.
    let _ = send.write(&mut [bytes.into()]).await;
    let mut reader = FrameReader::new(MAX_CONTROL_FRAME);
    loop {
        let violation = |reason: String| ConnectionLost { code: None, reason };
        if let Some(frame) = reader.next_frame().map_err(|error| violation(error.to_string()))? {
            return match DaemonFrame::decode(&frame)
                .map_err(|error| violation(error.to_string()))?
            {
                DaemonFrame::Welcome { session, run, limits, .. } => {
                    let run_start = Position { run, position: 0 };
                    let carriage = (endpoint, connection);
                    let state = SessionState::new(carriage, session, limits, run_start);
                    Ok(Established { state: state.into(), send, receive, reader })
                }
                DaemonFrame::Goodbye { code, reason, .. } => {
                    Err(ConnectionLost { code: Some(code), reason: reason.into() })
                }
                _ => Err(violation("the daemon did not begin with a welcome".into())),
            };
        }
        let mut pieces = [Bytes::new()];
        match receive.read(&mut pieces).await {
            Ok(Some(_)) => reader.push(std::mem::take(&mut pieces[0])),
            Ok(None) | Err(ReadError::Reset) => return Err(connection.closed().await),
            Err(ReadError::Broken(refusal)) => return Err(violation(refusal.to_string())),
            Err(ReadError::ConnectionLost(lost)) => return Err(lost),
        }
    }
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
