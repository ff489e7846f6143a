//! Answers to the challenges of an authority: over HTTP (RFC 8555, section 8.3) and in TLS handshakes
//! (RFC 8737). They exist only while an order is under way.

use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The application protocol of challenges in TLS handshakes.
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";

/// The answers of the order that is under way, at most one for each name.
#[derive(Debug, Default)]
pub(crate) struct Challenges(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    // By token.
    http: HashMap<String, String>,
    // By name.
    tls: HashMap<String, Arc<CertifiedKey>>,
}

impl Challenges {
    fn with<T>(&self, change: impl FnOnce(&mut Answers) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the key authorization for a token.
    pub(crate) fn http(&self, token: &str) -> Option<String> {
        self.with(|answers| answers.http.get(token).cloned())
    }

    /// Returns the certificate that answers a challenge for a name.
    pub(super) fn tls(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.with(|answers| answers.tls.get(&name.to_ascii_lowercase()).cloned())
    }

    pub(super) fn answer_http(&self, token: &str, authorization: &str) {
        self.with(|answers| answers.http.insert(token.to_owned(), authorization.to_owned()));
    }

    /// Makes the certificate that answers a challenge (RFC 8737, section 3). `digest` is the SHA-256
    /// of the key authorization.
    pub(super) fn answer_tls(&self, name: &str, digest: &[u8; 32]) -> Result<(), rcgen::Error> {
        let name = name.to_ascii_lowercase();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new([name.clone()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = rustls::crypto::ring::sign::any_supported_type(&private);
        let signing = signing.map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], signing);
        self.with(|answers| answers.tls.insert(name, Arc::new(certified)));
        Ok(())
    }

    /// Forgets all answers.
    pub(super) fn clear(&self) {
        self.with(|answers| *answers = Answers::default());
    }
}
