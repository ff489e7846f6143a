//! The ways to verify a daemon's certificate, and a client's configuration.

use super::certificate_hash::{CertificateHash, CertificateHashes};
use super::pem::{CertificateError, ClientIdentity};
use super::provider::{clock, provider};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::sign::SingleCertAndKey;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// How a client verifies the daemon's certificate.
///
/// ```
/// use weir::{CertificateHash, Trust};
///
/// // `weir serve` prints the hash, and so does `weir cert show`.
/// let hash: CertificateHash = "ab".repeat(32).parse()?;
/// let pinned = Trust::Pinned(hash.into());
/// let authority = Trust::Authority("/etc/weir/authority.pem".into());
/// # Ok::<(), weir::CertificateHashError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Trust {
    /// On loopback, the certificate must have a hash that a daemon on this machine has written to a
    /// state directory. Without such a hash, connecting fails. For other addresses the same as
    /// [`System`](Self::System). This is the default.
    #[default]
    Auto,
    /// The certificate must be signed by an authority that the system trusts, and be for the host's
    /// name.
    System,
    /// The certificate must be signed by an authority in a PEM file, and be for the host's name.
    Authority(PathBuf),
    /// The certificate must have one of these hashes, and its name is not checked. For self-signed
    /// certificates: `Trust::Pinned(hash.into())`, or
    /// `Trust::Pinned(daemon.certificate_hashes().into())`. Without hashes, nothing is trusted.
    Pinned(CertificateHashes),
    /// The certificate is not verified. Anyone on the network path can read and change everything.
    /// For experiments only.
    Insecure,
}

/// Why a TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file of certificate authorities cannot be used.
    #[error("{path}: {reason}: give a PEM file with at least one certificate")]
    Authority {
        /// The file.
        path: PathBuf,
        /// The error in the file.
        reason: String,
    },
    /// The system has no certificate authorities.
    #[error(
        "no certificate authorities found on this system: name a file of them, or the certificate's hash"
    )]
    NoSystemAuthorities,
    /// An error of rustls.
    #[error("TLS: {0}")]
    Rustls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The certificate that this client shows, or its key, cannot be used.
    #[error(transparent)]
    Own(#[from] CertificateError),
    /// The certificate or key cannot be used for QUIC.
    #[error("TLS: no cipher suite that QUIC needs")]
    NoInitialCipher,
}

impl TlsError {
    /// Boxed, because the versions of rustls are no part of the public API.
    pub(super) fn rustls(error: rustls::Error) -> Self {
        Self::Rustls(error.into())
    }
}

/// Why a client rejected a certificate. The errors of QUIC and WebTransport do not contain it.
pub(crate) type Complaint = Arc<OnceLock<String>>;

/// [`Trust`], resolved for an address, with its files read.
#[derive(Debug, Clone)]
pub(crate) enum Expect {
    Authorities(Arc<WebPkiServerVerifier>),
    Hashes(CertificateHashes),
    Anything,
}

impl Expect {
    /// Reads the certificate authorities that the system trusts, which are many files.
    pub(crate) fn system() -> Result<Self, TlsError> {
        Self::authorities(system_roots()?)
    }

    /// Reads the certificate authorities in a PEM file.
    pub(crate) fn authority(path: &PathBuf) -> Result<Self, TlsError> {
        Self::authorities(roots_in(path)?)
    }

    fn authorities(roots: RootCertStore) -> Result<Self, TlsError> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        builder.build().map(Self::Authorities).map_err(|_| TlsError::NoSystemAuthorities)
    }
}

/// Returns a client's configuration for one application protocol. `own` is the certificate that the
/// client shows if it is asked for one.
pub(crate) fn client(
    expect: &Expect,
    alpn: &[u8],
    complaint: &Complaint,
    own: Option<&ClientIdentity>,
) -> Result<rustls::ClientConfig, TlsError> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let check = Check { expect: expect.clone(), algorithms, complaint: complaint.clone() };
    let config = rustls::ClientConfig::builder_with_details(provider, clock())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::rustls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(check));
    let mut config = match own {
        Some(own) => {
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.0.clone())))
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoSystemAuthorities) } else { Ok(roots) }
}

pub(super) fn roots_in(path: &PathBuf) -> Result<RootCertStore, TlsError> {
    let wrong = |reason: String| TlsError::Authority { path: path.clone(), reason };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("it has no certificate".into()));
    }
    Ok(roots)
}

// Verifies the certificate, and always that the daemon has its key.
#[derive(Debug)]
struct Check {
    expect: Expect,
    algorithms: WebPkiSupportedAlgorithms,
    complaint: Complaint,
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = match &self.expect {
            Expect::Authorities(verifier) => {
                verifier.verify_server_cert(certificate, intermediates, name, ocsp, now)
            }
            Expect::Hashes(hashes) => match CertificateHash::of(certificate) {
                hash if hashes.0.contains(&hash) => Ok(ServerCertVerified::assertion()),
                hash => {
                    let hashes = hashes.to_string().replace(',', " or ");
                    Err(rustls::Error::General(format!("its hash is {hash}, not {hashes}")))
                }
            },
            Expect::Anything => Ok(ServerCertVerified::assertion()),
        };
        if let Err(error) = &verified {
            let _ = self.complaint.set(match error {
                rustls::Error::General(reason) => reason.clone(),
                other => other.to_string(),
            });
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
