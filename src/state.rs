//! The state directory, where a daemon keeps its certificates, and a client on the same machine
//! finds their hashes.

use std::path::{Path, PathBuf};
#[cfg(feature = "client")]
use std::{fs, io};

/// Name of the file with the hashes of the daemon's certificates, one in each line: the certificate
/// in use, and the next one.
pub(crate) const HASH: &str = "certificate.sha256";

/// The directory in which a daemon that runs as a service publishes the hashes to the machine.
pub(crate) const SERVICE: &str = "/run/weir";

/// Returns the state directory: `$STATE_DIRECTORY`, else `$XDG_STATE_HOME/weir`, else
/// `~/.local/state/weir`. Returns `None` without a home directory.
pub fn directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directories) = variable("STATE_DIRECTORY") {
        // systemd may list several directories, separated by colons.
        return std::env::split_paths(&directories).next();
    }
    if let Some(home) = variable("XDG_STATE_HOME") {
        return Some(Path::new(&home).join("weir"));
    }
    variable("HOME").map(|home| Path::new(&home).join(".local/state/weir"))
}

/// Whether a file is a credential that the service manager has handed over (`LoadCredential=`). Only this
/// service can read it. Its mode may show a right of the group, which is the mask of its access control
/// list.
pub(crate) fn is_credential(path: &Path) -> bool {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|value| !value.is_empty());
    directory.is_some_and(|directory| path.parent() == Some(Path::new(&directory)))
}

/// Returns the directories in which a daemon on this machine may have published its hashes.
pub(crate) fn places(state: Option<&Path>) -> Vec<PathBuf> {
    match state {
        Some(directory) => vec![directory.into()],
        None => directory().into_iter().chain([SERVICE.into()]).collect(),
    }
}

/// Opens a file to read it. A pipe without a writer would block for ever, and with it every later reload.
#[cfg(feature = "client")]
pub(crate) fn open_regular(path: &Path) -> io::Result<fs::File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    fs::File::open(path)
}

#[cfg(all(test, feature = "client"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    // Reading it blocked for ever, and with it every later reload.
    #[test]
    fn a_pipe_without_a_writer_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = open_regular(&path).unwrap_err().to_string();
        assert!(error.contains("regular file"), "{error}");
        assert!(open_regular(directory.path()).is_err());
        fs::write(directory.path().join("file"), "x").unwrap();
        open_regular(&directory.path().join("file")).unwrap();
    }
}
