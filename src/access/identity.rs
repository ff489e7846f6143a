//! Identities of peers.

use super::rights::Rights;
use std::sync::Arc;

/// Maximum length of a name, in bytes of UTF-8. Presence and logs show names.
pub const MAX_PEER_NAME: usize = 255;

/// Why a text is not a name of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerNameError {
    /// The name is empty.
    #[error("a name may not be empty: leave it out for an identity without a name")]
    Empty,
    /// The name is longer than [`MAX_PEER_NAME`].
    #[error("a name has at most {MAX_PEER_NAME} bytes, this one has {0}")]
    TooLong(usize),
    /// The name contains a control character, which could mislead a terminal or a log.
    #[error("a name may not contain control characters")]
    Control,
}

/// A peer: its name, its rights, its limits, and when it stops being valid.
///
/// Clones share the name and the rights.
///
/// ```
/// use weir::access::{Identity, IdentityLimits, PeerNameError, Rights};
///
/// let mut limits = IdentityLimits::default();
/// limits.sessions = Some(3);
/// let ada = Identity::named("ada", Rights::everything())?.with_limits(limits);
/// assert_eq!((ada.name(), ada.expires()), (Some("ada"), None));
/// assert_eq!(Identity::named("", Rights::nothing()), Err(PeerNameError::Empty));
/// # Ok::<(), PeerNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    name: Option<Arc<str>>,
    rights: Arc<Rights>,
    // The rights without those that everybody has.
    own: Arc<Rights>,
    source: Source,
    limits: IdentityLimits,
    expires: Option<u64>,
}

/// The proof of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A token, or a program that was asked.
    Shown,
    /// A client certificate, whose rights are those of the rules.
    Certificate,
    /// Nothing was shown.
    Nothing,
}

/// The limits of one identity, beside the daemon's own, which hold for everybody.
///
/// By default it has none of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdentityLimits {
    /// Maximum number of sessions at one time.
    pub sessions: Option<u32>,
    /// Maximum number of publications per second, of all sessions and requests with its name. Without
    /// a name, of each session.
    pub messages_per_second: Option<u32>,
    /// Maximum number of bytes of published payloads per second, in the same way.
    pub bytes_per_second: Option<u64>,
    /// Maximum number of subscriptions in each session.
    pub subscriptions: Option<u32>,
}

impl IdentityLimits {
    /// Returns the limit that counts what all sessions of a name do, if there is one. It would
    /// restrict nothing without a name.
    pub(crate) fn of_a_name(&self) -> Option<&'static str> {
        let Self { sessions, messages_per_second, bytes_per_second, subscriptions: _ } = self;
        let limits = [
            ("sessions", sessions.is_some()),
            ("messages_per_second", messages_per_second.is_some()),
            ("bytes_per_second", bytes_per_second.is_some()),
        ];
        limits.iter().find(|(_, is_set)| *is_set).map(|(name, _)| *name)
    }
}

impl Identity {
    /// Returns an identity without a name. It has no limits of its own, and does not expire.
    pub fn anonymous(rights: impl Into<Arc<Rights>>) -> Self {
        let (limits, rights) = (IdentityLimits::default(), rights.into());
        let own = rights.clone();
        Self { name: None, rights, own, source: Source::Shown, limits, expires: None }
    }

    /// Returns an identity with a name: 1 to [`MAX_PEER_NAME`] bytes without control characters. It has no
    /// limits of its own, and does not expire.
    pub fn named(name: &str, rights: impl Into<Arc<Rights>>) -> Result<Self, PeerNameError> {
        if name.is_empty() {
            return Err(PeerNameError::Empty);
        }
        if name.len() > MAX_PEER_NAME {
            return Err(PeerNameError::TooLong(name.len()));
        }
        if name.chars().any(char::is_control) {
            return Err(PeerNameError::Control);
        }
        Ok(Self { name: Some(name.into()), ..Self::anonymous(rights) })
    }

    /// Returns the identity with another end of its validity, in microseconds since 1970.
    #[must_use]
    pub fn with_expires(mut self, at: u64) -> Self {
        self.expires = Some(at);
        self
    }

    /// Returns the identity with other limits of its own.
    #[must_use]
    pub fn with_limits(mut self, limits: IdentityLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Returns the identity with other rights.
    #[must_use]
    pub fn with_rights(mut self, rights: impl Into<Arc<Rights>>) -> Self {
        self.rights = rights.into();
        self.own = self.rights.clone();
        self
    }

    /// The identity of those who have shown nothing.
    pub(super) fn of_nobody(rights: Arc<Rights>) -> Self {
        Self { source: Source::Nothing, ..Self::anonymous(rights) }
    }

    /// The same identity, proven by a client certificate.
    pub(super) fn of_certificate(self) -> Self {
        Self { source: Source::Certificate, ..self }
    }

    /// The same identity with the rights that everybody has beside its own.
    pub(super) fn beside(mut self, public: &Rights) -> Self {
        let has_more = *public != Rights::nothing();
        self.rights = if has_more { Arc::new(self.own.union(public)) } else { self.own.clone() };
        self
    }

    /// Its proof.
    pub(super) fn source(&self) -> Source {
        self.source
    }

    /// Returns the name, if there is one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the rights.
    pub fn rights(&self) -> &Arc<Rights> {
        &self.rights
    }

    /// Returns the limits of its own.
    pub fn limits(&self) -> &IdentityLimits {
        &self.limits
    }

    /// Returns the time at which the identity stops being valid, in microseconds since 1970. `None`
    /// is never.
    pub fn expires(&self) -> Option<u64> {
        self.expires
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let named = |name: &str| Identity::named(name, Rights::nothing()).map(|_| ());
        assert_eq!(named("ada"), Ok(()));
        assert_eq!(named("größe 日本"), Ok(()));
        assert_eq!(named(&"x".repeat(255)), Ok(()));
        assert_eq!(named(&"x".repeat(256)), Err(PeerNameError::TooLong(256)));
        assert_eq!(named(""), Err(PeerNameError::Empty));
        for control in ["a\n", "\u{1b}[2J", "\0", "a\u{9b}b"] {
            assert_eq!(named(control), Err(PeerNameError::Control), "{control:?}");
        }
    }

    #[test]
    fn an_identity_has_what_it_was_given() {
        let limits = IdentityLimits { sessions: Some(2), ..IdentityLimits::default() };
        let ada = Identity::named("ada", Rights::everything()).unwrap();
        assert_eq!((ada.name(), ada.expires(), ada.limits().sessions), (Some("ada"), None, None));
        let ada = ada.with_expires(7).with_limits(limits).with_rights(Rights::nothing());
        assert_eq!((ada.expires(), ada.limits().sessions), (Some(7), Some(2)));
        assert_eq!(**ada.rights(), Rights::nothing());
        assert_eq!(Identity::anonymous(Rights::nothing()).name(), None);
    }
}
