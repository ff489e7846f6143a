//! The certificate that the daemon presents over UDP and TCP, wherever it comes from.
//!
//! | source | file | changes |
//! |---|---|---|
//! | self-signed | `identity` | every ten days |
//! | files | `files` | when the files change, or at a request |
//! | an authority | `acme` | when a third of its life is left |
//!
//! A handshake takes the certificate that is in use then. Established sessions are not concerned by
//! a change.

use super::acme::{Acme, Challenges};
use super::announce::Announce;
use super::certificate_hash::CertificateHash;
use super::client_authorities::ClientAuthorities;
use super::files::Files;
use super::identity::{Identities, IdentityError};
use super::pem::CertificateError;
use super::settings::{AcmeChallenge, SourceSettings, TlsSettings};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Interval of the checks whether a self-signed certificate is due to be replaced.
const RENEWAL: Duration = Duration::from_secs(600);

/// Facts about the certificate that a page needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CertificateFacts {
    /// Whether a page has to pin the hash, because no authority vouches for the certificate.
    pub(crate) pinning: bool,
    /// Hash of the certificate in use.
    pub(crate) current: CertificateHash,
    /// Hash of the next certificate, if it exists.
    pub(crate) next: Option<CertificateHash>,
}

impl CertificateFacts {
    /// Returns the hash in use, and the next one if there is one.
    pub(crate) fn hashes(&self) -> Vec<CertificateHash> {
        [self.current].into_iter().chain(self.next).collect()
    }
}

/// The result of `Daemon::reload_certificates`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// The files that were read again. Empty without files: the daemon renews the other certificates
    /// itself.
    pub files: Vec<PathBuf>,
    /// Whether an authority is asked for a certificate at once if one is due, in place of after the
    /// delay that follows a failure.
    pub acme: bool,
}

#[derive(Debug)]
enum Source {
    SelfSigned(Identities),
    Files(Files),
    Acme(Arc<Acme>),
}

/// The daemon's certificates. TLS resolves handshakes with them.
#[derive(Debug)]
pub(crate) struct Certificates {
    source: Source,
    clients: Option<Arc<ClientAuthorities>>,
    check: Duration,
    challenge_over_http: bool,
    announce: Announce,
}

impl Certificates {
    /// Reads or makes the certificates. Keeps what the daemon makes itself in `state`, and writes the
    /// hashes there and to `also`.
    pub(crate) fn open(
        settings: TlsSettings,
        state: Option<PathBuf>,
        also: Option<PathBuf>,
    ) -> Result<Self, IdentityError> {
        let now = OffsetDateTime::now_utc();
        let TlsSettings { source, client_authorities, check } = settings;
        if let Some(directory) = &state {
            let failed = |error| IdentityError::State { path: directory.clone(), error };
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut challenge_over_http = false;
        let source = match source {
            SourceSettings::SelfSigned => Source::SelfSigned(Identities::open(state.clone())?),
            SourceSettings::Files { certificate, key } => {
                Source::Files(Files::open(certificate, key, now)?)
            }
            SourceSettings::Acme(settings) => {
                challenge_over_http = settings.challenge == AcmeChallenge::Http01;
                Source::Acme(Arc::new(Acme::open(settings, state.as_deref(), now)?))
            }
        };
        let clients = client_authorities.map(ClientAuthorities::open).transpose()?.map(Arc::new);
        let announce = Announce { state, also };
        let this = Self { source, clients, check, challenge_over_http, announce };
        this.announce()?;
        Ok(this)
    }

    /// Returns self-signed certificates that are not kept.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Arc<Self> {
        Arc::new(Self::open(TlsSettings::default(), None, None).unwrap())
    }

    fn announce(&self) -> Result<(), IdentityError> {
        self.announce.write(&self.facts().hashes())
    }

    /// Returns what a page has to know.
    pub(crate) fn facts(&self) -> CertificateFacts {
        let made = |identities: &Identities| {
            let [current, next] = identities.hashes();
            CertificateFacts { pinning: true, current, next: Some(next) }
        };
        let pair = match &self.source {
            Source::SelfSigned(identities) => return made(identities),
            Source::Files(files) => files.pair(),
            Source::Acme(acme) => match acme.pair() {
                Some(pair) => pair,
                None => return made(acme.placeholder()),
            },
        };
        let pinning = pair.info.is_pinned();
        CertificateFacts { pinning, current: pair.info.hash, next: None }
    }

    /// Returns when the certificate in use ends, in seconds since 1970.
    pub(crate) fn expires(&self) -> i64 {
        let until = match &self.source {
            Source::SelfSigned(identities) => identities.until(),
            Source::Files(files) => files.pair().info.until,
            Source::Acme(acme) => match acme.pair() {
                Some(pair) => pair.info.until,
                None => acme.placeholder().until(),
            },
        };
        until.unix_timestamp()
    }

