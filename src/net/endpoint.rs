//! The UDP endpoint: accepts connections, and tells protocols apart by ALPN (RFC 7301).

#[cfg(test)]
mod tests;

use super::bind::BindError;
use super::deadlines::{HANDSHAKE, LINGER};
use super::qlog::Recorder;
use super::quic::settings;
use super::session;
use super::session::list::Host;
use crate::access::addresses::Handshake;
use crate::access::limit_counts::Limit;
use crate::access::origin::RequestOrigin;
use crate::broker::admission::{Admission, SessionPermit};
use crate::broker::counters::HandshakeFailure;
use crate::broker::newcomers::displaced;
use crate::broker::stop::{Stage, draining, reached, stopped};
use crate::net::transport::connection::Connection;
use crate::tls;
use crate::tls::certificates::Certificates;
use crate::tls::reset_key::ResetKey;
use crate::wire::{ALPN, Code, PATH};
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{AsyncUdpSocket, ConnectionError, Runtime as _};
use quinn_proto::RandomConnectionIdGenerator;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::{JoinError, JoinSet, yield_now};
use tokio::time::{Instant, timeout, timeout_at};
use wtransport::endpoint::IncomingSessionFuture;

/// Number of concurrent handshakes beyond which a peer has to validate its address first (RFC 9000,
/// section 8.1.2). A flood from forged addresses then costs almost nothing.
const UNPROVEN: usize = 256;

/// Maximum number of first packets that wait for the daemon's decision, 4,096, and of the bytes that
/// follow them before it: 64 KiB each, 4 MiB in all. The daemon decides at once unless it is busy.
const INCOMING: usize = 4096;
const INCOMING_BYTES: u64 = 64 << 10;
const ALL_INCOMING_BYTES: u64 = 4 << 20;

/// Minimum time for the packets that close connections to leave, after all sessions have ended. A
/// busy machine needs it for thousands of connections. The peers already have their goodbyes, so it
/// only decides how soon they forget the connection.
const CLOSING: Duration = Duration::from_millis(250);

/// Minimum interval between two stateless resets. After a crash each client of the daemon before
/// needs one: a thousand a second. A reset is smaller than the packet that it answers, so neither
/// a flood nor a loop of resets grows.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// The reason for a client whose address has as many sessions as it may have.
const TOO_MANY: &str = "too many sessions from this address (limits.sessions_per_address)";

/// The UDP endpoint.
pub(crate) struct Endpoint {
    quic: quinn::Endpoint,
    // Tells whether the socket is still in use.
    socket: Weak<dyn AsyncUdpSocket>,
    // The next daemon gets the packets that this one does not answer.
    outlived: bool,
    // For a connection that is recorded, which has a configuration of its own.
    config: quinn::ServerConfig,
    recorder: Arc<Recorder>,
}

/// Opens the endpoint for both protocols on a bound socket.
pub(crate) fn open(
    socket: UdpSocket,
    certificates: Arc<Certificates>,
    reset_key: &ResetKey,
    recorder: Arc<Recorder>,
) -> Result<Endpoint, BindError> {
    let crypto = tls::server_over_udp(certificates)?;
    let crypto = QuicServerConfig::try_from(crypto).map_err(|_| tls::TlsError::NoInitialCipher)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(settings::daemon()))
        .max_incoming(INCOMING)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(ALL_INCOMING_BYTES);
    let runtime = Arc::new(quinn::TokioRuntime);
    let open = || {
        let socket = runtime.wrap_udp_socket(socket)?;
        let weak = Arc::downgrade(&socket);
        let mut endpoint = quinn::EndpointConfig::new(Arc::new(reset_key.hmac()));
        // By default quinn drops packets of connections that it did not number itself, and its
        // numbers repeat after some millions. With the key of the daemon before they must not.
        endpoint.cid_generator(|| Box::<RandomConnectionIdGenerator>::default());
        endpoint.min_reset_interval(RESET_INTERVAL);
        let (server, runtime) = (Some(config.clone()), runtime.clone());
        let quic = quinn::Endpoint::new_with_abstract_socket(endpoint, server, socket, runtime)?;
        Ok(Endpoint { quic, socket: weak, outlived: false, config, recorder })
    };
    open().map_err(|error| BindError::Endpoint { error })
}

impl Endpoint {
    /// Whether the socket outlives the daemon.
    pub(crate) fn outlived(self, outlived: bool) -> Self {
        Self { outlived, ..self }
    }

