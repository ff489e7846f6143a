//! The certificates that a daemon presents, for those who look at them. Nothing is verified.

use super::connect::{addresses, malformed, split};
use super::dial::udp;
use super::error::ConnectError;
use crate::tls::{self, Complaint, Expect, TlsError};
use crate::wire::ALPN;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Maximum time of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A chain of certificates, the server's first.
pub(crate) type Chain = Vec<CertificateDer<'static>>;

/// Returns the certificates that a server presents over QUIC and over TCP, or why there are none.
pub(crate) async fn presented(server: &str) -> Result<[Result<Chain, String>; 2], ConnectError> {
    let (host, port) = split(server).ok_or_else(|| malformed(server))?;
    let addresses = addresses(server, host, port).await?;
    let quic = first(&addresses, |address| over_quic(host, address));
    let tcp = first(&addresses, |address| over_tcp(host, address));
    let (quic, tcp) = tokio::join!(quic, tcp);
    Ok([quic, tcp])
}

// Tries one address after the other.
async fn first<F: Future<Output = Result<Chain, String>>>(
    addresses: &[SocketAddr],
    look: impl Fn(SocketAddr) -> F,
) -> Result<Chain, String> {
    let mut last = Err("no address".into());
    for address in addresses {
        last = match timeout(HANDSHAKE, look(*address)).await {
            Ok(Ok(chain)) => return Ok(chain),
            Ok(error) => error,
            Err(_) => Err(format!("no answer from {address} within {HANDSHAKE:?}")),
        };
    }
    last
}

async fn over_quic(host: &str, address: SocketAddr) -> Result<Chain, String> {
    let crypto = tls::client(&Expect::Anything, ALPN, &Complaint::default(), None);
    let crypto = crypto.map_err(text)?;
    let crypto = QuicClientConfig::try_from(crypto).map_err(|_| text(TlsError::NoInitialCipher))?;
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let runtime = Arc::new(quinn::TokioRuntime);
    let socket = udp(address).map_err(text)?;
    let settings = quinn::EndpointConfig::default();
    let endpoint = quinn::Endpoint::new(settings, None, socket, runtime).map_err(text)?;
    let connecting = endpoint.connect_with(config, address, host).map_err(text)?;
    let connection = connecting.await.map_err(text)?;
    let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Chain>().ok());
    connection.close(crate::wire::Code::DONE.0.into(), b"");
    endpoint.wait_idle().await;
    chain.map(|chain| *chain).ok_or_else(|| "no certificate".into())
}

async fn over_tcp(host: &str, address: SocketAddr) -> Result<Chain, String> {
    let crypto = tls::client(&Expect::Anything, b"http/1.1", &Complaint::default(), None);
    let connector = TlsConnector::from(Arc::new(crypto.map_err(text)?));
    let tcp = TcpStream::connect(address).await.map_err(text)?;
    let name = ServerName::try_from(host.to_owned());
    let name = name.unwrap_or_else(|_| ServerName::from(address.ip()));
    let tls = connector.connect(name, tcp).await.map_err(text)?;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(chain.iter().map(|certificate| certificate.clone().into_owned()).collect())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