    /// Returns the authorities of client certificates.
    pub(super) fn clients(&self) -> Option<Arc<ClientAuthorities>> {
        self.clients.clone()
    }

    /// Returns the answers to challenges over HTTP, if the daemon may have to give some.
    pub(crate) fn http_challenges(&self) -> Option<Arc<Challenges>> {
        match &self.source {
            Source::Acme(acme) if self.challenge_over_http => Some(acme.challenges.clone()),
            _ => None,
        }
    }

    /// Returns whether challenges in TLS handshakes may come.
    pub(super) fn has_tls_challenges(&self) -> bool {
        matches!(self.source, Source::Acme(_)) && !self.challenge_over_http
    }

    /// Reads all files again, and looks whether a certificate is to be ordered. An error leaves what could not be read as it was. Blocks.
    pub(crate) fn reload(&self) -> Result<Reloaded, CertificateError> {
        let mut files = Vec::new();
        let certificate = self.look(true, &mut files);
        let clients = self.look_at_clients(true, &mut files);
        certificate.and(clients)?;
        let acme = match &self.source {
            Source::Acme(acme) => {
                acme.wake();
                true
            }
            _ => false,
        };
        Ok(Reloaded { files, acme })
    }

    fn look(&self, always: bool, read: &mut Vec<PathBuf>) -> Result<(), CertificateError> {
        let Source::Files(files) = &self.source else { return Ok(()) };
        if files.reload(always, OffsetDateTime::now_utc())? {
            read.push(files.path());
            if let Err(error) = self.announce() {
                tracing::error!(%error, "clients on this machine do not learn the new hash");
            }
        }
        Ok(())
    }

    fn look_at_clients(
        &self,
        always: bool,
        read: &mut Vec<PathBuf>,
    ) -> Result<(), CertificateError> {
        let Some(clients) = &self.clients else { return Ok(()) };
        if clients.reload(always)? {
            let file = clients.path();
            tracing::info!(?file, "read the authorities of client certificates");
            read.push(file);
        }
        Ok(())
    }

    // One look at all files, whose faults are logged.
    fn look_around(&self) {
        for looked in
            [self.look(false, &mut Vec::new()), self.look_at_clients(false, &mut Vec::new())]
        {
            if let Err(error) = looked {
                tracing::error!(%error, "changed files cannot be used: what was read before stays");
            }
        }
    }

    fn renew(&self, identities: &Identities, now: OffsetDateTime) -> Result<(), IdentityError> {
        if identities.renew(now)? {
            tracing::info!(certificates = ?identities, "changed to the next certificate");
            self.announce()?;
        }
        Ok(())
    }

    /// Replaces certificates when they are due, or when their files have changed. Established sessions
    /// keep theirs. Does not return.
    pub(crate) async fn renewing(self: Arc<Self>) {
        let files = self.clone().watching();
        let due = self.issuing();
        tokio::join!(files, due);
    }

    async fn watching(self: Arc<Self>) {
        if !matches!(self.source, Source::Files(_)) && self.clients.is_none() {
            return std::future::pending().await;
        }
        let mut check = tokio::time::interval(self.check);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            check.tick().await;
            let this = self.clone();
            background(move || this.look_around()).await;
        }
    }

    async fn issuing(self: Arc<Self>) {
        match &self.source {
            Source::SelfSigned(_) => {
                // Uses the time of day, which advances while the machine is suspended.
                let mut check = tokio::time::interval(RENEWAL);
                loop {
                    check.tick().await;
                    let this = self.clone();
                    background(move || {
                        if let Source::SelfSigned(identities) = &this.source
                            && let Err(error) = this.renew(identities, OffsetDateTime::now_utc())
                        {
                            tracing::error!(%error, "renewing the certificate");
                        }
                    })
                    .await;
                }
            }
            Source::Files(_) => std::future::pending().await,
            Source::Acme(acme) => loop {
                acme.renewed().await;
                let this = self.clone();
                background(move || {
                    if let Err(error) = this.announce() {
                        tracing::error!(%error, "clients on this machine do not learn the new hash");
                    }
                })
                .await;
            },
        }
    }

    /// Replaces a self-signed certificate as if it were this time.
    #[cfg(test)]
    pub(crate) fn renew_at(&self, now: OffsetDateTime) {
        if let Source::SelfSigned(identities) = &self.source {
            self.renew(identities, now).unwrap();
        }
    }
}

// Files are read, written and synced: not where others have to be served.
async fn background(run: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(run).await {
        tracing::error!(%error, "a task for certificates failed");
    }
}

impl ResolvesServerCert for Certificates {
    // The same certificate for every name: a client checks whether it is for the name, or its hash.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match &self.source {
            Source::SelfSigned(identities) => Some(identities.current()),
            Source::Files(files) => Some(files.pair().certified.clone()),
            Source::Acme(acme) => acme.resolve(&hello),
        }
    }
}
