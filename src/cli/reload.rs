//! HUP: the configuration, certificates and keys are read again while the daemon runs.

use super::log::Log;
use super::wrong_setting::of_settings;
use crate::Daemon;
use crate::config::{Config, ConfigError, Loaded, LogFormat, Plain};
use crate::daemon::{Changes, Reloaded};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The part of the configuration that the command line gives.
pub(super) struct Given {
    pub(super) file: Option<PathBuf>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) http: Option<Plain>,
    pub(super) ops: Option<Plain>,
    pub(super) log: Option<LogFormat>,
}

impl Given {
    /// Reads the configuration.
    pub(super) fn load(&self) -> Result<Loaded, ConfigError> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let mut loaded = Config::load_with_places(self.file.as_deref(), variables)?;
        let config = &mut loaded.config;
        config.listen = self.listen.unwrap_or(config.listen);
        config.http.listen = self.http.unwrap_or(config.http.listen);
        config.ops.listen = self.ops.or(config.ops.listen);
        config.log.format = self.log.unwrap_or(config.log.format);
        Ok(loaded)
    }
}

/// The configuration that a daemon runs with, and where it comes from.
pub(super) struct Running<'a> {
    pub(super) given: &'a Given,
    pub(super) config: Config,
    pub(super) log: &'a Log,
    pub(super) daemon: &'a Daemon,
}

impl Running<'_> {
    /// Reads everything again, and logs one line. If the configuration cannot be used, nothing changes.
    pub(super) async fn reload(&mut self) {
        // A pipe without a writer would block for ever, and with it the signals.
        if let Some(file) = &self.given.file
            && std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file())
        {
            let file = file.display();
            tracing::error!(%file, "HUP: the configuration is not a regular file, and nothing changes");
            return;
        }
        let Loaded { config, places, .. } = match self.given.load() {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(%error, "HUP: the configuration cannot be used, and nothing changes");
                return;
            }
        };
        let differences = config.differences(&self.config);
        if let Err(error) = self.daemon.reload(changes(&self.config, &config)).await {
            let error = of_settings(&error, &config, &places);
            tracing::error!(%error, "HUP: the configuration cannot be used, and nothing changes");
            return;
        }
        self.log.set_filter(&config.log);
        self.config = config.applied_to(&self.config);
        let changed = differences.applied.join(" ");
        let restart = differences.restart.join(" ");
        // Each has its own error, and the other one goes on.
        let mut errors = Vec::new();
        let keys = self.daemon.reload_keys().await.unwrap_or_else(|error| {
            errors.push(error.to_string());
            false
        });
        let certificates = self.daemon.reload_certificates().await.unwrap_or_else(|error| {
            errors.push(error.to_string());
            Reloaded::default()
        });
        let files = certificates.files.iter().map(|file| file.display().to_string());
        let certificates_read = files.collect::<Vec<_>>().join(" ");
        let acme = certificates.acme;
        // One line, whatever has happened. Fields without a value are left out.
        let changed = (!changed.is_empty()).then_some(changed);
        let restart = (!restart.is_empty()).then_some(restart);
        let certificates = (!certificates_read.is_empty()).then_some(certificates_read);
        if !errors.is_empty() {
            let error = errors.join("; ");
            tracing::error!(
                error,
                changed,
                restart,
                certificates,
                acme,
                keys,
                "HUP: read again, but for files that cannot be used: what was read of them stays"
            );
        } else if restart.is_some() {
            tracing::warn!(
                changed,
                restart,
                certificates,
                acme,
                keys,
                "HUP: read again; some keys that changed need a restart"
            );
        } else {
            tracing::info!(changed, certificates, acme, keys, "HUP: read again");
        }
    }
}

// The settings that differ. The others are left out, so that a program that is asked for identities, for
// example, is not connected to anew.
fn changes(before: &Config, config: &Config) -> Changes {
    // Each HUP requests another recording, also of the same address.
    let mut changes = Changes::default().qlog(config.log.qlog);
    if config.limits != before.limits {
        changes = changes.peers(config.limits.peers());
    }
    if config.access != before.access {
        changes = changes.access(config.access.rules());
    }
    if config.topics != before.topics {
        changes = changes.topic_rules(config.topic_rules());
    }
    if config.http.origins != before.http.origins {
        changes = changes.origins(config.http.origins.clone());
    }
    if config.http.names != before.http.names {
        changes = changes.names(config.http.names.clone());
    }
    changes
}
