//! The rules of access, as a program or the configuration gives them.

use super::authorize::Authorize;
use super::remote::Remote;
use super::rights::Rights;
use super::token::{Expectations, Verifier};
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

/// A file of keys, and what tokens have to claim.
pub(crate) type KeyFileRule = (PathBuf, Expectations);

/// A server with keys, and what tokens have to claim.
pub(crate) type KeyServerRule = (Remote, Expectations);

/// The rules of a daemon. Without any, everybody may do everything.
///
/// They are checked when the daemon is built or reloaded. A file or an address that cannot be used is an
/// error then.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use weir::access::{AccessRules, Algorithm, Expectations, KeySet, Rights, SigningKey, Verifier};
///
/// let key = SigningKey::generate(Algorithm::EdDsa, None)?;
/// let keys = KeySet::parse(key.public_jwks().unwrap().as_bytes())?;
/// let rules = AccessRules::default()
///     .tokens(Verifier::new(keys, Expectations::default()))
///     .public(Rights::new([], ["public/**".parse()?])?);
/// assert!(!rules.is_open());
/// let builder = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).access(rules);
/// let daemon = builder.spawn().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct AccessRules {
    pub(super) verifier: Option<Arc<Verifier>>,
    pub(crate) key_file: Option<KeyFileRule>,
    pub(crate) key_server: Option<KeyServerRule>,
    pub(crate) back_end: Option<Remote>,
    pub(super) key_source: Option<Arc<dyn KeySource>>,
    pub(super) authorize: Option<Arc<dyn Authorize>>,
    pub(super) certificates: Option<Rights>,
    pub(super) public: Option<Rights>,
}

impl fmt::Debug for AccessRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessRules")
            .field("verifier", &self.verifier.is_some())
            .field("key_file", &self.key_file)
            .field("key_server", &self.key_server)
            .field("back_end", &self.back_end)
            .field("key_source", &self.key_source.is_some())
            .field("authorize", &self.authorize.is_some())
            .field("certificates", &self.certificates)
            .field("public", &self.public)
            .finish()
    }
}

impl AccessRules {
    /// Accepts tokens that this verifier accepts. Nobody else may do more than what is
    /// [public](Self::public).
    #[must_use]
    pub fn tokens(mut self, verifier: Verifier) -> Self {
        self.verifier = Some(Arc::new(verifier));
        self
    }

    /// Accepts tokens that the keys of a file verify: a set of keys (JWKS, RFC 7517) or a public key
    /// (PEM). The daemon reads it when it starts, and again when it changes.
    #[must_use]
    pub fn key_file(mut self, path: impl Into<PathBuf>, expectations: Expectations) -> Self {
        self.key_file = Some((path.into(), expectations));
        self
    }

    /// Accepts tokens that the keys of a server verify: a set of keys (JWKS, RFC 7517) at an https
    /// address. The daemon fetches it when it starts, at intervals, and when a token names a key that
    /// is not in the set. Until it was fetched once, tokens are refused with
    /// [`Code::OVERLOADED`](crate::wire::Code::OVERLOADED). The [timeout](Remote::with_timeout) does
    /// not apply: a fetch has 5 s.
    #[must_use]
    pub fn key_server(mut self, server: Remote, expectations: Expectations) -> Self {
        self.key_server = Some((server, expectations));
        self
    }

    /// Asks a program over HTTP for the identity of each peer, in place of verifying tokens:
    /// `docs/access.md` describes question and answer.
    #[must_use]
    pub fn back_end(mut self, server: Remote) -> Self {
        self.back_end = Some(server);
        self
    }

    /// Returns where the keys that verify tokens come from. Rules with the same origin can go on with the
    /// keys that were read for the others.
    pub(crate) fn key_origin(&self) -> (Option<&KeyFileRule>, Option<&KeyServerRule>) {
        (self.key_file.as_ref(), self.key_server.as_ref())
    }

    /// Has keys fetched when a token names one that is not there.
    pub(crate) fn key_source(mut self, source: Arc<dyn KeySource>) -> Self {
        self.key_source = Some(source);
        self
    }

    /// Asks this for the identity of each peer, in place of verifying tokens.
    #[must_use]
    pub fn authorize(mut self, authorize: impl Authorize) -> Self {
        self.authorize = Some(Arc::new(authorize));
        self
    }

    /// Gives peers with a certificate that the daemon has verified these rights. Their name is that of
    /// the certificate. A token takes precedence.
    #[must_use]
    pub fn certificates(mut self, rights: Rights) -> Self {
        self.certificates = Some(rights);
        self
    }

    /// Gives everybody these rights, without a token. The default is none, if there is another rule.
    #[must_use]
    pub fn public(mut self, rights: Rights) -> Self {
        self.public = Some(rights);
        self
    }

    /// Gives everybody these rights beside those that they have. If everybody may do everything,
    /// nothing changes.
    #[must_use]
    pub fn also_public(mut self, rights: &Rights) -> Self {
        if !self.is_open() {
            let before = self.public.unwrap_or_else(Rights::nothing);
            self.public = Some(before.union(rights));
        }
        self
    }

    /// Returns whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        let Self { verifier, key_file, key_server, back_end, .. } = self;
        let Self { key_source, authorize, certificates, public, .. } = self;
        let keys = key_file.is_some() || key_server.is_some() || key_source.is_some();
        let asks = authorize.is_some() || back_end.is_some();
        let closed = verifier.is_some() || keys || asks || certificates.is_some();
        !closed && public.as_ref().is_none_or(Rights::is_everything)
    }
}

/// A fetch of a [`KeySource`], to wait for.
pub(crate) type Fetched<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Keys that are kept elsewhere, and fetched.
pub(crate) trait KeySource: Send + Sync {
    /// A token names a key that is not among those that were fetched, or none were fetched so far.
    /// Waits for a fetch if one is in progress, or is worth it. After that, the verifier is the
    /// newest.
    fn fetch(&self) -> Fetched<'_>;
}
