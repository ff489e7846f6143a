//! Certificates from an authority over ACME (RFC 8555): ordered, kept, and renewed.
//!
//! The library does the protocol. Here are when to order, the answers to challenges, and what is
//! kept. Until there is a certificate, a self-signed one takes its place.

mod challenges;
mod https;
mod order;
#[cfg(test)]
mod tests;

pub(crate) use challenges::{ACME_TLS, Challenges};

use super::files::Pair;
use super::identity::{Identities, IdentityError};
use super::info;
use super::pem;
use super::settings::AcmeSettings;
use super::state_file::{self, PRIVATE};
use super::trust::Expect;
use https::Https;
use instant_acme::AccountCredentials;
use order::OrderError;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::Notify;

/// Directory of what is kept, in the state directory.
const DIRECTORY: &str = "acme";

/// Names of the files, in a directory for each authority.
const PAIR: [&str; 2] = ["certificate.pem", "key.pem"];
const ACCOUNT: &str = "account.json";

/// Delay after the first failure in a row; each further one waits four times as long. So there are
/// four attempts in the first hour: Let's Encrypt allows five that fail.
const FIRST_RETRY: Duration = Duration::from_secs(60);
const LAST_RETRY: Duration = Duration::from_secs(6 * 3600);

/// Longest sleep. The time of day may be set, or the machine suspended.
const LONGEST: Duration = Duration::from_secs(3600);

/// The certificate of an authority.
#[derive(Debug)]
pub(crate) struct Acme {
    settings: AcmeSettings,
    // The directory of this authority's files.
    directory: Option<PathBuf>,
    // Read for each handshake, written when a certificate was issued.
    pair: RwLock<Option<Arc<Pair>>>,
    // Presented until there is one.
    placeholder: Identities,
    pub(super) challenges: Arc<Challenges>,
    // Ends a sleep early.
    wake: Notify,
}

impl Acme {
    /// Reads the certificate that is kept in the state directory.
    pub(super) fn open(
        settings: AcmeSettings,
        state: Option<&Path>,
        now: OffsetDateTime,
    ) -> Result<Self, IdentityError> {
        settings.check().map_err(IdentityError::Domain)?;
        let directory =
            state.map(|state| state.join(DIRECTORY).join(folder(settings.directory.url())));
        let mut pair = None;
        if let Some(directory) = &directory {
            let failed = |error| IdentityError::State { path: directory.clone(), error };
            fs::create_dir_all(directory).map_err(failed)?;
            for private in [PAIR[1], ACCOUNT] {
                let path = directory.join(private);
                if path.exists() {
                    let failed = |error| IdentityError::State { path: path.clone(), error };
                    state_file::tighten(&path, PRIVATE).map_err(failed)?;
                }
            }
            pair = kept(directory, now);
        }
        let covers = |pair: &Pair| {
            let names: Vec<_> = pair.info.names.iter().map(|name| name.to_lowercase()).collect();
            settings.domains.iter().all(|domain| names.contains(&domain.to_lowercase()))
        };
        let pair = pair.filter(covers);
        if let Some(pair) = &pair {
            pair.log("certificate");
        }
        Ok(Self {
            settings,
            directory,
            pair: RwLock::new(pair.map(Arc::new)),
            placeholder: Identities::open(None)?,
            challenges: Arc::default(),
            wake: Notify::new(),
        })
    }

    pub(super) fn pair(&self) -> Option<Arc<Pair>> {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn placeholder(&self) -> &Identities {
        &self.placeholder
    }

    /// Returns the certificate for a handshake.
    pub(super) fn resolve(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut protocols = hello.alpn().into_iter().flatten();
        if protocols.next() == Some(ACME_TLS) && protocols.next().is_none() {
            return self.challenges.tls(hello.server_name()?);
        }
        Some(self.pair().map_or_else(|| self.placeholder.current(), |pair| pair.certified.clone()))
    }

    /// Returns how long to wait until a certificate is to be ordered: until a third of the life of
    /// the one in use is left.
    fn wait(&self, now: OffsetDateTime) -> Duration {
        let Some(pair) = self.pair() else { return Duration::ZERO };
        let (from, until) = (pair.info.from, pair.info.until);
        let due = until - (until - from) / 3;
        Duration::try_from(due - now).unwrap_or_default()
    }

    /// Orders a certificate now if it is due, in place of after the delay of a failure.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    async fn sleep(&self, longest: Duration) {
        let _ = tokio::time::timeout(longest, self.wake.notified()).await;
    }

