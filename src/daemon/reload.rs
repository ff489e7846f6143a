//! Changing settings while the daemon runs.

use super::Daemon;
use super::settings::{Changes, Settings, SettingsError, ToRecord};
use super::watched_keys::{WatchedKeys, open_keys};

impl Daemon {
    /// Changes settings while the daemon runs, all of them or, with an error, none. [`Changes`] says
    /// from when on each holds.
    ///
    /// Rules with the same file or server of keys go on with the keys that were read for those before:
    /// [`reload_keys`](Self::reload_keys) reads them again.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use weir::access::{AccessRules, Rights};
    /// use weir::daemon::Changes;
    ///
    /// let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
    /// let readers = Rights::new([], ["public/**".parse()?])?;
    /// let changes = Changes::default().access(AccessRules::default().public(readers));
    /// daemon.reload(changes.origins(["https://app.example"])).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// A setting cannot be used, as when the daemon is built.
    pub async fn reload(&self, changes: Changes) -> Result<(), SettingsError> {
        let Changes { peers, access, topic_rules, origins, names, qlog } = changes;
        if qlog.is_some_and(|qlog| qlog.0.is_some()) && !self.recorder.has_directory() {
            return Err(SettingsError::QlogNoState);
        }
        let mut in_force = self.settings.lock().await;
        let changes_rights = access.is_some() || topic_rules.is_some();
        let changes_topics = topic_rules.is_some();
        let before = &in_force.settings;
        let settings = Settings {
            access: access.unwrap_or_else(|| before.access.clone()),
            topic_rules: topic_rules.unwrap_or_else(|| before.topic_rules.clone()),
            origins: origins.unwrap_or_else(|| before.origins.clone()),
            names: names.unwrap_or_else(|| before.names.clone()),
            domains: before.domains.clone(),
        };
        let checked = settings.check()?;
        let mut opened = None;
        if changes_rights {
            let origin = checked.access.key_origin();
            let keeps_keys = origin != (None, None) && origin == before.access.key_origin();
            opened = Some((Box::pin(open_keys(checked.access, keeps_keys)).await?, keeps_keys));
        }
        // From here on nothing fails.
        if changes_topics {
            self.broker.set_topic_rules(checked.topic_rules);
        }
        if let Some(((rules, keys), keeps_keys)) = opened {
            self.admission.set_access(rules, keeps_keys);
            if !keeps_keys {
                in_force.keys = keys.map(|keys| WatchedKeys::start(keys, &self.admission));
            }
            self.sessions.notify_rules();
        }
        self.admission.set_origins(checked.origins);
        if let Some(limits) = peers {
            self.admission.set_limits(limits);
        }
        if let Some(ToRecord(address)) = qlog {
            self.recorder.record_next(address);
        }
        in_force.settings = settings;
        Ok(())
    }
}
