//! Certificates and keys in PEM files (RFC 7468): reading them, and their faults.

use super::provider::provider;
use super::regular_file;
use crate::state;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Maximum size of a file, bytes. Chains have some KiB, and all authorities of a system 300 KiB.
const LIMIT: u64 = 1 << 20;

/// A file of certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
#[non_exhaustive]
pub struct CertificateError {
    /// The file.
    pub path: PathBuf,
    /// The fault.
    #[source]
    pub problem: CertificateProblem,
}

/// A fault of a file of certificates or keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(#[source] io::Error),
    /// The file is too large.
    #[error("it has more than 1 MiB: is it the right file?")]
    TooLarge,
    /// The file has no certificate.
    #[error("it has no certificate: give a PEM file with \"-----BEGIN CERTIFICATE-----\"")]
    NoCertificate,
    /// The file has no private key.
    #[error("it has no private key: give a PEM file with \"-----BEGIN PRIVATE KEY-----\"")]
    NoKey,
    /// The key is encrypted.
    #[error(
        "the key is encrypted, and the daemon cannot ask for a password: `openssl pkey -in … -out …` \
         writes it in plain"
    )]
    EncryptedKey,
    /// Others can read or change the key.
    #[error(
        "its mode is {mode:04o}, so that other users can read or change the key: `chmod 600` it, or \
         640 if it is root's"
    )]
    Exposed {
        /// The file's mode.
        mode: u32,
    },
    /// The file is damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The key is of a kind that is not supported.
    #[error(
        "a key of this kind or size cannot be used ({0}): use ECDSA P-256 or P-384, RSA or Ed25519"
    )]
    UnsupportedKey(String),
    /// The certificate is for another key.
    #[error(
        "its first certificate is not for the key in {}: give the files of one pair, with the \
         server's certificate before those of authorities",
        key.display()
    )]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
    },
    /// The certificate has expired.
    #[error("it expired at {0}")]
    Expired(String),
    /// The certificate is not valid yet.
    #[error("it is not valid before {0}: is the clock right?")]
    NotYetValid(String),
}

impl CertificateProblem {
    /// Adds the file.
    pub(super) fn of(self, path: &Path) -> CertificateError {
        CertificateError { path: path.to_owned(), problem: self }
    }
}

/// Reads a file of certificates, or of a key.
pub(super) fn read(path: &Path) -> Result<String, CertificateError> {
    read_open(path, |_| Ok(())).map_err(|problem| problem.of(path))
}

/// Reads a file of a key, which must be its owner's alone. Others have no access. The group may read
/// it if the owner is root, as with Debian's `ssl-cert`, or if it is a credential of a service.
pub(super) fn read_private(path: &Path) -> Result<String, CertificateError> {
    let credential = state::is_credential(path);
    let private = |file: &fs::File| {
        let metadata = file.metadata().map_err(CertificateProblem::Unreadable)?;
        let mode = metadata.mode() & 0o7777;
        let exposed = mode & if metadata.uid() == 0 || credential { 0o037 } else { 0o077 };
        if exposed == 0 { Ok(()) } else { Err(CertificateProblem::Exposed { mode }) }
    };
    read_open(path, private).map_err(|problem| problem.of(path))
}

// Checks the file that is read, not one that has the same name a moment later.
fn read_open(
    path: &Path,
    check: impl FnOnce(&fs::File) -> Result<(), CertificateProblem>,
) -> Result<String, CertificateProblem> {
    let file = regular_file::open(path).map_err(CertificateProblem::Unreadable)?;
    check(&file)?;
    let mut text = String::new();
    match file.take(LIMIT + 1).read_to_string(&mut text) {
        Ok(read) if read as u64 > LIMIT => Err(CertificateProblem::TooLarge),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(CertificateProblem::Damaged("it is not text: is it DER in place of PEM?".into()))
        }
        Err(error) => Err(CertificateProblem::Unreadable(error)),
    }
}

/// Parses certificates, of which there is at least one.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, CertificateProblem> {
    let found = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if found.is_empty() => Err(CertificateProblem::NoCertificate),
        Ok(found) => Ok(found),
        Err(error) => Err(CertificateProblem::Damaged(error.to_string())),
    }
}

/// Reads the certificates of a file.
#[cfg(feature = "cli")]
pub(crate) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    certificates(&read(path)?).map_err(|problem| problem.of(path))
}

/// Parses the first private key.
pub(super) fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, CertificateProblem> {
    let encrypted = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];
    if encrypted.iter().any(|mark| text.contains(mark)) {
        return Err(CertificateProblem::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateProblem::NoKey,
        other => CertificateProblem::Damaged(other.to_string()),
    })
}

/// A certificate chain with its key, and the PEM files from which they came.
pub(super) fn certified(
    [certificate, key]: [&Path; 2],
    [chain_pem, key_pem]: [&str; 2],
) -> Result<CertifiedKey, CertificateError> {
    let chain = certificates(chain_pem).map_err(|problem| problem.of(certificate))?;
    let private = private_key(key_pem).map_err(|problem| problem.of(key))?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            CertificateProblem::Mismatch { key: key.to_owned() }.of(certificate)
        }
        rustls::Error::InvalidCertificate(error) => {
            CertificateProblem::Damaged(format!("{error:?}")).of(certificate)
        }
        rustls::Error::General(reason) => CertificateProblem::UnsupportedKey(reason).of(key),
        other => CertificateProblem::UnsupportedKey(other.to_string()).of(key),
    })
}

/// The certificate that a native client shows to the daemon, and its key.
#[derive(Debug, Clone)]
pub(crate) struct ClientIdentity(pub(super) std::sync::Arc<CertifiedKey>);

impl ClientIdentity {
    /// Reads both from PEM files. The key must be its owner's alone.
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let texts = [read(certificate)?, read_private(key)?];
        let pair = certified([certificate, key], [&texts[0], &texts[1]])?;
        Ok(Self(std::sync::Arc::new(pair)))
    }
}
