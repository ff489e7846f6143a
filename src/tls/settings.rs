//! Settings of the daemon's certificates.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Default interval of the looks at files.
pub(crate) const CHECK: Duration = Duration::from_secs(5);

/// Which certificate the daemon presents, and which client certificates it accepts: for
/// `Daemon::builder().tls(…)`. The default is self-signed certificates that the daemon makes and
/// renews itself.
///
/// ```
/// use weir::daemon::{AcmeSettings, TlsSettings};
///
/// let files = TlsSettings::files("/etc/weir/fullchain.pem", "/etc/weir/privkey.pem");
/// let acme = AcmeSettings::new(["relay.example"]).with_contact("mailto:ops@relay.example");
/// let acme = TlsSettings::acme(acme).with_client_authorities("/etc/weir/clients.pem");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    pub(super) source: SourceSettings,
    pub(super) client_authorities: Option<PathBuf>,
    pub(super) check: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SourceSettings {
    SelfSigned,
    Files { certificate: PathBuf, key: PathBuf },
    Acme(AcmeSettings),
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { source: SourceSettings::SelfSigned, client_authorities: None, check: CHECK }
    }
}

impl TlsSettings {
    /// The daemon makes its certificates itself. This is the default.
    pub fn self_signed() -> Self {
        Self::default()
    }

    /// Certificate and key are in PEM files. The first certificate is the server's; those of
    /// intermediate authorities follow it. The key is not encrypted, and its owner's alone: its mode
    /// is 0600 or stricter, or 0640 if root is the owner.
    ///
    /// The daemon reads the files again when they change, and with `Daemon::reload_certificates`. If
    /// they cannot be used then, it keeps the certificate that it has. Open sessions go on.
    pub fn files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let (certificate, key) = (certificate.into(), key.into());
        Self { source: SourceSettings::Files { certificate, key }, ..Self::default() }
    }

    /// An authority issues the certificate, and renews it, over ACME (RFC 8555).
    pub fn acme(settings: AcmeSettings) -> Self {
        Self { source: SourceSettings::Acme(settings), ..Self::default() }
    }

    /// Sets a PEM file of authorities for certificates of native clients. A client over raw QUIC may
    /// then show a certificate, and its handshake fails if none of these authorities has issued it.
    /// Clients without a certificate can connect. Browsers are not asked for one. The daemon
    /// reads the file again when it changes. The default is none.
    #[must_use]
    pub fn with_client_authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.client_authorities = Some(file.into());
        self
    }

    /// Sets the interval at which the daemon looks whether its files have changed. The default is
    /// 5 s, and the minimum 10 ms.
    #[must_use]
    pub fn with_check(mut self, interval: Duration) -> Self {
        self.check = interval.max(Duration::from_millis(10));
        self
    }

    /// The address that answers nothing but challenges.
    pub(crate) fn challenge_address(&self) -> Option<SocketAddr> {
        match &self.source {
            SourceSettings::Acme(acme) => acme.listen,
            _ => None,
        }
    }

    /// The names for which an authority issues certificates.
    pub(crate) fn domains(&self) -> &[String] {
        match &self.source {
            SourceSettings::Acme(acme) => &acme.domains,
            _ => &[],
        }
    }
}

/// How the daemon gets its certificate over ACME (RFC 8555). Its use means that you agree to the
/// terms of service of the authority.
///
/// The account, the certificate and its key are kept in the directory `acme` of the state directory.
/// Until the first certificate is there, the daemon presents a self-signed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSettings {
    pub(crate) domains: Vec<String>,
    pub(super) contact: Vec<String>,
    pub(super) directory: AcmeDirectory,
    pub(crate) challenge: AcmeChallenge,
    pub(crate) listen: Option<SocketAddr>,
    pub(super) authorities: Option<PathBuf>,
}

/// The authority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcmeDirectory {
    /// Let's Encrypt. This is the default.
    #[default]
    Production,
    /// Let's Encrypt for experiments: higher limits, and certificates that nobody trusts.
    Staging,
    /// The https address of another authority's directory (RFC 8555, section 7.1.1).
    Url(String),
}

impl AcmeDirectory {
    pub(super) fn url(&self) -> &str {
        use instant_acme::LetsEncrypt;
        match self {
            Self::Production => LetsEncrypt::Production.url(),
            Self::Staging => LetsEncrypt::Staging.url(),
            Self::Url(url) => url,
        }
    }
}

/// How the daemon proves that it has the names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcmeChallenge {
    /// In a TLS handshake (RFC 8737). The authority connects to TCP port 443. This is the default.
    #[default]
    TlsAlpn01,
    /// Over HTTP (RFC 8555, section 8.3). The authority connects to TCP port 80.
    Http01,
}

/// A name for which no certificate can be had over ACME.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name such as \"relay.example\": no port, address or wildcard")]
pub struct DomainError(pub(crate) String);

impl AcmeSettings {
    /// Sets the names of the certificate.
    pub fn new<T: Into<String>>(domains: impl IntoIterator<Item = T>) -> Self {
        Self {
            domains: domains.into_iter().map(Into::into).collect(),
            contact: Vec::new(),
            directory: AcmeDirectory::default(),
            challenge: AcmeChallenge::default(),
            listen: None,
            authorities: None,
        }
    }

    /// Adds an address for messages from the authority, such as `mailto:ops@relay.example`.
    #[must_use]
    pub fn with_contact(mut self, contact: impl Into<String>) -> Self {
        self.contact.push(contact.into());
        self
    }

    /// Sets the authority. The default is Let's Encrypt.
    #[must_use]
    pub fn with_directory(mut self, directory: AcmeDirectory) -> Self {
        self.directory = directory;
        self
    }

    /// Sets how the daemon proves that it has the names. The default is TLS-ALPN-01.
    #[must_use]
    pub fn with_challenge(mut self, challenge: AcmeChallenge) -> Self {
        self.challenge = challenge;
        self
    }

    /// Sets a TCP address of its own for the challenges, such as `[::]:443` or `[::]:80`. It answers
    /// nothing else. The default is none: the daemon's listeners answer, and something has to
    /// forward port 443 or 80 to one of them.
    #[must_use]
    pub fn with_listen(mut self, address: impl Into<Option<SocketAddr>>) -> Self {
        self.listen = address.into();
        self
    }

    /// Sets a PEM file of authorities for the directory's own certificate. The default is the
    /// authorities that the system trusts.
    #[must_use]
    pub fn with_authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities = Some(file.into());
        self
    }

    /// Returns an error for a name of which no certificate can be had.
    pub(crate) fn check(&self) -> Result<(), DomainError> {
        let fits = |name: &&String| {
            let label = |label: &str| {
                !label.is_empty()
                    && label.len() <= 63
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            let address = name.parse::<std::net::IpAddr>().is_ok();
            name.len() <= 253 && name.contains('.') && !address && name.split('.').all(label)
        };
        match self.domains.iter().find(|name| !fits(name)) {
            Some(name) => Err(DomainError(name.clone())),
            None if self.domains.is_empty() => Err(DomainError(String::new())),
            None => Ok(()),
        }
    }
}