    // Begins a handshake.
    fn accept(&self, incoming: quinn::Incoming) -> Result<quinn::Connecting, ConnectionError> {
        let Some(record) = self.recorder.begin(&incoming) else { return incoming.accept() };
        let (mut config, mut transport) = (self.config.clone(), settings::daemon());
        transport.qlog_stream(Some(record));
        config.transport_config(Arc::new(transport));
        incoming.accept_with(Arc::new(config))
    }

    // Refuses a session, so that the peer learns at once that it has to connect elsewhere. If a daemon
    // follows, the peer gets no answer: it repeats its first packet, and that one answers.
    fn turn_away(&self, incoming: quinn::Incoming) {
        if self.outlived { incoming.ignore() } else { incoming.refuse() }
    }

    // Waits until the connections are gone, but not for the slowest. A closed connection stays for
    // three probe timeouts (RFC 9000, section 10.2), which may be a minute if its peer was
    // unresponsive. The port is free after this in any case.
    async fn close(&self, until: Instant) {
        let idle = async {
            if !self.outlived {
                self.quic.close(Code::SHUTTING_DOWN.0.into(), b"");
            }
            loop {
                tokio::select! {
                    // A closed endpoint would refuse new sessions by itself.
                    Some(incoming) = self.quic.accept(), if self.outlived => self.turn_away(incoming),
                    () = self.quic.wait_idle() => break,
                }
            }
        };
        if timeout_at(until, idle).await.is_ok() {
            return;
        }
        // After the first rebind, quinn still listens on the old socket.
        for _ in 0..2 {
            let another = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
            if let Err(error) = another.and_then(|another| self.quic.rebind(another)) {
                tracing::debug!(%error, "the port stays in use until all connections are gone");
                return;
            }
        }
        // Each connection releases the socket when it handles the rebind.
        let free = async {
            while self.socket.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout(CLOSING, free).await;
    }
}

/// Accepts connections until the daemon drains. Returns when it has stopped, and all sessions have
/// ended.
pub(crate) async fn run(endpoint: Endpoint, host: Host) {
    let admission = host.admission.clone();
    let mut sessions = JoinSet::new();
    let mut stage = admission.stage();
    // One clone for each concurrent handshake.
    let handshakes = Arc::new(());
    // A daemon that drains waits for a session that is admitted at that moment.
    let admitting = endpoint.outlived.then(|| admission.in_flight().begin());
    loop {
        tokio::select! {
            incoming = endpoint.quic.accept() => {
                let Some(incoming) = incoming else { break };
                let many = Arc::strong_count(&handshakes) > UNPROVEN;
                let Some((incoming, permit)) = decide(&admission, incoming, many) else { continue };
                let proven = incoming.remote_address_validated();
                match endpoint.accept(incoming) {
                    Ok(connecting) => {
                        let handshake = (connecting, proven, handshakes.clone());
                        sessions.spawn(greet(handshake, permit, host.clone(), endpoint.outlived));
                    }
                    Err(error) => {
                        host.failed(HandshakeFailure::Failed);
                        tracing::debug!(%error, "handshake");
                    }
                }
                // Its cryptography took 0.1 ms, under the lock of the endpoint. Packets of other
                // connections that have arrived meanwhile come before the next one.
                yield_now().await;
            }
            Some(ended) = sessions.join_next() => report(ended),
            () = draining(&mut stage) => break,
        }
    }
    drop(admitting);
    loop {
        tokio::select! {
            Some(incoming) = endpoint.quic.accept() => {
                host.failed(HandshakeFailure::Stopping);
                endpoint.turn_away(incoming);
            }
            Some(ended) = sessions.join_next() => report(ended),
            () = stopped(&mut stage) => break,
        }
    }
    let goodbyes = Instant::now() + LINGER;
    // Sessions say goodbye by themselves.
    if !endpoint.outlived {
        endpoint.quic.set_server_config(None);
    }
    while !sessions.is_empty() {
        tokio::select! {
            Some(incoming) = endpoint.quic.accept() => endpoint.turn_away(incoming),
            Some(ended) = sessions.join_next() => report(ended),
        }
    }
    // Only refused connections are left.
    endpoint.close(goodbyes.max(Instant::now() + CLOSING)).await;
}

// Decides about a first packet: the handshake goes on, the peer has to prove its address, or it is
// refused.
fn decide(
    admission: &Admission,
    incoming: quinn::Incoming,
    many: bool,
) -> Option<(quinn::Incoming, SessionPermit)> {
    let (address, proven) = (incoming.remote_address().ip(), incoming.remote_address_validated());
    let refused = || admission.broker().counters().handshake_failed(HandshakeFailure::Refused);
    let Some(mut permit) = admission.admit(address) else {
        refused();
        incoming.refuse();
        return None;
    };
    match admission.handshake(&mut permit, address, proven) {
        Handshake::Refuse => {
            refused();
            incoming.refuse();
            None
        }
        Handshake::Accept if proven || !many => Some((incoming, permit)),
        Handshake::Accept | Handshake::Prove => {
            admission.counts().add(Limit::Unproven);
            // The peer tries again with a token.
            let _ = incoming.retry();
            None
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a session's task failed");
    }
}

async fn greet(
    (connecting, proven, handshake): (quinn::Connecting, bool, Arc<()>),
    mut permit: SessionPermit,
    host: Host,
    outlived: bool,
) {
    let admission = &host.admission;
    let mut stage = admission.stage();
    // With a daemon that follows, a handshake goes on: the session begins, and is asked to leave.
    let end = if outlived { Stage::Stopping } else { Stage::Draining };
    let newcomer = permit.newcomer.take();
    let address = (!proven).then(|| connecting.remote_address().ip());
    let established = tokio::select! {
        // Boxed, so that its memory is freed before the session begins.
        established =
            Box::pin(timeout(HANDSHAKE, establish(connecting, admission, &mut permit, address))) =>
            established,
        () = displaced(newcomer.as_ref()) => return host.failed(HandshakeFailure::Displaced),
        () = reached(&mut stage, end) => return host.failed(HandshakeFailure::Stopping),
    };
    permit.newcomer = newcomer;
    drop(handshake);
    match established {
        Ok(Ok(connection)) => session::serve(&host, connection, permit).await,
        Ok(Err((why, reason))) => {
            host.failed(why);
            tracing::debug!(reason, "handshake");
        }
        Err(_) => {
            host.failed(HandshakeFailure::TimedOut);
            admission.counts().add(Limit::HandshakeTime);
            tracing::debug!("a handshake took too long");
        }
    }
}

// Completes a handshake. `unproven` is the address, if it has not been proven before.
async fn establish(
    mut connecting: quinn::Connecting,
    admission: &Admission,
    permit: &mut SessionPermit,
    unproven: Option<IpAddr>,
) -> Result<Connection, (HandshakeFailure, String)> {
    fn failed(error: impl std::fmt::Display) -> (HandshakeFailure, String) {
        (HandshakeFailure::Failed, error.to_string())
    }
    let mut prove = || unproven.map_or(Ok(()), |address| admission.prove(permit, address));
    let data = connecting.handshake_data().await.map_err(failed)?;
    let protocol = data.downcast::<HandshakeData>().ok().and_then(|data| data.protocol);
    if protocol.as_deref() == Some(ALPN) {
        let connection = connecting.await.map_err(failed)?;
        if prove().is_err() {
            connection.close(Code::RATE_LIMITED.0.into(), TOO_MANY.as_bytes());
            return Err((HandshakeFailure::Refused, TOO_MANY.into()));
        }
        return Ok(Connection::Quic(connection));
    }
    // rustls has already refused everything but h3.
    let request = IncomingSessionFuture::with_quic_connecting(connecting);
    let request = request.await.map_err(failed)?;
    if prove().is_err() {
        request.too_many_requests().await;
        return Err((HandshakeFailure::Refused, TOO_MANY.into()));
    }
    let path = request.path();
    if path.split('?').next() != Some(PATH) {
        let reason = format!("WebTransport request for {path}: the path is {PATH}");
        request.not_found().await;
        return Err((HandshakeFailure::Request, reason));
    }
    let origin = RequestOrigin::new(request.origin(), request.authority());
    if let Err(refusal) = origin.and_then(|origin| admission.origins().check(&origin, false)) {
        tracing::info!(%refusal, "WebTransport refused: the page's origin or the host name");
        request.forbidden().await;
        return Err((HandshakeFailure::Origin, refusal.to_string()));
    }
    let connection = request.accept().await.map(Connection::WebTransport).map_err(failed)?;
    connection.raise_stream_limit();
    Ok(connection)
}
