//! Files of the state directory.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The mode of a key file. Only its owner can read it.
pub(super) const PRIVATE: u32 = 0o600;

/// A file that could not be written, and the system's error.
#[derive(Debug)]
pub(super) struct StateFileError {
    pub(super) path: PathBuf,
    pub(super) error: io::Error,
}

/// Replaces a file atomically: writes another file, and renames it. A file with the same text stays.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), StateFileError> {
    let beside = path.with_extension("new");
    let write = || {
        if fs::read_to_string(path).is_ok_and(|there| there == text) {
            return tighten(path, mode);
        }
        let _ = fs::remove_file(&beside);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        if mode != PRIVATE {
            // A service's umask keeps others from what is not meant for them. This is.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    let written = write();
    if written.is_err() {
        // The incomplete file is useless.
        let _ = fs::remove_file(&beside);
    }
    written.map_err(|error| StateFileError { path: path.into(), error })
}

// Removes the access of others to a key that was copied, restored or unpacked. If that fails the
// daemon does not start, because the key would not be secret.
pub(super) fn tighten(path: &Path, mode: u32) -> io::Result<()> {
    let others = fs::metadata(path)?.permissions().mode() & 0o077;
    if mode == PRIVATE && others != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        tracing::warn!(
            ?path,
            "other users could read this key, and can no longer: if one may have read it, remove \
             the files beside it, and restart to make new ones"
        );
    }
    Ok(())
}
