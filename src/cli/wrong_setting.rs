//! Errors of a daemon's settings, as errors of the configuration that has them. So they name the place and
//! the key, and the process exits with 78: to start it again does not help.

use crate::config::{Config, ConfigError, Places};
use crate::daemon::{IdentityError, RemoteError, SettingsError, SpawnError};
use crate::tls::{CertificateError, CertificateProblem};

/// Returns the error of a setting that can be changed while the daemon runs.
pub(super) fn of_settings(error: &SettingsError, config: &Config, places: &Places) -> ConfigError {
    let access = &config.access;
    let key = match error {
        SettingsError::Remote(RemoteError::Authorities(_)) if access.authorities.is_some() => {
            "access.authorities"
        }
        SettingsError::Keys(_) => "access.keys",
        SettingsError::Remote(_) if access.keys.is_some() => "access.keys",
        SettingsError::Remote(_) => "access.authorize",
        SettingsError::TopicRules(_) => "topics",
        SettingsError::Origin(_) => "http.origins",
        SettingsError::Name(_) => "http.names",
        SettingsError::QlogNoState => "log.qlog",
        #[cfg(feature = "otel")]
        SettingsError::Otlp(_) => "log.otlp",
    };
    places.error(key, error.to_string())
}

/// Returns why a daemon did not start.
pub(super) fn of_start(error: SpawnError, config: &Config, places: &Places) -> anyhow::Error {
    match error {
        SpawnError::Settings(error) => of_settings(&error, config, places).into(),
        SpawnError::Identity(IdentityError::File(error)) => match key_of_file(&error, config) {
            Some(key) => places.error(key, error.to_string()).into(),
            None => SpawnError::Identity(IdentityError::File(error)).into(),
        },
        error => error.into(),
    }
}

// Returns the key that names a file of certificates. The daemon's own files have none. A certificate whose
// time has not come, or has passed, may be right when the clock is.
fn key_of_file(error: &CertificateError, config: &Config) -> Option<&'static str> {
    use CertificateProblem::{Expired, NotYetValid};
    if matches!(error.problem, Expired(_) | NotYetValid(_)) {
        return None;
    }
    let tls = &config.tls;
    let acme = tls.acme.as_ref().and_then(|acme| acme.authorities.as_ref());
    let files = [
        ("tls.certificate", tls.certificate.as_ref()),
        ("tls.key", tls.key.as_ref()),
        ("tls.client_authorities", tls.client_authorities.as_ref()),
        ("tls.acme.authorities", acme),
    ];
    files.into_iter().find(|(_, path)| *path == Some(&error.path)).map(|(key, _)| key)
}
