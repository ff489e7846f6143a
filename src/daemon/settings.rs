//! The settings that can be changed while the daemon runs.

use super::fetch::RemoteError;
use super::keys::KeyFileError;
use super::{HostError, OriginError};
use crate::access::limits::PeerLimits;
use crate::access::origin::Origins;
use crate::access::{AccessRules, Rights};
use crate::engine::{TopicRule, TopicRuleError, TopicRules};
use std::net::IpAddr;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file of keys that verify tokens cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The address of a server with keys, or of a back end, or the authorities for it, cannot be used.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The rules for topics cannot be used.
    #[error(transparent)]
    TopicRules(#[from] TopicRuleError),
    /// An allowed origin is malformed.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// A name of the daemon is malformed.
    #[error(transparent)]
    Name(#[from] HostError),
    /// A connection is to be recorded, and the daemon has no directory for it: see
    /// [`Builder::state`](super::Builder::state).
    #[error("a qlog needs a directory: Builder::state")]
    QlogNoState,
    /// Traces cannot be exported.
    #[cfg(feature = "otel")]
    #[error(transparent)]
    Otlp(#[from] super::OtlpError),
}

/// Settings to change while a daemon runs: see [`Daemon::reload`](super::Daemon::reload). Those that are not named stay.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use weir::daemon::{Changes, PeerLimits};
///
/// let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
/// let mut limits = PeerLimits::default();
/// limits.sessions_per_address = 16;
/// daemon.reload(Changes::default().peers(limits).origins(["https://app.example"])).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Changes {
    pub(super) peers: Option<PeerLimits>,
    pub(super) access: Option<AccessRules>,
    pub(super) topic_rules: Option<Vec<TopicRule>>,
    pub(super) origins: Option<Vec<String>>,
    pub(super) names: Option<Vec<String>>,
    pub(super) qlog: Option<ToRecord>,
}

/// The address whose next connection is recorded, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToRecord(pub(super) Option<IpAddr>);

impl Changes {
    /// Changes the limits of peers: see [`Builder::peers`](super::Builder::peers). Numbers of sessions
    /// and connections hold at once, and peers stay that are above a lower one. Rates of what a session
    /// sends and is sent hold for those that connect from now on.
    pub fn peers(mut self, limits: PeerLimits) -> Self {
        self.peers = Some(limits);
        self
    }

    /// Changes who may do what: see [`Builder::access`](super::Builder::access).
    ///
    /// The rights of everybody and of client certificates change at once, in open sessions too. The next
    /// publication is judged by them. Subscriptions that they do not allow end with
    /// [`UNAUTHORIZED`](crate::wire::Code::UNAUTHORIZED) or
    /// [`FORBIDDEN`](crate::wire::Code::FORBIDDEN). A token that was accepted is valid until it
    /// expires, even if the new rules would not accept it. A [`LocalPeer`](super::LocalPeer) keeps the
    /// rights that it was made with.
    pub fn access(mut self, rules: AccessRules) -> Self {
        self.access = Some(rules);
        self
    }

    /// Changes the rules for topics: see [`Builder::topic_rules`](super::Builder::topic_rules). They
    /// hold for topics that are made from now on. Topics that are there keep their rules until they
    /// are forgotten, or the daemon is restarted. The rights that rules give to everybody change at once.
    pub fn topic_rules(mut self, rules: impl IntoIterator<Item = TopicRule>) -> Self {
        self.topic_rules = Some(rules.into_iter().collect());
        self
    }

    /// Changes the origins whose pages may use the daemon: see
    /// [`Builder::origins`](super::Builder::origins). Sessions that are open stay.
    pub fn origins<T: Into<String>>(mut self, origins: impl IntoIterator<Item = T>) -> Self {
        self.origins = Some(origins.into_iter().map(Into::into).collect());
        self
    }

    /// Changes the names of the daemon: see [`Builder::names`](super::Builder::names). Sessions that
    /// are open stay.
    pub fn names<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.names = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Records the next connection of an address over QUIC: see [`Builder::qlog`](super::Builder::qlog).
    /// It takes the place of an address that was given before, whose connection has not come. With
    /// `None`, no connection is recorded any more. A recording that has begun goes on.
    pub fn qlog(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.qlog = Some(ToRecord(address.into()));
        self
    }
}

/// These settings as they were given.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) access: AccessRules,
    pub(super) topic_rules: Vec<TopicRule>,
    pub(super) origins: Vec<String>,
    pub(super) names: Vec<String>,
    // Names for which the daemon orders certificates. They do not change.
    pub(super) domains: Vec<String>,
}

/// Settings that were checked. Files of keys are read later.
pub(super) struct Checked {
    // With what topic rules make public.
    pub(super) access: AccessRules,
    pub(super) topic_rules: TopicRules,
    pub(super) origins: Origins,
}

impl Settings {
    pub(super) fn check(&self) -> Result<Checked, SettingsError> {
        let origins = Origins::parse(&self.origins)?.named(&self.names)?.named(&self.domains)?;
        let topic_rules = TopicRules::new(self.topic_rules.iter().cloned())?;
        for (rule, covers) in topic_rules.unreachable() {
            let (filter, earlier) = (rule.filter(), covers.filter());
            tracing::warn!(%filter, %earlier, "a topic rule never applies: an earlier one covers it");
        }
        let all = || topic_rules.all().iter();
        let publish = all().filter(|rule| rule.public().may_publish());
        let subscribe = all().filter(|rule| rule.public().may_subscribe());
        let filter = |rule: &TopicRule| rule.filter().clone();
        let mut access = self.access.clone();
        // There are not too many filters, and none of them is below `$weir`: both were checked.
        if let Ok(rights) = Rights::new(publish.map(filter), subscribe.map(filter)) {
            access = access.also_public(&rights);
        }
        Ok(Checked { access, topic_rules, origins })
    }
}
