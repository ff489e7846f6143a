//! The state directory, where a daemon keeps its certificates, and a client on the same machine
//! finds their hashes.

use std::path::{Path, PathBuf};

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
