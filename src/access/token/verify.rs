//! From a token to an identity.

use super::claims::Claims;
use super::error::{MAX_TOKEN, TokenError, quoted};
use crate::access::identity::Identity;
use crate::access::keys::{Algorithm, KeySet};
use crate::access::strict_json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::time::Duration;

/// Maximum and default of [`Expectations::with_leeway`], 60 s: what clocks of machines on a network
/// may differ.
pub const MAX_LEEWAY: Duration = Duration::from_secs(60);

/// The claims that a token needs, beside its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Expectations {
    audience: Option<String>,
    issuer: Option<String>,
    leeway: Duration,
    expiry: bool,
}

impl Default for Expectations {
    fn default() -> Self {
        Self { audience: None, issuer: None, leeway: MAX_LEEWAY, expiry: true }
    }
}

impl Expectations {
    /// Accepts only tokens whose `aud` is or contains `audience`. By default only tokens without
    /// `aud` are accepted: those that have it are for somebody else (RFC 7519, section 4.1.3).
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Accepts only tokens whose `iss` is `issuer`. By default `iss` is ignored.
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets how much the issuer's clock may be ahead or behind, which is also how much longer a token
    /// is valid. The default is [`MAX_LEEWAY`]; more than that is brought down to it.
    pub fn with_leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway.min(MAX_LEEWAY);
        self
    }

    /// Accepts tokens without `exp`, which are valid for as long as their key is in use. By default
    /// they are refused: one that is stolen could be used for ever.
    pub fn without_expiry(mut self) -> Self {
        self.expiry = false;
        self
    }
}

/// Verifies tokens.
///
/// ```
/// use weir::access::{Expectations, Identity, KeySet, Rights, SigningKey, Verifier};
///
/// let key = SigningKey::generate(weir::access::Algorithm::EdDsa, Some("2026"))?;
/// let rights = Rights::new([], ["demo/**".parse()?])?;
/// let now = 1_800_000_000_000_000; // microseconds since 1970
/// let ada = Identity::named("ada", rights)?.with_expires(now + 3_600_000_000);
/// let token = key.sign(&ada, Some("weir.example"), None, now)?;
///
/// let keys = KeySet::parse(key.public_jwks().unwrap().as_bytes())?;
/// let verifier = Verifier::new(keys, Expectations::default().with_audience("weir.example"));
/// let identity = verifier.verify(&token, now)?;
/// assert_eq!(identity.name(), Some("ada"));
/// assert!(identity.rights().may_read("demo/a") && !identity.rights().may_publish("demo/a"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Verifier {
    keys: KeySet,
    expectations: Expectations,
}

impl Verifier {
    /// Returns a verifier of tokens that one of `keys` has signed.
    pub fn new(keys: KeySet, expectations: Expectations) -> Self {
        Self { keys, expectations }
    }

    /// Returns the keys.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// Verifies a token at a time, in microseconds since 1970.
    ///
    /// The identity has the token's name, rights and limits. It expires with the token, the leeway
    /// included. Takes up to 100 µs for each key that may have signed the token.
    pub fn verify(&self, token: &str, now: u64) -> Result<Identity, TokenError> {
        let payload = self.signed_payload(token)?;
        let claims = Claims::parse(&payload)?;
        let expires = self.check_times(&claims, now)?;
        self.check_audience(&claims)?;
        self.check_issuer(&claims)?;
        let identity = claims.identity;
        Ok(match expires {
            Some(at) => identity.with_expires(at),
            None => identity,
        })
    }

    // Nothing of the payload is examined before its signature.
    pub(super) fn signed_payload(&self, token: &str) -> Result<Vec<u8>, TokenError> {
        let parts = Parts::split(token)?;
        let payload = decode(parts.payload)?;
        let signature = decode(parts.signature)?;
        let (algorithm, id) = read_header(&decode(parts.header)?)?;
        let mut candidates = self.keys.candidates(algorithm, id.as_deref());
        if candidates.any(|key| key.verifies(parts.signed.as_bytes(), &signature)) {
            Ok(payload)
        } else {
            Err(TokenError::Signature)
        }
    }

