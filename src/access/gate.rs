//! The one decision for every face: who a peer is, and whether it may do what it asks for. It is made
//! before the engine is called.
//!
//! The rules can be replaced while peers are connected. Rights that come from the rules, which are
//! those of everybody and of client certificates, then change at once for every peer: see
//! [`Rules::renew`]. Rights that a token has proven stay until it expires.

use super::authorize::{Authorize, Credentials};
use super::identity::{Identity, Source};
use super::rights::Rights;
use super::rules::{AccessRules, KeySource};
use super::token::{TokenError, Verifier, named_key};
use crate::wire::{Code, Filter, Refusal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Maximum time for which a face may use an answer for a token again, one minute.
const KEPT: Duration = Duration::from_secs(60);

/// The keys that verify tokens. They are replaced when they are read again.
pub(crate) struct Keyring {
    verifier: RwLock<Option<Arc<Verifier>>>,
    // Of all keyrings of a daemon: counts what was replaced.
    generation: Arc<AtomicU64>,
}

impl Keyring {
    /// Replaces the keys. Sessions go on with the rights that they have. Identities that a face has
    /// kept are of an earlier [generation](Access::generation).
    pub(crate) fn set(&self, verifier: Arc<Verifier>) {
        *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = Some(verifier);
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn get(&self) -> Option<Arc<Verifier>> {
        self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The rules in force, and what follows from them.
pub(crate) struct Rules {
    // Others have another number.
    number: u64,
    keyring: Arc<Keyring>,
    key_source: Option<Arc<dyn KeySource>>,
    authorize: Option<Arc<dyn Authorize>>,
    certificates: Option<Arc<Rights>>,
    public: Arc<Rights>,
    anonymous: Arc<Identity>,
    is_open: bool,
}

/// The rules of a daemon, which may be replaced.
pub(crate) struct Access {
    rules: RwLock<Arc<Rules>>,
    generation: Arc<AtomicU64>,
    refusals: Refusals,
}

// The refusals of those who have shown no token, and of the others. They say what is missing, and
// never what exists.
struct Refusals {
    publish: [Arc<Refusal>; 2],
    read: [Arc<Refusal>; 2],
}

impl Refusals {
    fn new() -> Self {
        let pair = |anonymous, known| {
            let refusal = |code, reason| Arc::new(Refusal::new(code, reason));
            [refusal(Code::UNAUTHORIZED, anonymous), refusal(Code::FORBIDDEN, known)]
        };
        Self {
            publish: pair(
                "publishing to this topic needs a token: show one whose publish filters match it",
                "the token has no publish filter that matches this topic",
            ),
            read: pair(
                "reading these topics needs a token: show one with a subscribe filter that covers them",
                "the token has no subscribe filter that covers these topics",
            ),
        }
    }
}

impl Rules {
    fn new(
        rules: AccessRules,
        number: u64,
        generation: &Arc<AtomicU64>,
        keyring: Option<Arc<Keyring>>,
    ) -> Self {
        let is_open = rules.is_open();
        let public = if is_open { Rights::everything() } else { Rights::nothing() };
        let public = Arc::new(rules.public.unwrap_or(public));
        let keyring = keyring.unwrap_or_else(|| {
            let verifier = RwLock::new(rules.verifier);
            Arc::new(Keyring { verifier, generation: generation.clone() })
        });
        Self {
            number,
            keyring,
            key_source: rules.key_source,
            authorize: rules.authorize,
            certificates: rules.certificates.map(Arc::new),
            anonymous: Arc::new(Identity::of_nobody(public.clone())),
            public,
            is_open,
        }
    }

    /// The number of these rules.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether everybody may do everything, so that nobody has to be asked who it is.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The keys that verify tokens.
    pub(crate) fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// For how long a face may use an answer for a token again.
    pub(crate) fn kept(&self) -> Duration {
        self.authorize.as_ref().map_or(KEPT, |authorize| authorize.kept().min(KEPT))
    }

    /// The identity of those who have shown nothing.
    pub(crate) fn anonymous(&self) -> &Arc<Identity> {
        &self.anonymous
    }

    /// Whether those who have shown nothing may have another identity than
    /// [`anonymous`](Self::anonymous).
    pub(crate) fn asks_without_token(&self) -> bool {
        self.authorize.is_some()
    }

    /// Returns who a peer is, at a time in µs since 1970.
    pub(crate) async fn identify(
        &self,
        credentials: Credentials<'_>,
        now: u64,
    ) -> Result<Arc<Identity>, Refusal> {
        let identity = if let Some(authorize) = &self.authorize {
            authorize.authorize(credentials).await?
        } else if let Some(token) = credentials.token
            && (self.key_source.is_some() || self.keyring.get().is_some())
        {
            self.verify(token, now).await?
        } else if let Some(name) = credentials.certificate
            && let Some(rights) = &self.certificates
        {
            let unnamed =
                |why| Refusal::new(Code::UNAUTHORIZED, format!("the client certificate: {why}"));
            let identity = Identity::named(name, rights.clone()).map_err(unnamed)?;
            return Ok(Arc::new(identity.of_certificate().beside(&self.public)));
        } else {
            return Ok(self.anonymous.clone());
        };
        self.admit(identity, now)
    }

    /// Returns an identity with the rights that everybody has, unless its time has passed.
    pub(crate) fn admit(&self, identity: Identity, now: u64) -> Result<Arc<Identity>, Refusal> {
        if identity.expires().is_some_and(|at| at <= now) {
            return Err(Refusal::new(Code::TOKEN_EXPIRED, "the time of these rights has passed"));
        }
        Ok(Arc::new(identity.beside(&self.public)))
    }

    /// Returns the identity that a peer has by these rules, if it was identified by others. The rights
    /// that its token has proven stay. The rights of everybody, and of client certificates, are those of these
    /// rules.
    pub(crate) fn renew(&self, identity: &Arc<Identity>) -> Arc<Identity> {
        match identity.source() {
            Source::Nothing => self.anonymous.clone(),
            Source::Shown => Arc::new(Identity::clone(identity).beside(&self.public)),
            Source::Certificate => {
                let nothing = || Arc::new(Rights::nothing());
                let rights = self.certificates.clone().unwrap_or_else(nothing);
                let renewed = Identity::clone(identity).with_rights(rights);
                Arc::new(renewed.of_certificate().beside(&self.public))
            }
        }
    }

    // Verifies a token. If it names a key that is not there, the keys may be fetched anew.
    async fn verify(&self, token: &str, now: u64) -> Result<Identity, Refusal> {
        let mut verifier = self.keyring.get();
        if let Some(source) = &self.key_source
            && verifier.as_ref().is_none_or(|verifier| lacks_key(verifier, token))
        {
            source.fetch().await;
            verifier = self.keyring.get();
        }
        let Some(verifier) = verifier else {
            let reason = "the daemon has not got the keys that verify tokens yet: try again later";
            return Err(Refusal::new(Code::OVERLOADED, reason));
        };
        let refused = |why: TokenError| {
            // A client that can fetch another token does so.
            let expired = matches!(why, TokenError::Expired(_));
            let code = if expired { Code::TOKEN_EXPIRED } else { Code::UNAUTHORIZED };
            Refusal::new(code, why.to_string())
        };
        verifier.verify(token, now).map_err(refused)
    }
}

impl Access {
    pub(crate) fn new(rules: AccessRules) -> Self {
        let generation = Arc::<AtomicU64>::default();
        let rules = RwLock::new(Arc::new(Rules::new(rules, 0, &generation, None)));
        Self { rules, generation, refusals: Refusals::new() }
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the rules. With `keeps_keys`, the keys stay that were read for those before.
    pub(crate) fn replace(&self, rules: AccessRules, keeps_keys: bool) {
        let mut current = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let keyring = keeps_keys.then(|| current.keyring.clone());
        let number = current.number + 1;
        let mut next = Rules::new(rules, number, &self.generation, keyring);
        if keeps_keys {
            next.key_source.clone_from(&current.key_source);
        }
        *current = Arc::new(next);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// How often the keys or the rules were replaced. A face that keeps an identity keeps this too, as
    /// it was before the identity was found out, and does not use the identity when it has changed.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Decides whether a peer may publish to a topic.
    pub(crate) fn publish(
        &self,
        identity: &Arc<Identity>,
        topic: &str,
    ) -> Result<(), &Arc<Refusal>> {
        let may = identity.rights().may_publish(topic);
        if may { Ok(()) } else { Err(&self.refusals.publish[Self::is_known(identity)]) }
    }

    /// Decides whether a peer may read all topics that a filter matches.
    pub(crate) fn subscribe(
        &self,
        identity: &Arc<Identity>,
        filter: &Filter,
    ) -> Result<(), &Arc<Refusal>> {
        let may = identity.rights().may_subscribe(filter);
        if may { Ok(()) } else { Err(&self.refusals.read[Self::is_known(identity)]) }
    }

    /// Decides whether a peer may read one topic.
    pub(crate) fn read(&self, identity: &Arc<Identity>, topic: &str) -> Result<(), &Arc<Refusal>> {
        let may = identity.rights().may_read(topic);
        if may { Ok(()) } else { Err(&self.refusals.read[Self::is_known(identity)]) }
    }

    fn is_known(identity: &Arc<Identity>) -> usize {
        usize::from(identity.source() != Source::Nothing)
    }
}

// Whether a token names a key that the verifier does not have.
fn lacks_key(verifier: &Verifier, token: &str) -> bool {
    let Ok((_, Some(named))) = named_key(token) else { return false };
    verifier.keys().ids().all(|(_, id)| id != Some(&named))
}
