//! The daemon's TLS configurations.

use super::acme::ACME_TLS;
use super::certificates::Certificates;
use super::client_authorities::Noting;
use super::provider::{clock, provider};
use super::trust::TlsError;
use std::sync::Arc;

/// Returns the daemon's configuration for UDP: for browsers, and for native peers, which may show
/// certificates of their own.
pub(crate) fn server_over_udp(
    certificates: Arc<Certificates>,
) -> Result<rustls::ServerConfig, TlsError> {
    let protocols = [b"h3", crate::wire::ALPN];
    let Some(clients) = certificates.clients() else {
        return server(certificates, &protocols);
    };
    let mut config = rustls::ServerConfig::builder_with_details(provider(), clock())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::rustls)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(Noting(certificates)));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // A session that is resumed would keep the name of a certificate that is no longer accepted.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Returns the daemon's configuration for HTTPS over TCP, and for challenges of an authority.
pub(crate) fn server_over_tcp(
    certificates: Arc<Certificates>,
) -> Result<rustls::ServerConfig, TlsError> {
    let mut protocols = vec![&b"h2"[..], b"http/1.1"];
    if certificates.has_tls_challenges() {
        protocols.push(ACME_TLS);
    }
    server(certificates, &protocols)
}

// Returns a configuration without client certificates.
fn server(
    certificates: Arc<Certificates>,
    protocols: &[&[u8]],
) -> Result<rustls::ServerConfig, TlsError> {
    let mut config = rustls::ServerConfig::builder_with_details(provider(), clock())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::rustls)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}
