//! `[access]`: who may do what.

use super::{Span, WrongValue};
use crate::access::{
    AccessRules, Expectations, MAX_LEEWAY, MAX_REMOTE_TIMEOUT, REMOTE_TIMEOUT, Remote, Rights,
};
use crate::daemon::fetch;
use crate::wire::Filter;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

/// `[access]`: who may do what. Without any of it, everybody who reaches the daemon may do everything.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AccessConfig {
    /// The keys that verify tokens: a file with a set of keys (JWKS, RFC 7517) or a public key (PEM), or
    /// the https address of a set. Default none.
    pub keys: Option<PathBuf>,
    /// The address of a program that decides who a peer is, in place of keys. Default none.
    pub authorize: Option<String>,
    /// Maximum time of a question to that program, at most 10 s. Default 2 s.
    pub timeout: Span,
    /// A PEM file of authorities for the certificate of the server of `keys` or `authorize`. Default
    /// those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// The audience (`aud`) that tokens have to name. Default none: tokens that name one are refused.
    pub audience: Option<String>,
    /// The issuer (`iss`) that tokens have to name. Default none: any.
    pub issuer: Option<String>,
    /// How much the clock of the issuer may be ahead or behind, at most 60 s, which is the default.
    pub leeway: Span,
    /// `[access.public]`: what everybody may do, without a token. Default nothing, if there is another
    /// rule.
    pub public: Option<RightsConfig>,
    /// `[access.certificates]`: what native clients may do that show a certificate of
    /// `tls.client_authorities`. Default no more than everybody.
    pub certificates: Option<RightsConfig>,
}

/// Filters to publish and to subscribe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RightsConfig {
    /// Filters of the topics that may be published to. Default none.
    pub publish: Vec<String>,
    /// Filters of the topics that may be subscribed to and read. Default none.
    pub subscribe: Vec<String>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            keys: None,
            authorize: None,
            timeout: Span(REMOTE_TIMEOUT),
            authorities: None,
            audience: None,
            issuer: None,
            leeway: Span(MAX_LEEWAY),
            public: None,
            certificates: None,
        }
    }
}

impl RightsConfig {
    fn rights(&self) -> Result<Rights, String> {
        let filters = |list: &[String]| -> Result<Vec<Filter>, String> {
            let filter = |text: &String| {
                Filter::new(text).map_err(|error| format!("{text:?} is not a filter: {error}"))
            };
            list.iter().map(filter).collect()
        };
        Rights::new(filters(&self.publish)?, filters(&self.subscribe)?)
            .map_err(|error| error.to_string())
    }
}

impl AccessConfig {
    pub(super) fn check(&self, has_client_authorities: bool) -> Result<(), WrongValue> {
        let wrong = |keys, reason: &str| Err(WrongValue { keys, reason: reason.to_owned() });
        if self.leeway.0 > MAX_LEEWAY {
            return wrong(&["access.leeway"], "it is above 60s");
        }
        if self.keys.is_none() {
            if self.audience.is_some() {
                return wrong(&["access.audience"], "it is for tokens, and access.keys is missing");
            }
            if self.issuer.is_some() {
                return wrong(&["access.issuer"], "it is for tokens, and access.keys is missing");
            }
        }
        self.check_servers()?;
        if self.certificates.is_some() && !has_client_authorities {
            let reason =
                "tls.client_authorities is missing, so that no client certificate is accepted";
            return wrong(&["access.certificates"], reason);
        }
        for (rights, keys) in [
            (&self.public, &["access.public.publish", "access.public.subscribe"]),
            (&self.certificates, &["access.certificates.publish", "access.certificates.subscribe"]),
        ] {
            if let Some(Err(reason)) = rights.as_ref().map(RightsConfig::rights) {
                return Err(WrongValue { keys, reason });
            }
        }
        Ok(())
    }

    // The address of `keys`, if it is not a file.
    fn key_server(&self) -> Option<&str> {
        let keys = self.keys.as_ref()?.to_str()?;
        keys.contains("://").then_some(keys)
    }

    fn check_servers(&self) -> Result<(), WrongValue> {
        let wrong = |keys, reason: &str| Err(WrongValue { keys, reason: reason.to_owned() });
        if let Some(Err(error)) = self.key_server().map(fetch::check) {
            return wrong(&["access.keys"], &error.to_string());
        }
        if let Some(Err(error)) = self.authorize.as_deref().map(fetch::check) {
            return wrong(&["access.authorize"], &error.to_string());
        }
        if self.keys.is_some() && self.authorize.is_some() {
            let reason = "access.keys is set too: the program verifies tokens, or the daemon does";
            return wrong(&["access.authorize"], reason);
        }
        if self.timeout.0.is_zero() || self.timeout.0 > MAX_REMOTE_TIMEOUT {
            return wrong(&["access.timeout"], "it is not above 0s and at most 10s");
        }
        let secure = |url: &str| url.starts_with("https:");
        let servers = self.key_server().into_iter().chain(self.authorize.as_deref());
        if self.authorities.is_some() && !servers.into_iter().any(secure) {
            let reason = "it is for a server, and neither access.keys nor access.authorize is an \
                          https address";
            return wrong(&["access.authorities"], reason);
        }
        Ok(())
    }

    fn remote(&self, url: &str) -> Remote {
        let remote = Remote::new(url).with_timeout(self.timeout.0);
        match &self.authorities {
            Some(file) => remote.with_authorities(file),
            None => remote,
        }
    }

    /// Returns whether everybody may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rules().is_open()
    }

    /// Returns the rules.
    #[must_use]
    pub fn rules(&self) -> AccessRules {
        let mut rules = AccessRules::default();
        if let Some(keys) = &self.keys {
            let mut expectations = Expectations::default().with_leeway(self.leeway.0);
            if let Some(audience) = &self.audience {
                expectations = expectations.with_audience(audience);
            }
            if let Some(issuer) = &self.issuer {
                expectations = expectations.with_issuer(issuer);
            }
            rules = match self.key_server() {
                Some(url) => rules.key_server(self.remote(url), expectations),
                None => rules.key_file(keys, expectations),
            };
        }
        if let Some(url) = &self.authorize {
            rules = rules.back_end(self.remote(url));
        }
        // The filters were checked when the configuration was read.
        if let Some(Ok(rights)) = self.public.as_ref().map(RightsConfig::rights) {
            rules = rules.public(rights);
        }
        if let Some(Ok(rights)) = self.certificates.as_ref().map(RightsConfig::rights) {
            rules = rules.certificates(rights);
        }
        rules
    }
}
