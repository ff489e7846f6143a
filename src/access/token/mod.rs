//! Signed tokens: JWT (RFC 7519) as JWS in compact form (RFC 7515), with the advice of RFC 8725.
//!
//! Everything here is pure: the time is an argument, and nothing that a token names is fetched.
//! `docs/access.md` describes tokens for their issuers.

pub(super) mod claims;
mod error;
mod sign;
#[cfg(test)]
mod tests;
mod verify;

pub use error::{MAX_TOKEN, TokenError};
pub use sign::{SignError, SigningKey};
pub use verify::{Expectations, MAX_LEEWAY, Verifier, named_key};
