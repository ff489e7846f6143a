//! Access control: who a peer is, what it may do, and how much; and the origins whose pages may use the
//! daemon.
//!
//! An [`Identity`] has [`Rights`], which are filters to publish and to subscribe. A [`Verifier`] makes
//! an identity of a signed token; a program that embeds the daemon can [`Authorize`] peers itself.

pub(crate) mod addresses;
pub(crate) mod answer;
mod authorize;
mod filter_set;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod gate;
pub(crate) mod identities;
mod identity;
pub(crate) mod identity_intakes;
mod keys;
pub(crate) mod limit_counts;
pub(crate) mod limits;
pub(crate) mod origin;
pub(crate) mod quota;
mod remote;
mod rights;
pub(crate) mod rules;
mod strict_json;
mod token;

pub use authorize::{Authorize, Authorizing, Credentials};
pub use identity::{Identity, IdentityLimits, MAX_PEER_NAME, PeerNameError};
pub use keys::{
    Algorithm, KeyError, KeySet, MAX_KEY_BYTES, MAX_KEY_ID, MAX_KEYS, MIN_SECRET, SkippedKey,
};
pub use remote::{MAX_REMOTE_TIMEOUT, REMOTE_TIMEOUT, Remote};
pub use rights::{MAX_FILTERS, Rights, RightsError};
pub use rules::AccessRules;
pub use token::{
    Expectations, MAX_LEEWAY, MAX_TOKEN, SignError, SigningKey, TokenError, Verifier, named_key,
};
