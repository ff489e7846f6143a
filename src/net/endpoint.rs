//! The UDP endpoint: accepts connections, and tells protocols apart by ALPN (RFC 7301).

#[cfg(test)]
mod tests;

use super::bind::BindError;
use super::deadlines::{HANDSHAKE, LINGER};
use super::quic::settings;
use super::session;
use super::session::list::Host;
use crate::access::origin::RequestOrigin;
use crate::broker::admission::{Admission, SessionPermit};
use crate::broker::stop::{draining, stopped};
use crate::net::transport::connection::Connection;
use crate::tls;
use crate::tls::identity::Identities;
use crate::tls::reset_key::ResetKey;
use crate::wire::{ALPN, Code, PATH};
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{AsyncUdpSocket, Runtime as _};
use quinn_proto::RandomConnectionIdGenerator;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use wtransport::endpoint::IncomingSessionFuture;

/// Number of concurrent handshakes beyond which a peer has to validate its address first (RFC 9000,
/// section 8.1.2). A flood from forged addresses then costs almost nothing.
const UNPROVEN: usize = 256;

/// Minimum time for the packets that close connections to leave, after all sessions have ended. A
/// busy machine needs it for thousands of connections. The peers already have their goodbyes, so it
/// only decides how soon they forget the connection.
const CLOSING: Duration = Duration::from_millis(250);

/// Minimum interval between two stateless resets. After a crash each client of the daemon before
/// needs one: a thousand a second. A reset is smaller than the packet that it answers, so neither
/// a flood nor a loop of resets grows.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// The UDP endpoint.
pub(crate) struct Endpoint {
    quic: quinn::Endpoint,
    // Tells whether the socket is still in use.
    socket: Weak<dyn AsyncUdpSocket>,
}

/// Opens the endpoint for both protocols on a bound socket.
pub(crate) fn open(
    socket: UdpSocket,
    identities: Arc<Identities>,
    reset_key: &ResetKey,
) -> Result<Endpoint, BindError> {
    let crypto = tls::server(identities, &[b"h3", ALPN])?;
    let crypto = QuicServerConfig::try_from(crypto).map_err(|_| tls::TlsError::NoInitialCipher)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(settings::daemon()));
    let runtime = Arc::new(quinn::TokioRuntime);
    let open = || {
        let socket = runtime.wrap_udp_socket(socket)?;
        let weak = Arc::downgrade(&socket);
        let mut endpoint = quinn::EndpointConfig::new(Arc::new(reset_key.hmac()));
        // By default quinn drops packets of connections that it did not number itself, and its
        // numbers repeat after some millions. With the key of the daemon before they must not.
        endpoint.cid_generator(|| Box::<RandomConnectionIdGenerator>::default());
        endpoint.min_reset_interval(RESET_INTERVAL);
        let (config, runtime) = (Some(config), runtime.clone());
        let quic = quinn::Endpoint::new_with_abstract_socket(endpoint, config, socket, runtime)?;
        Ok(Endpoint { quic, socket: weak })
    };
    open().map_err(|error| BindError::Endpoint { error })
}

impl Endpoint {
    // Waits until the connections are gone, but not for the slowest. A closed connection stays for
    // three probe timeouts (RFC 9000, section 10.2), which may be a minute if its peer was
    // unresponsive. The port is free after this in any case.
    async fn close(&self, until: Instant) {
        self.quic.close(Code::SHUTTING_DOWN.0.into(), b"");
        if timeout_at(until, self.quic.wait_idle()).await.is_ok() {
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
    loop {
        tokio::select! {
            incoming = endpoint.quic.accept() => {
                let Some(incoming) = incoming else { break };
                let Some(permit) = admission.admit() else {
                    incoming.refuse();
                    continue;
                };
                if Arc::strong_count(&handshakes) > UNPROVEN && incoming.may_retry() {
                    // The peer tries again with a token.
                    let _ = incoming.retry();
                    continue;
                }
                match incoming.accept() {
                    Ok(connecting) => {
                        sessions.spawn(greet(connecting, handshakes.clone(), permit, host.clone()));
                    }
                    Err(error) => tracing::debug!(%error, "handshake"),
                }
            }
            Some(ended) = sessions.join_next() => report(ended),
            () = draining(&mut stage) => break,
        }
    }
    loop {
        tokio::select! {
            // The peer learns at once that it has to connect elsewhere.
            Some(incoming) = endpoint.quic.accept() => incoming.refuse(),
            Some(ended) = sessions.join_next() => report(ended),
            () = stopped(&mut stage) => break,
        }
    }
    let goodbyes = Instant::now() + LINGER;
    // Sessions say goodbye by themselves. Meanwhile new connections are refused.
    endpoint.quic.set_server_config(None);
    while sessions.join_next().await.is_some() {}
    // Only refused connections are left.
    endpoint.close(goodbyes.max(Instant::now() + CLOSING)).await;
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a session's task failed");
    }
}

async fn greet(
    connecting: quinn::Connecting,
    handshake: Arc<()>,
    permit: SessionPermit,
    host: Host,
) {
    let admission = &host.admission;
    let mut stage = admission.stage();
    let established = tokio::select! {
        // Boxed, so that its memory is freed before the session begins.
        established = Box::pin(timeout(HANDSHAKE, establish(connecting, admission))) => established,
        () = draining(&mut stage) => return,
    };
    drop(handshake);
    match established {
        Ok(Ok(connection)) => session::serve(&host, connection, permit).await,
        Ok(Err(reason)) => tracing::debug!(reason, "handshake"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}

async fn establish(
    mut connecting: quinn::Connecting,
    admission: &Admission,
) -> Result<Connection, String> {
    let data = connecting.handshake_data().await.map_err(|error| error.to_string())?;
    let protocol = data.downcast::<HandshakeData>().ok().and_then(|data| data.protocol);
    if protocol.as_deref() == Some(ALPN) {
        return connecting.await.map(Connection::Quic).map_err(|error| error.to_string());
    }
    // rustls has already refused everything but h3.
    let request = IncomingSessionFuture::with_quic_connecting(connecting);
    let request = request.await.map_err(|error| error.to_string())?;
    let path = request.path();
    if path.split('?').next() != Some(PATH) {
        let reason = format!("WebTransport request for {path}: the path is {PATH}");
        request.not_found().await;
        return Err(reason);
    }
    let origin = RequestOrigin::new(request.origin(), request.authority());
    if let Err(refusal) = origin.and_then(|origin| admission.origins().check(&origin, false)) {
        tracing::info!(%refusal, "WebTransport refused: the page's origin or the host name");
        request.forbidden().await;
        return Err(refusal.to_string());
    }
    let connection =
        request.accept().await.map(Connection::WebTransport).map_err(|error| error.to_string())?;
    connection.raise_stream_limit();
    Ok(connection)
}
