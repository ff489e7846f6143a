//! The daemon's certificate: self-signed, P-256, 13 days, as browsers want it for pinning.

use super::tls::CertificateHash;
use crate::state::HASH;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// How long a certificate is valid. `serverCertificateHashes` allows 14 days at most.
const VALIDITY: Duration = Duration::days(13);

/// Before now: clocks differ.
const BACKDATED: Duration = Duration::hours(1);

/// A kept certificate is used again while it has at least this long to go.
const LEFT: Duration = Duration::days(3);

/// Names of the files in the state directory.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The state directory, or a file in it, cannot be read or written.
    #[error("{path}: {error}: name a state directory that can be written (--state DIR)")]
    State {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It could not be made.
    #[error("making a certificate: {0}")]
    Making(#[from] rcgen::Error),
}

impl Identity {
    /// A new one, in memory only; and as PEM files.
    pub(crate) fn make() -> Result<(Self, String, String), IdentityError> {
        Self::made_at(OffsetDateTime::now_utc())
    }

    fn made_at(now: OffsetDateTime) -> Result<(Self, String, String), IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let mut params = CertificateParams::new(names)?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "weir");
        params.distinguished_name = name;
        params.not_before = now - BACKDATED;
        params.not_after = now + VALIDITY;
        let certificate = params.self_signed(&key)?;
        let identity = Self {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        };
        Ok((identity, certificate.pem(), key.serialize_pem()))
    }

    /// The one kept in `directory`, or a new one that is kept there from now on.
    pub(crate) fn kept(directory: &Path) -> Result<Self, IdentityError> {
        let at = |path: PathBuf| move |error| IdentityError::State { path, error };
        fs::create_dir_all(directory).map_err(at(directory.into()))?;
        let identity = match Self::read(directory) {
            Some(identity) => identity,
            None => {
                let (identity, certificate, key) = Self::make()?;
                let (certificate_path, key_path) =
                    (directory.join(CERTIFICATE), directory.join(KEY));
                // The key first: a certificate without its key is not used.
                write(&key_path, &key, 0o600).map_err(at(key_path.clone()))?;
                write(&certificate_path, &certificate, 0o644)
                    .map_err(at(certificate_path.clone()))?;
                identity
            }
        };
        let path = directory.join(HASH);
        write(&path, &format!("{}\n", identity.hash()), 0o644).map_err(at(path.clone()))?;
        Ok(identity)
    }

    fn read(directory: &Path) -> Option<Self> {
        let certificate = directory.join(CERTIFICATE);
        if !certificate.exists() {
            return None;
        }
        let chain = CertificateDer::pem_file_iter(&certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let key = PrivateKeyDer::from_pem_file(directory.join(KEY));
        let (Ok(chain), Ok(key)) = (chain, key) else {
            tracing::warn!(?directory, "the kept certificate cannot be read: making a new one");
            return None;
        };
        let (_, parsed) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
        let until = parsed.validity().not_after.timestamp();
        if until < (OffsetDateTime::now_utc() + LEFT).unix_timestamp() {
            tracing::info!("the kept certificate is about to run out: making a new one");
            return None;
        }
        Some(Self { chain, key })
    }

    pub(crate) fn hash(&self) -> CertificateHash {
        CertificateHash::of(self.chain.first().map_or(&[][..], |certificate| certificate))
    }
}

// Whole or not at all: written beside, then renamed.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_kept_and_used_again_until_it_runs_out() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::kept(directory.path()).unwrap().hash();
        assert_eq!(Identity::kept(directory.path()).unwrap().hash(), first);
        let hash = fs::read_to_string(directory.path().join(HASH)).unwrap();
        assert_eq!(hash.parse(), Ok(first));

        let path = directory.path().join(CERTIFICATE);
        let (_, certificate, key) =
            Identity::made_at(OffsetDateTime::now_utc() - VALIDITY + LEFT - Duration::MINUTE)
                .unwrap();
        fs::write(&path, certificate).unwrap();
        fs::write(directory.path().join(KEY), key).unwrap();
        assert!(Identity::read(directory.path()).is_none(), "less than three days are left");
        assert_ne!(Identity::kept(directory.path()).unwrap().hash(), first);

        fs::write(&path, "damaged").unwrap();
        let after = Identity::kept(directory.path()).unwrap().hash();
        assert_eq!(Identity::kept(directory.path()).unwrap().hash(), after);
    }

    #[test]
    fn the_key_is_the_daemons_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        Identity::kept(directory.path()).unwrap();
        let mode = fs::metadata(directory.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_state_directory_that_cannot_be_is_named() {
        let error = Identity::kept(Path::new("/dev/null/weir")).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("/dev/null/weir: "), "{error}");
    }
}