    /// Waits until a certificate is due, and orders it. Returns when there is a new one, in use and
    /// kept.
    pub(super) async fn renewed(self: &Arc<Self>) {
        let mut retry = FIRST_RETRY;
        loop {
            let wait = self.wait(OffsetDateTime::now_utc());
            if !wait.is_zero() {
                self.sleep(wait.min(LONGEST)).await;
                continue;
            }
            let mut ordered = self.order().await;
            if ordered.as_ref().is_err_and(OrderError::unknown_account) {
                // It was removed, so that this creates another.
                ordered = self.order().await;
            }
            match ordered {
                Ok(()) => return,
                Err(error) => {
                    let wait = retry.mul_f64(0.8 + 0.4 * rand::random::<f64>());
                    let (names, again) = (self.settings.domains.join(" "), wait.as_secs());
                    let until = self.pair().map(|pair| info::utc(pair.info.until));
                    tracing::warn!(
                        %error, names, until, "no new certificate: trying again in {again} s"
                    );
                    self.sleep(wait).await;
                    retry = (retry * 4).min(LAST_RETRY);
                    if let Err(error) = self.placeholder.renew(OffsetDateTime::now_utc()) {
                        tracing::error!(%error, "renewing the certificate");
                    }
                }
            }
        }
    }

    async fn order(self: &Arc<Self>) -> Result<(), OrderError> {
        let this = self.clone();
        let prepare = move || {
            let expect = match &this.settings.authorities {
                Some(file) => Expect::authority(file),
                None => Expect::system(),
            };
            let https = expect.and_then(|expect| Https::new(&expect));
            https.map(|https| (https, this.account()))
        };
        let (https, account) = blocking(prepare).await?.map_err(other)?;
        let settings = &self.settings;
        let (account, new) = order::account(settings, account, Box::new(https)).await?;
        if let Some(text) = new {
            self.clone().keep(vec![(ACCOUNT, text, PRIVATE)]).await?;
        }
        let issued = order::order(settings, &account, &self.challenges).await;
        self.challenges.clear();
        let [chain, key] = issued.inspect_err(|error| {
            if let (true, Some(directory)) = (error.unknown_account(), &self.directory) {
                let _ = fs::remove_file(directory.join(ACCOUNT));
            }
        })?;
        let names = PAIR.map(Path::new);
        let pair = Pair::parse(names, [&chain, &key], OffsetDateTime::now_utc());
        let pair = pair.map_err(other)?;
        pair.log("new certificate");
        *self.pair.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(pair));
        // The key first: a certificate without its key is not used. One that cannot be kept is used
        // all the same.
        let files = vec![(PAIR[1], key, PRIVATE), (PAIR[0], chain, 0o644)];
        if let Err(error) = self.clone().keep(files).await {
            tracing::error!(%error, "the new certificate cannot be kept: a restart orders another");
        }
        Ok(())
    }

    // Returns the account that is kept. It is of this authority, because of the directory's name.
    fn account(&self) -> Option<AccountCredentials> {
        let text = fs::read_to_string(self.directory.as_deref()?.join(ACCOUNT)).ok()?;
        let account = serde_json::from_str(&text);
        account.inspect_err(|error| tracing::warn!(%error, "the kept account cannot be read")).ok()
    }

    async fn keep(
        self: Arc<Self>,
        files: Vec<(&'static str, String, u32)>,
    ) -> Result<(), OrderError> {
        let write = move || {
            let Some(directory) = &self.directory else { return Ok(()) };
            for (name, text, mode) in files {
                state_file::write(&directory.join(name), &text, mode)?;
            }
            Ok(())
        };
        let written: Result<(), IdentityError> = blocking(write).await?;
        written.map_err(other)
    }
}

fn other(error: impl std::fmt::Display) -> OrderError {
    OrderError::Other(error.to_string())
}

// Files are read, written and synced: not where others have to be served.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OrderError> {
    tokio::task::spawn_blocking(run).await.map_err(other)
}

// Reads the pair that is kept. A key whose certificate is another one's was written last before the
// daemon was killed.
fn kept(directory: &Path, now: OffsetDateTime) -> Option<Pair> {
    let paths = PAIR.map(|name| directory.join(name));
    if !paths[0].exists() {
        return None;
    }
    let pair = Pair::read([&paths[0], &paths[1]], now);
    pair.inspect_err(|error: &pem::CertificateError| {
        tracing::warn!(%error, "the kept certificate cannot be used: ordering a new one");
    })
    .ok()
}

// The name of an authority's directory: `acme-v02.api.letsencrypt.org-directory`.
fn folder(url: &str) -> String {
    let plain = |byte: char| byte.is_ascii_alphanumeric() || byte == '.' || byte == '-';
    let name = url.trim_start_matches("https://");
    let name: String = name.chars().map(|c| if plain(c) { c } else { '-' }).collect();
    name.trim_start_matches('.').to_owned()
}
