//! The file with the secret of a journal, from which its name follows. A journal knows its own files by
//! that name, also when its snapshots are lost.
//!
//! ```text
//! 0   16  header
//! 16  32  the secret
//! 48   8  the name that the journal had before its secret was lost; 0 if it was not
//! 56   4  checksum (CRC-32) of the 40 bytes before
//! ```
//!
//! Numbers are little-endian.

use super::format::header::{HEADER, HeaderError, Kind, word};
use super::storage::Storage;
use crate::engine::Engine;
use std::io::{self, Read as _};

/// The name of the file.
pub(crate) const NAME: &str = "secret.weir";

// Its name until it is complete.
const PARTIAL: &str = "secret.partial";

const LENGTH: usize = HEADER + 44;

/// The contents of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(super) secret: [u8; 32],
    /// The name that its log has from the time before the secret was lost.
    pub(super) former: Option<u64>,
}

impl Secret {
    /// Returns whether a file belongs to another journal. `journal` is the name that it has.
    pub(super) fn is_foreign(&self, journal: Option<u64>) -> bool {
        let own = Engine::journal_of(&self.secret);
        journal.is_some_and(|journal| journal != own && Some(journal) != self.former)
    }

    fn encode(&self) -> Vec<u8> {
        let former = self.former.unwrap_or(0).to_le_bytes();
        let body = [&self.secret[..], &former].concat();
        let checksum = crc32fast::hash(&body).to_le_bytes();
        [&Kind::Secret.header()[..], &body, &checksum].concat()
    }

    fn decode(file: &[u8]) -> Result<Self, HeaderError> {
        Kind::Secret.check(file)?;
        let body = file.get(HEADER..).and_then(|body| body.split_first_chunk::<32>());
        let Some((secret, rest)) = body else { return Err(HeaderError::Damaged) };
        let checksum = crc32fast::hash(&file[HEADER..LENGTH.min(file.len()) - 4]);
        match rest.first_chunk() {
            Some(former) if file.len() == LENGTH && word(rest, 8) == Some(checksum) => {
                let former = Some(u64::from_le_bytes(*former)).filter(|former| *former != 0);
                Ok(Self { secret: *secret, former })
            }
            _ => Err(HeaderError::Damaged),
        }
    }
}

/// Reads the file, which has to be there.
pub(super) fn read(storage: &dyn Storage) -> io::Result<Result<Secret, HeaderError>> {
    let mut file = Vec::with_capacity(LENGTH);
    storage.open(NAME)?.take(LENGTH as u64 + 1).read_to_end(&mut file)?;
    Ok(Secret::decode(&file))
}

/// Writes the file, in place of one that is damaged. It survives the loss of power.
pub(super) fn write(storage: &dyn Storage, secret: &Secret) -> io::Result<()> {
    // A daemon was killed while it wrote it.
    match storage.remove(PARTIAL) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = storage.create(PARTIAL)?;
    let written = file.append(&secret.encode()).and_then(|()| file.sync());
    // The second name of a damaged one is on the disk first.
    let written = written.and_then(|()| storage.sync_names());
    if let Err(error) = written.and_then(|()| storage.rename(PARTIAL, NAME)) {
        // Otherwise it is removed with the next attempt.
        let _ = storage.remove(PARTIAL);
        return Err(error);
    }
    storage.sync_names()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_written_and_not_if_a_byte_differs() {
        for former in [None, Some(77)] {
            let secret = Secret { secret: [9; 32], former };
            let file = secret.encode();
            assert_eq!(Secret::decode(&file), Ok(secret));
            for at in 0..file.len() {
                let mut damaged = file.clone();
                damaged[at] ^= 1;
                Secret::decode(&damaged).unwrap_err();
                Secret::decode(&file[..at]).unwrap_err();
            }
            Secret::decode(&[&file[..], &[0]].concat()).unwrap_err();
        }
    }
}
