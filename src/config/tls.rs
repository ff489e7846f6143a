//! `[tls]`: the daemon's certificate, and those of its clients.

use super::{Span, WrongValue};
use crate::daemon::{AcmeChallenge, AcmeDirectory, AcmeSettings, TlsSettings};
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Default interval of the looks at files.
const CHECK: Duration = crate::daemon::CHECK;

/// `[tls]`: the daemon's certificate, and those of its clients.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsConfig {
    /// A PEM file with the certificate, and those of intermediate authorities after it. Default none:
    /// the daemon makes its certificates.
    pub certificate: Option<PathBuf>,
    /// A PEM file with the key of that certificate. Default none.
    pub key: Option<PathBuf>,
    /// Interval of the looks whether these files have changed. Default 5 s.
    pub check: Span,
    /// A PEM file of authorities for certificates of native clients. Default none: clients are not
    /// asked for certificates.
    pub client_authorities: Option<PathBuf>,
    /// `[tls.acme]`. Default none.
    pub acme: Option<AcmeConfig>,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            check: Span(CHECK),
            client_authorities: None,
            acme: None,
        }
    }
}

/// `[tls.acme]`: a certificate that an authority issues and renews over ACME (RFC 8555).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AcmeConfig {
    /// The names of the certificate, at least one.
    pub domains: Vec<String>,
    /// An address for messages from the authority. Default none.
    pub contact: Option<String>,
    /// The authority: `production` or `staging` of Let's Encrypt, or an https address. Default
    /// `production`.
    pub directory: DirectoryConfig,
    /// How the daemon proves that it has the names. Default `tls-alpn-01`.
    pub challenge: ChallengeConfig,
    /// An address for challenges only. Default none: the daemon's listeners answer them.
    #[schemars(with = "Option<super::schema_types::Address>")]
    pub listen: Option<SocketAddr>,
    /// A PEM file of authorities for the authority's own server. Default none: those of the system.
    pub authorities: Option<PathBuf>,
}

/// As [`AcmeDirectory`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DirectoryConfig(pub AcmeDirectory);

impl TryFrom<String> for DirectoryConfig {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match &*text {
            "production" => Ok(Self(AcmeDirectory::Production)),
            "staging" => Ok(Self(AcmeDirectory::Staging)),
            url if url.len() > 8 && url.starts_with("https://") => {
                Ok(Self(AcmeDirectory::Url(text)))
            }
            _ => Err(format!("{text:?} is neither production, staging nor an https address")),
        }
    }
}

/// As [`AcmeChallenge`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ChallengeConfig {
    /// In a TLS handshake, on TCP port 443.
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// Over HTTP, on TCP port 80.
    #[serde(rename = "http-01")]
    Http01,
}

impl TlsConfig {
    pub(super) fn check(&self) -> Result<(), WrongValue> {
        let wrong = |keys, reason: &str| Err(WrongValue { keys, reason: reason.to_owned() });
        match (&self.certificate, &self.key) {
            (Some(_), None) => return wrong(&["tls.certificate"], "tls.key is missing"),
            (None, Some(_)) => return wrong(&["tls.key"], "tls.certificate is missing"),
            _ => {}
        }
        if self.check.0 < Duration::from_millis(10) {
            return wrong(&["tls.check"], "it is below 10ms");
        }
        let Some(acme) = &self.acme else { return Ok(()) };
        if self.certificate.is_some() {
            let reason = "the certificate is either in files or from an authority, not both";
            return wrong(&["tls.certificate"], reason);
        }
        if acme.domains.is_empty() {
            return wrong(&["tls.acme.domains", "tls.acme"], "tls.acme.domains names no name");
        }
        if let Err(error) = acme.settings().check() {
            return wrong(&["tls.acme.domains"], &error.to_string());
        }
        let fits =
            |contact: &String| contact.contains('@') && !contact.contains(char::is_whitespace);
        if !acme.contact.as_ref().is_none_or(fits) {
            return wrong(&["tls.acme.contact"], "it is not an address such as ops@relay.example");
        }
        Ok(())
    }

    /// Returns the settings of the daemon's certificates.
    #[must_use]
    pub fn settings(&self) -> TlsSettings {
        let settings = match (&self.certificate, &self.key, &self.acme) {
            (Some(certificate), Some(key), _) => TlsSettings::files(certificate, key),
            (_, _, Some(acme)) => TlsSettings::acme(acme.settings()),
            _ => TlsSettings::self_signed(),
        };
        let settings = settings.with_check(self.check.0);
        match &self.client_authorities {
            Some(file) => settings.with_client_authorities(file),
            None => settings,
        }
    }
}

impl AcmeConfig {
    fn settings(&self) -> AcmeSettings {
        let challenge = match self.challenge {
            ChallengeConfig::TlsAlpn01 => AcmeChallenge::TlsAlpn01,
            ChallengeConfig::Http01 => AcmeChallenge::Http01,
        };
        let mut settings = AcmeSettings::new(self.domains.clone())
            .with_directory(self.directory.0.clone())
            .with_challenge(challenge)
            .with_listen(self.listen);
        if let Some(contact) = &self.contact {
            let has_scheme = contact.starts_with("mailto:");
            let scheme = if has_scheme { "" } else { "mailto:" };
            settings = settings.with_contact(format!("{scheme}{contact}"));
        }
        match &self.authorities {
            Some(file) => settings.with_authorities(file),
            None => settings,
        }
    }
}
