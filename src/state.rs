//! Where a daemon keeps what outlives it, and where a client on the same machine looks for it.

use crate::tls::CertificateHash;
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

/// The hashes of the certificates of daemons on this machine.
pub(crate) fn local_hashes(places: &[PathBuf]) -> Vec<CertificateHash> {
    let texts = places.iter().filter_map(|place| std::fs::read_to_string(place.join(HASH)).ok());
    let hashes = |text: String| text.lines().filter_map(|hash| hash.parse().ok()).collect();
    texts.flat_map(|text| -> Vec<_> { hashes(text) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Who had once run a daemon of their own could not connect to the service of the same
    // machine: the hash in their own state directory was found first, and was another.
    #[test]
    fn the_service_is_known_beside_a_daemon_of_ones_own() {
        let (own, service) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let hashes = [1, 2].map(|n| CertificateHash([n; 32]));
        let places = [own.path().to_owned(), "/no/such".into(), service.path().to_owned()];
        std::fs::write(own.path().join(HASH), format!("{}\n", hashes[0])).unwrap();
        std::fs::write(service.path().join(HASH), hashes[1].to_string()).unwrap();
        assert_eq!(local_hashes(&places), hashes);
        assert_eq!(super::places(Some(own.path())), [own.path()]);
    }
}
