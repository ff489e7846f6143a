//! The hashes of the daemon's certificates, for clients on the same machine.

use super::certificate_hash::CertificateHash;
use super::identity::IdentityError;
use super::state_file::write;
use crate::state::HASH;
use std::path::{Path, PathBuf};

/// The directories in which the hashes are written.
#[derive(Debug, Clone)]
pub(super) struct Announce {
    /// The state directory, which can be written.
    pub(super) state: Option<PathBuf>,
    /// A second directory.
    pub(super) also: Option<PathBuf>,
}

impl Announce {
    /// Writes the hashes, one in each line. Returns an error for the state directory only.
    pub(super) fn write(&self, hashes: &[CertificateHash]) -> Result<(), IdentityError> {
        let lines: Vec<_> = hashes.iter().map(CertificateHash::to_string).collect();
        let text = lines.join("\n") + "\n";
        let write = |directory: &Path| write(&directory.join(HASH), &text, 0o644);
        if let Some(directory) = &self.state {
            write(directory)?;
        }
        if let Some(directory) = &self.also
            && let Err(error) = write(directory)
        {
            let error = IdentityError::from(error);
            tracing::warn!(%error, "clients on this machine cannot find the hash: give it to them");
        }
        Ok(())
    }
}
