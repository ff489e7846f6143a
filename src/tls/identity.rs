//! The daemon's certificates: self-signed, P-256, valid for 13 days. Browsers require this for
//! pinned certificates.
//!
//! There are two, the current and the next. The next is made in advance, so that its hash is known
//! before it is used. A client that pins both hashes still connects after the change.

use super::certificate_hash::CertificateHash;
use super::pem::CertificateError;
use super::provider::provider;
use super::self_signed;
use super::settings::DomainError;
use super::state_file::{PRIVATE, StateFileError, write};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::sign::CertifiedKey;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use time::{Duration, OffsetDateTime};

/// How long a certificate is valid. The maximum of `serverCertificateHashes` is 14 days.
const VALIDITY: Duration = Duration::days(13);

/// The next certificate replaces one with this time left.
const RENEW_BEFORE: Duration = Duration::days(3);

/// Names of the files in the state directory.
const CURRENT: [&str; 2] = ["certificate.pem", "key.pem"];
const NEXT: [&str; 2] = ["next-certificate.pem", "next-key.pem"];

/// Why a certificate or a key could not be made, read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The state directory, or a file in it, cannot be read or written.
    #[error("{path}: {error}: name a state directory that can be written (--state DIR)")]
    State {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// A certificate could not be made.
    #[error("making a certificate: {0}")]
    Making(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A certificate cannot be used.
    #[error("a certificate that cannot be used: {0}")]
    Unfit(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file of certificates or keys cannot be used.
    #[error(transparent)]
    File(#[from] CertificateError),
    /// A name for which no certificate can be had over ACME.
    #[error(transparent)]
    Domain(DomainError),
}

impl From<StateFileError> for IdentityError {
    fn from(StateFileError { path, error }: StateFileError) -> Self {
        Self::State { path, error }
    }
}

/// A certificate and its key.
struct Identity {
    certified: Arc<CertifiedKey>,
    hash: CertificateHash,
    from: OffsetDateTime,
    until: OffsetDateTime,
    // As PEM files.
    pem: [String; 2],
}

impl Identity {
    // Makes a certificate that is used from `from` on.
    fn make(from: OffsetDateTime) -> Result<Self, IdentityError> {
        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let pem = self_signed::make(&names, "weir", from, VALIDITY);
        let pem = pem.map_err(|error| IdentityError::Making(error.into()))?;
        Self::new(pem).map_err(|reason| match reason {
            Unread::Unfit(error) => IdentityError::Unfit(error.into()),
            Unread::Damaged => IdentityError::Making(rcgen::Error::CouldNotParseCertificate.into()),
        })
    }

    fn new(pem: [String; 2]) -> Result<Self, Unread> {
        let chain = CertificateDer::pem_slice_iter(pem[0].as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Unread::Damaged)?;
        let key = PrivateKeyDer::from_pem_slice(pem[1].as_bytes()).map_err(|_| Unread::Damaged)?;
        let first = chain.first().ok_or(Unread::Damaged)?;
        let hash = CertificateHash::of(first);
        let (_, parsed) =
            x509_parser::parse_x509_certificate(first).map_err(|_| Unread::Damaged)?;
        let validity = parsed.validity();
        let [from, until] = [validity.not_before, validity.not_after].map(|at| at.to_datetime());
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(Unread::Unfit)?;
        Ok(Self { certified: Arc::new(certified), hash, from, until, pem })
    }

    fn read(directory: &Path, names: [&str; 2]) -> Option<Self> {
        let [certificate, key] = names.map(|name| directory.join(name));
        if !certificate.exists() {
            return None;
        }
        let read = |path: &Path| fs::read_to_string(path).map_err(|_| Unread::Damaged);
        let identity = read(&certificate)
            .and_then(|certificate| Ok([certificate, read(&key)?]))
            .and_then(Self::new);
        if identity.is_err() {
            tracing::warn!(?certificate, "the kept certificate cannot be read: making a new one");
        }
        identity.ok()
    }

    fn write(&self, directory: &Path, names: [&str; 2]) -> Result<(), IdentityError> {
        // The key first: a certificate without its key is not used.
        for (index, mode) in [(1, PRIVATE), (0, 0o644)] {
            write(&directory.join(names[index]), &self.pem[index], mode)?;
        }
        Ok(())
    }

    // When the next certificate replaces this one.
    fn replaced(&self) -> OffsetDateTime {
        self.until - RENEW_BEFORE
    }
}

enum Unread {
    Damaged,
    Unfit(rustls::Error),
}

/// The current certificate and the next. TLS resolves handshakes with the current one.
pub(crate) struct Identities {
    // The directory of the certificates.
    directory: Option<PathBuf>,
    // Read for each handshake, written every ten days.
    pair: RwLock<Pair>,
}

struct Pair {
    current: Identity,
    next: Identity,
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identities").field(&self.hashes()).finish()
    }
}

impl Identities {
    /// Reads the certificates kept in `directory`. Makes those that are missing or expired, and
    /// keeps them there.
    pub(super) fn open(directory: Option<PathBuf>) -> Result<Self, IdentityError> {
        Self::open_at(directory, OffsetDateTime::now_utc())
    }

    fn open_at(directory: Option<PathBuf>, now: OffsetDateTime) -> Result<Self, IdentityError> {
        if let Some(directory) = &directory {
            fs::create_dir_all(directory)
                .map_err(|error| IdentityError::State { path: directory.clone(), error })?;
        }
        let read = |names| directory.as_deref().and_then(|path| Identity::read(path, names));
        let (current, next) = (read(CURRENT), read(NEXT));
        let fresh = current.filter(|current| current.replaced() > now);
        let (current, next) = match (fresh, next) {
            (Some(current), next) => (current, next),
            // It was due to replace the current one while no daemon ran.
            (None, Some(next)) if next.from <= now && next.replaced() > now => (next, None),
            // It is not valid yet, and browsers check the dates too.
            (None, next @ Some(_)) => (Identity::make(now)?, next),
            (None, None) => (Identity::make(now)?, None),
        };
        let next = match next {
            Some(next) if next.from < current.replaced() && next.until > current.until => next,
            _ => Identity::make(current.replaced())?,
        };
        let pair = RwLock::new(Pair { current, next });
        let this = Self { directory, pair };
        this.keep()?;
        Ok(this)
    }

    fn keep(&self) -> Result<(), IdentityError> {
        let pair = self.pair.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = &self.directory {
            pair.current.write(directory, CURRENT)?;
            pair.next.write(directory, NEXT)?;
        }
        Ok(())
    }

    /// The hashes of the current certificate and of the next.
    pub(crate) fn hashes(&self) -> [CertificateHash; 2] {
        let pair = self.pair.read().unwrap_or_else(PoisonError::into_inner);
        [pair.current.hash, pair.next.hash]
    }

    /// Returns the end of the current certificate.
    pub(super) fn until(&self) -> OffsetDateTime {
        let pair = self.pair.read().unwrap_or_else(PoisonError::into_inner);
        pair.current.until
    }

    /// Replaces the current certificate if it is due. Returns whether it did.
    pub(super) fn renew(&self, now: OffsetDateTime) -> Result<bool, IdentityError> {
        {
            let mut pair = self.pair.write().unwrap_or_else(PoisonError::into_inner);
            if pair.current.replaced() > now {
                return Ok(false);
            }
            // The machine may have been suspended for longer than a certificate is valid.
            if pair.next.replaced() <= now {
                pair.next = Identity::make(now)?;
            }
            let after = Identity::make(pair.next.replaced())?;
            pair.current = std::mem::replace(&mut pair.next, after);
        }
        self.keep()?;
        Ok(true)
    }

    /// Returns the certificate in use.
    pub(super) fn current(&self) -> Arc<CertifiedKey> {
        let pair = self.pair.read().unwrap_or_else(PoisonError::into_inner);
        pair.current.certified.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn open(directory: &Path, now: OffsetDateTime) -> Identities {
        Identities::open_at(Some(directory.into()), now).unwrap()
    }

    #[test]
    fn certificates_are_kept_and_follow_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let first = open(directory.path(), now).hashes();
        assert_ne!(first[0], first[1]);
        assert_eq!(open(directory.path(), now).hashes(), first);

        // Ten days later, whether or not a daemon ran meanwhile.
        let identities = open(directory.path(), now);
        assert!(!identities.renew(now + Duration::days(9)).unwrap());
        assert!(identities.renew(now + Duration::days(10)).unwrap());
        let second = identities.hashes();
        assert_eq!(second[0], first[1], "the one that was told before");
        assert_ne!(second[1], first[1]);
        assert_eq!(open(directory.path(), now + Duration::days(11)).hashes(), second);
        assert_eq!(open(directory.path(), now + Duration::days(21)).hashes()[0], second[1]);

        // No daemon ran for months.
        let late = open(directory.path(), now + Duration::days(100)).hashes();
        assert!(!late.contains(&second[1]));
        let identities = open(directory.path(), now + Duration::days(100));
        assert!(identities.renew(now + Duration::days(200)).unwrap());
    }

    #[test]
    fn every_certificate_is_valid_when_it_is_used_and_for_less_than_a_fortnight() {
        let now = OffsetDateTime::now_utc();
        let identities = Identities::open_at(None, now).unwrap();
        for day in 0..60 {
            let today = now + Duration::days(day);
            identities.renew(today).unwrap();
            let pair = identities.pair.read().unwrap();
            let der = &pair.current.certified.cert[0];
            let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
            let [from, until] = [parsed.validity().not_before, parsed.validity().not_after];
            let [from, until] = [from, until].map(|time| time.to_datetime());
            assert!(from < today && today + Duration::days(2) < until, "day {day}");
            assert!(until - from < Duration::days(14));
        }
    }

    #[test]
    fn a_damaged_file_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let first = open(directory.path(), now).hashes();
        fs::write(directory.path().join(CURRENT[0]), "damaged").unwrap();
        let after = open(directory.path(), now).hashes();
        assert!(!first.contains(&after[0]), "the next one is not valid yet");
        assert_eq!(open(directory.path(), now).hashes(), after);
    }

    #[test]
    fn the_key_is_the_daemons_alone() {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path(), OffsetDateTime::now_utc());
        for key in [CURRENT[1], NEXT[1]] {
            let mode = fs::metadata(directory.path().join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_kept_key_that_others_can_read_is_closed_to_them() {
        let directory = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let first = open(directory.path(), now).hashes();
        for key in [CURRENT[1], NEXT[1]] {
            let key = directory.path().join(key);
            fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
            assert_eq!(open(directory.path(), now).hashes(), first);
            assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_state_directory_that_cannot_be_is_named() {
        let error = Identities::open(Some("/dev/null/weir".into())).unwrap_err();
        assert!(error.to_string().starts_with("/dev/null/weir: "), "{error}");
    }
}
