//! The key of stateless resets (RFC 9000, section 10.3).
//!
//! A daemon that was killed and started again does not know the connections of the one before. It
//! answers their packets with a reset, which a peer accepts if its token is the one that the
//! connection began with. The token is derived from this key, so the key outlives the process.

use super::identity::IdentityError;
use super::state_file::{PRIVATE, write};
use ring::hmac;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Name of the file in the state directory: the key in hexadecimal.
const FILE: &str = "reset-key";

const BYTES: usize = 32;

/// The key of stateless resets.
pub(crate) struct ResetKey([u8; BYTES]);

impl ResetKey {
    /// Reads the key that is kept in `directory`, which exists. Makes a random one if none is kept
    /// there, and keeps it. Without a directory, the key is random.
    pub(crate) fn open(directory: Option<&Path>) -> Result<Self, IdentityError> {
        let Some(path) = directory.map(|directory| directory.join(FILE)) else {
            return Ok(Self(rand::random()));
        };
        let kept = fs::read_to_string(&path).ok();
        let key = kept.as_deref().and_then(Self::parse);
        if kept.is_some() && key.is_none() {
            tracing::warn!(?path, "the kept key cannot be read: making a new one");
        }
        let key = key.unwrap_or_else(|| Self(rand::random()));
        // For a key that was kept, this only removes the access of others.
        write(&path, &key.text(), PRIVATE)?;
        Ok(key)
    }

    fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 2 * BYTES] = text.strip_suffix('\n')?.as_bytes().try_into().ok()?;
        let mut key = [0; BYTES];
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16);
            *byte = u8::try_from(value(pair[0])? << 4 | value(pair[1])?).ok()?;
        }
        Some(Self(key))
    }

    fn text(&self) -> String {
        let mut text = String::with_capacity(2 * BYTES + 1);
        for byte in self.0 {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        text
    }

    /// Returns the key for QUIC.
    pub(crate) fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_kept_and_is_the_daemons_alone() {
        let directory = tempfile::tempdir().unwrap();
        let open = || ResetKey::open(Some(directory.path())).unwrap().0;
        let path = directory.path().join(FILE);
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let first = open();
        assert_eq!((open(), mode()), (first, 0o600));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!((open(), mode()), (first, 0o600));
        // Another directory, or none, has another key.
        assert_ne!(ResetKey::open(None).unwrap().0, first);
    }

    #[test]
    fn a_damaged_file_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        for damaged in ["", "00\n", &format!("{}\n", "é".repeat(32)), &"0".repeat(64)] {
            fs::write(&path, damaged).unwrap();
            let made = ResetKey::open(Some(directory.path())).unwrap().0;
            assert_ne!(made, [0; BYTES]);
            assert_eq!(ResetKey::open(Some(directory.path())).unwrap().0, made);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = ResetKey::open(Some("/dev/null/weir".as_ref())).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("/dev/null/weir/reset-key: "), "{error}");
    }
}
