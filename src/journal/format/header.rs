//! The header of a file: what it is, and of which version.

use super::VERSION;

/// Length of a header, bytes.
pub(crate) const HEADER: usize = 16;

/// The contents of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Log,
    Snapshot,
    Secret,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("it is not a file of a journal")]
    Foreign,
    #[error("it has version {0} of the format, and this program reads up to version {VERSION}")]
    Newer(u32),
    #[error("its header is damaged")]
    Damaged,
}

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Log => b"weirlog\n",
            Self::Snapshot => b"weirsnp\n",
            Self::Secret => b"weirkey\n",
        }
    }

    pub(crate) fn header(self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(self.magic());
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let checksum = crc32fast::hash(&header[..12]);
        header[12..].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    /// Checks the header of a file.
    pub(crate) fn check(self, header: &[u8]) -> Result<(), HeaderError> {
        let Some((magic, rest)) = header.get(..HEADER).and_then(|h| h.split_first_chunk::<8>())
        else {
            return Err(HeaderError::Damaged);
        };
        let (Some(version), Some(checksum)) = (word(rest, 0), word(rest, 4)) else {
            return Err(HeaderError::Damaged);
        };
        let intact = crc32fast::hash(&header[..12]) == checksum;
        if magic != self.magic() {
            return Err(HeaderError::Foreign);
        }
        match version {
            _ if !intact => Err(HeaderError::Damaged),
            1..=VERSION => Ok(()),
            newer => Err(HeaderError::Newer(newer)),
        }
    }
}

/// Returns the 32-bit word at an offset.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}
