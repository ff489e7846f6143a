//! The keys that verify tokens: where they come from, and the task that looks whether they have changed.

use super::blocking::blocking;
use super::http_authorize::HttpAuthorize;
use super::key_server::KeyServer;
use super::keys::{KeyFile, KeyFileError};
use super::settings::{Settings, SettingsError};
use crate::access::AccessRules;
use crate::access::gate::Keyring;
use crate::broker::admission::Admission;
use std::sync::Arc;
use tokio::task::AbortHandle;

/// The origin of the keys that verify tokens.
#[derive(Debug, Clone)]
pub(super) enum Keys {
    File(Arc<KeyFile>),
    Server(Arc<KeyServer>),
}

/// Keys that a task watches. Dropping it ends the task.
pub(super) struct WatchedKeys {
    keys: Keys,
    // The keys of the rules that these are for.
    keyring: Arc<Keyring>,
    watching: AbortHandle,
}

impl Drop for WatchedKeys {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl WatchedKeys {
    /// Watches keys for the rules in force.
    pub(super) fn start(keys: Keys, admission: &Admission) -> Self {
        let keyring = admission.access().rules().keyring().clone();
        let set = keyring.clone();
        let watching = match &keys {
            Keys::File(file) => tokio::spawn(file.clone().watch(set)),
            Keys::Server(server) => {
                tokio::spawn(server.clone().watch(move |verifier| set.set(verifier)))
            }
        };
        Self { keys, keyring, watching: watching.abort_handle() }
    }
}

impl Keys {
    /// Reads or fetches them again.
    pub(super) async fn reload(self, keyring: Arc<Keyring>) -> Result<(), KeyFileError> {
        match self {
            Self::Server(server) => server.reload().await,
            Self::File(file) => blocking(move || file.reload(&keyring, true)).await.map(|_| ()),
        }
    }
}

/// The settings in force. The lock of it is held while they change, so that one change follows the
/// other.
pub(super) struct InForce {
    pub(super) settings: Settings,
    pub(super) keys: Option<WatchedKeys>,
}

impl std::fmt::Debug for InForce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InForce")
    }
}

impl InForce {
    /// The keys that verify tokens, if they are in a file or at a server, and where they are used.
    pub(super) fn keys(&self) -> Option<(Keys, Arc<Keyring>)> {
        self.keys.as_ref().map(|watched| (watched.keys.clone(), watched.keyring.clone()))
    }
}

/// Reads the files of keys and authorities that rules name. With `keeps_keys`, those stay that were read
/// before.
pub(super) async fn open_keys(
    mut rules: AccessRules,
    keeps_keys: bool,
) -> Result<(AccessRules, Option<Keys>), SettingsError> {
    if let Some(remote) = rules.back_end.take() {
        rules = rules.authorize(blocking(move || HttpAuthorize::new(&remote)).await?);
    }
    if keeps_keys {
        return Ok((rules, None));
    }
    if let Some((path, expectations)) = rules.key_file.take() {
        let (file, verifier) = blocking(|| KeyFile::open(path, expectations)).await?;
        return Ok((rules.tokens(verifier), Some(Keys::File(Arc::new(file)))));
    }
    if let Some((remote, expectations)) = rules.key_server.take() {
        let server = blocking(move || KeyServer::open(&remote, expectations)).await?;
        let server = Arc::new(server);
        return Ok((rules.key_source(server.clone()), Some(Keys::Server(server))));
    }
    Ok((rules, None))
}