    // Returns when the token expires, leeway included.
    fn check_times(&self, claims: &Claims, now: u64) -> Result<Option<u64>, TokenError> {
        let leeway = self.expectations.leeway.as_micros() as u64;
        if claims.expires.is_none() && self.expectations.expiry {
            let remedy = "say when it expires, in seconds since 1970";
            return Err(TokenError::Missing { claim: "exp", remedy });
        }
        let expires = claims.expires.map(|at| at.saturating_add(leeway));
        if let Some(past) = claims.expires.filter(|at| at.saturating_add(leeway) <= now) {
            return Err(TokenError::Expired((now - past) / 1_000_000));
        }
        for (claim, from) in [("nbf", claims.not_before), ("iat", claims.issued)] {
            if let Some(from) = from.filter(|from| *from > now.saturating_add(leeway)) {
                let seconds = (from - now).div_ceil(1_000_000);
                return Err(TokenError::NotYetValid { claim, seconds });
            }
        }
        Ok(expires)
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), TokenError> {
        match &self.expectations.audience {
            None if claims.audiences.is_empty() => Ok(()),
            None => Err(TokenError::UnexpectedAudience),
            Some(_) if claims.audiences.is_empty() => {
                let remedy = "name the daemon's audience in it";
                Err(TokenError::Missing { claim: "aud", remedy })
            }
            Some(own) if claims.audiences.contains(own) => Ok(()),
            Some(_) => Err(TokenError::Audience),
        }
    }

    fn check_issuer(&self, claims: &Claims) -> Result<(), TokenError> {
        match (&self.expectations.issuer, &claims.issuer) {
            (None, _) => Ok(()),
            (Some(expected), Some(found)) if expected == found => Ok(()),
            (Some(_), Some(_)) => Err(TokenError::Issuer),
            (Some(_), None) => {
                let remedy = "name the issuer in it";
                Err(TokenError::Missing { claim: "iss", remedy })
            }
        }
    }
}

struct Parts<'a> {
    signed: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong(token.len()));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(NOT_THREE)?;
        let (header, payload) = signed.split_once('.').ok_or(NOT_THREE)?;
        Ok(Self { signed, header, payload, signature })
    }
}

const NOT_THREE: TokenError = TokenError::Malformed("it has to have three parts, joined by dots");

// Strict: no padding, no white space, and no bits beyond the last byte, so that each token has one
// form. A dot too many is not in the alphabet.
fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    let problem = "its three parts have to be base64url, without padding and line breaks";
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed(problem))
}

/// Returns the algorithm and the id of the key that a token names, for messages to people. Nothing
/// about it is verified.
pub fn named_key(token: &str) -> Result<(Algorithm, Option<String>), TokenError> {
    read_header(&decode(Parts::split(token)?.header)?)
}

// Members that name keys or places of keys (jku, jwk, x5u, x5c) are ignored: the keys are the
// daemon's. `kid` is compared with theirs, and is nothing else.
fn read_header(header: &[u8]) -> Result<(Algorithm, Option<String>), TokenError> {
    let problem = "its header is not one JSON object without a member twice";
    let header = strict_json::object(header).ok_or(TokenError::Malformed(problem))?;
    let name = header.get("alg").and_then(Value::as_str);
    let name = name.ok_or(TokenError::Malformed("its header has no text \"alg\""))?;
    if name.eq_ignore_ascii_case("none") {
        return Err(TokenError::Unsigned);
    }
    let algorithm = Algorithm::from_name(name);
    let algorithm = algorithm.ok_or_else(|| TokenError::Algorithm(quoted(name)))?;
    if header.contains_key("crit") {
        return Err(TokenError::Critical);
    }
    let id = match header.get("kid") {
        None => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(_) => return Err(TokenError::Malformed("\"kid\" in its header is not a text")),
    };
    Ok((algorithm, id))
}
