//! The file of keys that verify tokens: read at the start, and again when it changes.

use super::blocking::blocking;
use super::fetch::FetchError;
use crate::access::gate::Keyring;
use crate::access::{Algorithm, Expectations, KeyError, KeySet, MAX_KEY_BYTES, Verifier};
use crate::tls::regular_file;
use crate::tls::watched::{Look, Watched};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Interval of the looks at the file, 5 s.
const CHECK: Duration = Duration::from_secs(5);

/// A file of keys, or a server with them, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
#[non_exhaustive]
pub struct KeyFileError {
    /// The file, or the address of the server.
    pub path: PathBuf,
    /// The fault.
    #[source]
    pub problem: KeyFileProblem,
}

/// The fault of a file of keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileProblem {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[source] io::Error),
    /// Its content is not a set of keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The server does not answer with keys.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The same, told to several callers.
    #[error("{0}")]
    Again(#[source] Arc<KeyFileProblem>),
    /// It has a secret, and others can read it.
    #[error(
        "its mode is {mode:04o}, so that other users can read the secret in it and sign tokens: \
         `chmod 600` it"
    )]
    Exposed {
        /// The file's mode.
        mode: u32,
    },
}

/// A file of keys.
#[derive(Debug)]
pub(super) struct KeyFile {
    file: Mutex<Watched<1>>,
    expectations: Expectations,
}

impl KeyFile {
    /// Reads the file.
    pub(super) fn open(
        path: PathBuf,
        expectations: Expectations,
    ) -> Result<(Self, Verifier), KeyFileError> {
        let file = Watched::new([path]);
        let verifier = read(&file.paths()[0], &expectations)?;
        Ok((Self { file: Mutex::new(file), expectations }, verifier))
    }

    /// Reads the file again if it has changed, or always. An error is returned once for each version
    /// of the file; the keys that were read before stay.
    pub(super) fn reload(&self, keyring: &Keyring, always: bool) -> Result<bool, KeyFileError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (look, seen) = file.look();
        if look == Look::Unchanged && !always {
            return Ok(false);
        }
        match read(&file.paths()[0], &self.expectations) {
            Ok(verifier) => {
                file.was_read(seen);
                keyring.set(Arc::new(verifier));
                Ok(true)
            }
            Err(error) => {
                let reported = always || look == Look::ReadAndReport;
                file.is_broken(seen, reported);
                if reported { Err(error) } else { Ok(false) }
            }
        }
    }

    /// Looks at the file again and again. Does not return.
    pub(super) async fn watch(self: Arc<Self>, keyring: Arc<Keyring>) {
        loop {
            tokio::time::sleep(CHECK).await;
            let (this, keyring) = (self.clone(), keyring.clone());
            let reloaded = blocking(move || this.reload(&keyring, false)).await;
            if let Err(error) = reloaded {
                tracing::error!(%error, "the keys that were read before stay");
            }
        }
    }
}

fn read(path: &Path, expectations: &Expectations) -> Result<Verifier, KeyFileError> {
    let keys = read_keys(path).map_err(|problem| KeyFileError { path: path.into(), problem })?;
    log_keys(&path.display().to_string(), &keys);
    Ok(Verifier::new(keys, expectations.clone()))
}

/// Logs which keys there are.
pub(super) fn log_keys(from: &str, keys: &KeySet) {
    let names: Vec<_> = keys
        .ids()
        .map(|(algorithm, id)| format!("{} {:?}", algorithm.name(), id.unwrap_or("without a kid")))
        .collect();
    tracing::info!(from, keys = names.join(", "), "keys that verify tokens");
    for skipped in keys.skipped() {
        tracing::warn!(from, %skipped, "a key is not used");
    }
}

// Returns the mode of a file, and what it contains.
fn read_file(path: &Path) -> io::Result<(u32, Vec<u8>)> {
    let file = regular_file::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    let mut bytes = Vec::new();
    // One byte more tells that it is too long.
    file.take(MAX_KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok((mode, bytes))
}

fn read_keys(path: &Path) -> Result<KeySet, KeyFileProblem> {
    let (mode, bytes) = read_file(path).map_err(KeyFileProblem::Unreadable)?;
    let keys = KeySet::parse(&bytes)?;
    let is_secret = keys.ids().any(|(algorithm, _)| algorithm == Algorithm::Hs256);
    if is_secret && mode & 0o007 != 0 {
        return Err(KeyFileProblem::Exposed { mode });
    }
    Ok(keys)
}
