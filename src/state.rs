//! Where a daemon keeps what outlives it, and where a client on the same machine looks for it.

use std::path::{Path, PathBuf};

/// Name of the file that holds the hashes of the daemon's certificates, one a line: the one in
/// use, and the one after it.
pub(crate) const HASH: &str = "certificate.sha256";

/// Where a daemon that runs as a service leaves the hash for everybody on the machine.
pub(crate) const SERVICE: &str = "/run/weir";

/// The state directory: `$STATE_DIRECTORY`, else `$XDG_STATE_HOME/weir`, else
/// `~/.local/state/weir`; none without a home.
pub fn directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directories) = variable("STATE_DIRECTORY") {
        // systemd lists several with colons between.
        return std::env::split_paths(&directories).next();
    }
    if let Some(home) = variable("XDG_STATE_HOME") {
        return Some(Path::new(&home).join("weir"));
    }
    variable("HOME").map(|home| Path::new(&home).join(".local/state/weir"))
}

/// The places where a daemon on this machine may have left its certificate's hash.
pub(crate) fn places(state: Option<&Path>) -> Vec<PathBuf> {
    match state {
        Some(directory) => vec![directory.into()],
        None => directory().into_iter().chain([SERVICE.into()]).collect(),
    }
}
