//! Hashes of certificates, with which clients trust a daemon whose certificate is self-signed.

use crate::state::HASH;
use crate::wire;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// SHA-256 of a certificate's DER form, as in browsers' `serverCertificateHashes`. Displayed as 64
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateHash(pub [u8; 32]);

impl CertificateHash {
    /// The hash of a certificate in DER form.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        wire::Digest(self.0).fmt(f)
    }
}

impl fmt::Debug for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not a certificate hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a certificate hash is 64 hexadecimal digits (SHA-256), colons allowed, with a comma before \
     the next one: `weir serve` prints it"
)]
pub struct CertificateHashError;

impl FromStr for CertificateHash {
    type Err = CertificateHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.trim().chars().filter(|c| *c != ':').collect();
        let digest: wire::Digest = digits.parse().map_err(|_| CertificateHashError)?;
        Ok(Self(digest.0))
    }
}

/// Hashes of certificates, of which one has to match. A daemon publishes the hash of the current
/// certificate and that of the next. A client that pins both still connects after the change.
///
/// ```
/// use weir::{CertificateHash, CertificateHashes};
/// let [one, two] = [1, 2].map(|n| CertificateHash([n; 32]));
/// assert_eq!(one.to_string().parse(), Ok(CertificateHashes::from(one)));
/// assert_eq!(format!("{one},{two}").parse(), Ok(CertificateHashes::from([one, two])));
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CertificateHashes(pub(super) Vec<CertificateHash>);

impl CertificateHashes {
    /// Iterates over the hashes.
    pub fn iter(&self) -> impl Iterator<Item = &CertificateHash> {
        self.0.iter()
    }
}

impl From<CertificateHash> for CertificateHashes {
    fn from(hash: CertificateHash) -> Self {
        Self(vec![hash])
    }
}

impl<const N: usize> From<[CertificateHash; N]> for CertificateHashes {
    fn from(hashes: [CertificateHash; N]) -> Self {
        Self(hashes.into())
    }
}

impl FromIterator<CertificateHash> for CertificateHashes {
    fn from_iter<T: IntoIterator<Item = CertificateHash>>(hashes: T) -> Self {
        Self(hashes.into_iter().collect())
    }
}

impl fmt::Display for CertificateHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, hash) in self.0.iter().enumerate() {
            write!(f, "{}{hash}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for CertificateHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CertificateHashes {
    type Err = CertificateHashError;

    /// Parses at least one hash. Hashes are separated by commas, or by newlines as in the daemon's
    /// `certificate.sha256`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hashes = text.split([',', '\n']).map(str::trim).filter(|hash| !hash.is_empty());
        let hashes = hashes.map(str::parse).collect::<Result<Vec<_>, _>>()?;
        if hashes.is_empty() { Err(CertificateHashError) } else { Ok(Self(hashes)) }
    }
}

/// Reads the certificate hashes of the daemons on this machine.
pub(crate) fn local_hashes(places: &[PathBuf]) -> Vec<CertificateHash> {
    let texts = places.iter().filter_map(|place| std::fs::read_to_string(place.join(HASH)).ok());
    let hashes = |text: String| text.lines().filter_map(|hash| hash.parse().ok()).collect();
    texts.flat_map(|text| -> Vec<_> { hashes(text) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Once, a user who had run a daemon could not connect to the service on the same machine. The
    // hash in the user's state directory was found first, and did not match.
    #[test]
    fn the_service_is_known_beside_a_daemon_of_ones_own() {
        let (own, service) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let hashes = [1, 2].map(|n| CertificateHash([n; 32]));
        let places = [own.path().to_owned(), "/no/such".into(), service.path().to_owned()];
        std::fs::write(own.path().join(HASH), format!("{}\n", hashes[0])).unwrap();
        std::fs::write(service.path().join(HASH), hashes[1].to_string()).unwrap();
        assert_eq!(local_hashes(&places), hashes);
        assert_eq!(crate::state::places(Some(own.path())), [own.path()]);
    }
}
