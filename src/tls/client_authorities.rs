//! Certificates of native clients (mutual TLS): verified when offered, over raw QUIC only.
//!
//! Browsers would ask their users for a certificate. So the daemon requests one only in handshakes
//! for `weir/1` (RFC 7301), never for `h3` and never over TCP.

use super::info;
use super::pem::{self, CertificateError, CertificateProblem};
use super::provider::provider;
use super::watched::{Look, Watched};
use crate::wire::ALPN;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The authorities whose client certificates are accepted.
#[derive(Debug)]
pub(crate) struct ClientAuthorities {
    // Read for each certificate that is offered, written when the file changes.
    verifier: RwLock<Arc<dyn ClientCertVerifier>>,
    file: Mutex<Watched<1>>,
}

impl ClientAuthorities {
    /// Reads the authorities from a PEM file.
    pub(super) fn open(path: PathBuf) -> Result<Self, CertificateError> {
        let file = Watched::new([path]);
        let verifier = RwLock::new(read(&file.paths()[0])?);
        Ok(Self { verifier, file: Mutex::new(file) })
    }

    /// Reads the file again if it has changed, or always. Returns whether it was read.
    pub(super) fn reload(&self, always: bool) -> Result<bool, CertificateError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (look, seen) = file.look();
        if look == Look::Unchanged && !always {
            return Ok(false);
        }
        match read(&file.paths()[0]) {
            Ok(verifier) => {
                *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = verifier;
                file.was_read(seen);
                Ok(true)
            }
            Err(error) => {
                let reported = always || look == Look::ReadAndReport;
                file.is_broken(seen, reported);
                if reported { Err(error) } else { Ok(false) }
            }
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).paths()[0].clone()
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let text = pem::read(path)?;
    let of = |problem: CertificateProblem| problem.of(path);
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(&text).map_err(of)? {
        let added = roots.add(certificate);
        added.map_err(|error| of(CertificateProblem::Damaged(error.to_string())))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let built = builder.allow_unauthenticated().build();
    built.map_err(|error| of(CertificateProblem::Damaged(error.to_string())))
}

thread_local! {
    // Whether the handshake that this thread is processing is for native peers. rustls resolves the
    // certificate with the ClientHello, and asks the verifier right after that, in one call. So it
    // is set anew before it is read.
    static NATIVE: Cell<bool> = const { Cell::new(false) };
}

/// Resolves the daemon's certificate, and notes whether the handshake is for native peers.
#[derive(Debug)]
pub(super) struct Noting(pub(super) Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut protocols = hello.alpn().into_iter().flatten();
        // A client that offers both gets h3, which is the daemon's first choice.
        let native = protocols.all(|protocol| protocol == ALPN);
        NATIVE.set(native);
        self.0.resolve(hello)
    }
}

impl ClientCertVerifier for ClientAuthorities {
    fn offer_client_auth(&self) -> bool {
        NATIVE.get()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    // None, because they may change, and clients show their only certificate in any case.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verifier().verify_client_cert(certificate, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}

/// Returns the name in the certificate that a native peer has shown: the first DNS name or URI, or
/// else the common name. An authority of `tls.client_authorities` vouches for it. Returns `None` if
/// the peer has shown no certificate.
pub(crate) fn peer_name(connection: &quinn::Connection) -> Option<String> {
    let shown = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    info::peer_name(shown.first()?)
}
