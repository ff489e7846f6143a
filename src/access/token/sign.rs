//! Keys that sign, and what they sign: for `weir token`, tests, and programs that issue tokens.

use super::error::MAX_TOKEN;
use crate::access::identity::Identity;
use crate::access::keys::{Algorithm, MAX_KEY_BYTES, MAX_KEY_ID, MIN_SECRET, bytes_of};
use crate::access::strict_json;
use crate::wire::Filter;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use ring::{digest, hmac};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use std::fmt;

/// Why a key cannot sign, or a token cannot be signed. The texts do not contain the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// It is not a private key that can sign.
    #[error(
        "not a key that signs: expected a private JWK of Ed25519 or P-256, a secret (\"kty\": \"oct\") \
         of at least {MIN_SECRET} bytes, or PEM with PRIVATE KEY (PKCS #8); `weir token keygen` makes \
         one"
    )]
    NotSigning,
    /// The key's id is too long, or contains a control character.
    #[error("the id of a key has 1 to {MAX_KEY_ID} bytes and no control characters")]
    KeyId,
    /// The token would be longer than [`MAX_TOKEN`].
    #[error(
        "the token would have {0} bytes, and at most {MAX_TOKEN} are accepted: grant fewer filters"
    )]
    TooLong(usize),
    /// A limit counts what all sessions of a name do, and the identity has no name. Daemons refuse
    /// such a token.
    #[error("the limit {0} needs a name (`sub`): it counts what all sessions of a name do")]
    NamelessLimit(&'static str),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// A private key, or a secret.
///
/// ```
/// use weir::access::{Algorithm, Identity, Rights, SigningKey};
///
/// let key = SigningKey::generate(Algorithm::EdDsa, Some("2026"))?;
/// let kept = key.private_jwk().unwrap(); // in a file that is its owner's alone
/// let key = SigningKey::parse(kept.as_bytes())?;
/// assert_eq!(key.id(), Some("2026"));
///
/// let now = 1_800_000_000_000_000; // microseconds since 1970
/// let ada = Identity::named("ada", Rights::everything())?.with_expires(now + 3_600_000_000);
/// let token = key.sign(&ada, Some("weir.example"), None, now)?;
/// assert_eq!(token.split('.').count(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SigningKey {
    id: Option<String>,
    material: Material,
}

enum Material {
    // With the members of the JWK that are not public.
    Ed25519(Box<Ed25519KeyPair>, Option<[u8; 32]>),
    P256(Box<EcdsaKeyPair>, Option<[u8; 32]>),
    Secret(Vec<u8>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Makes a key with this id. Without one, the id is the public key's thumbprint (RFC 7638), and
    /// that of a secret is random.
    pub fn generate(algorithm: Algorithm, id: Option<&str>) -> Result<Self, SignError> {
        let random = || {
            let mut bytes = [0; 32];
            SystemRandom::new().fill(&mut bytes).map_err(|_| SignError::Random)?;
            Ok(bytes)
        };
        let material = match algorithm {
            Algorithm::EdDsa => {
                let seed = random()?;
                let pair = Ed25519KeyPair::from_seed_unchecked(&seed);
                Material::Ed25519(Box::new(pair.map_err(|_| SignError::Random)?), Some(seed))
            }
            Algorithm::Es256 => new_p256()?,
            Algorithm::Hs256 => Material::Secret(random()?.to_vec()),
        };
        let mut key = Self { id: None, material };
        let own = match key.thumbprint() {
            Some(thumbprint) => thumbprint,
            None => URL_SAFE_NO_PAD.encode(&random()?[..16]),
        };
        key.set_id(id.unwrap_or(&own))?;
        Ok(key)
    }

    /// Reads a private JWK (RFC 7517, RFC 8037) or PEM with `PRIVATE KEY` (PKCS #8).
    pub fn parse(bytes: &[u8]) -> Result<Self, SignError> {
        if bytes.len() > MAX_KEY_BYTES {
            return Err(SignError::NotSigning);
        }
        if bytes.windows(10).any(|part| part == b"-----BEGIN") {
            let material = from_pem(bytes).ok_or(SignError::NotSigning)?;
            return Ok(Self { id: None, material });
        }
        let jwk = strict_json::object(bytes).ok_or(SignError::NotSigning)?;
        let material = from_jwk(&jwk).ok_or(SignError::NotSigning)?;
        let mut key = Self { id: None, material };
        if let Some(alg) = jwk.get("alg") {
            let named = alg.as_str().and_then(Algorithm::from_name);
            named.filter(|named| *named == key.algorithm()).ok_or(SignError::NotSigning)?;
        }
        if let Some(id) = jwk.get("kid") {
            key.set_id(id.as_str().ok_or(SignError::KeyId)?)?;
        }
        Ok(key)
    }

    /// Sets the id, which the header of each token names as `kid`.
    pub fn set_id(&mut self, id: &str) -> Result<(), SignError> {
        if id.is_empty() || id.len() > MAX_KEY_ID || id.chars().any(char::is_control) {
            return Err(SignError::KeyId);
        }
        self.id = Some(id.to_owned());
        Ok(())
    }

    /// Returns the id.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns how the key signs.
    pub fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Ed25519(..) => Algorithm::EdDsa,
            Material::P256(..) => Algorithm::Es256,
            Material::Secret(_) => Algorithm::Hs256,
        }
    }

    /// Returns the key as a JWK, to be kept secret. `None` if it was read from PEM.
    pub fn private_jwk(&self) -> Option<String> {
        let mut jwk = self.public_members();
        let (member, private) = match &self.material {
            Material::Ed25519(_, seed) => ("d", &seed.as_ref()?[..]),
            Material::P256(_, scalar) => ("d", &scalar.as_ref()?[..]),
            Material::Secret(secret) => ("k", &secret[..]),
        };
        jwk.insert(member.into(), URL_SAFE_NO_PAD.encode(private).into());
        Some(self.described(jwk).to_string())
    }

    /// Returns a set with the public key, for those who verify. `None` of a secret, which has no
    /// public part.
    pub fn public_jwks(&self) -> Option<String> {
        if matches!(self.material, Material::Secret(_)) {
            return None;
        }
        Some(json!({ "keys": [self.described(self.public_members())] }).to_string())
    }

    /// Signs a token for an identity: its name, rights, limits and expiry, which is rounded down to a
    /// second. `issued` is in microseconds since 1970.
    pub fn sign(
        &self,
        identity: &Identity,
        audience: Option<&str>,
        issuer: Option<&str>,
        issued: u64,
    ) -> Result<String, SignError> {
        if identity.name().is_none()
            && let Some(limit) = identity.limits().of_a_name()
        {
            return Err(SignError::NamelessLimit(limit));
        }
        let mut claims = Map::new();
        let mut claim = |name: &str, value: Option<Value>| {
            value.map(|value| claims.insert(name.to_owned(), value));
        };
        claim("iss", issuer.map(Value::from));
        claim("sub", identity.name().map(Value::from));
        claim("aud", audience.map(Value::from));
        claim("iat", Some((issued / 1_000_000).into()));
        claim("exp", identity.expires().map(|at| (at / 1_000_000).into()));
        claim("weir", Some(weir(identity)));
        let mut header = Map::new();
        header.insert("alg".into(), self.algorithm().name().into());
        header.insert("typ".into(), "JWT".into());
        if let Some(id) = &self.id {
            header.insert("kid".into(), id.as_str().into());
        }
        let (header, claims) = (Value::Object(header), Value::Object(claims));
        let token = self.sign_parts(&header.to_string(), &claims.to_string())?;
        if token.len() > MAX_TOKEN { Err(SignError::TooLong(token.len())) } else { Ok(token) }
    }

    // Signs any two texts, valid or not.
    pub(in crate::access) fn sign_parts(
        &self,
        header: &str,
        payload: &str,
    ) -> Result<String, SignError> {
        let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        let mut token = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
        let message = token.as_bytes();
        let signature = match &self.material {
            Material::Ed25519(pair, _) => encode(pair.sign(message).as_ref()),
            Material::P256(pair, _) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                encode(signature.map_err(|_| SignError::Random)?.as_ref())
            }
            Material::Secret(secret) => {
                encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref())
            }
        };
        token.push('.');
        token.push_str(&signature);
        Ok(token)
    }

    // The members that a thumbprint is of, in its order. None of a secret's.
    fn public_members(&self) -> Map<String, Value> {
        let members = match &self.material {
            Material::Ed25519(pair, _) => {
                let x = URL_SAFE_NO_PAD.encode(pair.public_key());
                json!({ "crv": "Ed25519", "kty": "OKP", "x": x })
            }
            Material::P256(pair, _) => {
                let point = pair.public_key().as_ref();
                let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
                json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y })
            }
            Material::Secret(_) => json!({ "kty": "oct" }),
        };
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    fn described(&self, mut jwk: Map<String, Value>) -> Value {
        jwk.insert("alg".into(), self.algorithm().name().into());
        jwk.insert("use".into(), "sig".into());
        if let Some(id) = &self.id {
            jwk.insert("kid".into(), id.as_str().into());
        }
        Value::Object(jwk)
    }

    /// Returns the thumbprint of the public key (RFC 7638). `None` of a secret.
    pub fn thumbprint(&self) -> Option<String> {
        if matches!(self.material, Material::Secret(_)) {
            return None;
        }
        let members = Value::Object(self.public_members()).to_string();
        let hash = digest::digest(&digest::SHA256, members.as_bytes());
        Some(URL_SAFE_NO_PAD.encode(hash))
    }
}

fn weir(identity: &Identity) -> Value {
    let texts = |filters: &[Filter]| -> Vec<Value> {
        filters.iter().map(|filter| filter.as_str().into()).collect()
    };
    let mut members = Map::new();
    for (name, filters) in
        [("publish", identity.rights().publish()), ("subscribe", identity.rights().subscribe())]
    {
        if !filters.is_empty() {
            members.insert(name.into(), texts(filters).into());
        }
    }
    let own = identity.limits();
    let limits = [
        ("sessions", own.sessions.map(u64::from)),
        ("messages_per_second", own.messages_per_second.map(u64::from)),
        ("bytes_per_second", own.bytes_per_second),
        ("subscriptions", own.subscriptions.map(u64::from)),
    ];
    let limits =
        limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?.into())));
    let limits: Map<String, Value> = limits.collect();
    if !limits.is_empty() {
        members.insert("limits".into(), limits.into());
    }
    members.into()
}

fn p256(scalar: &[u8], point: &[u8]) -> Option<Material> {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, scalar, point, &random);
    Some(Material::P256(Box::new(pair.ok()?), scalar.try_into().ok()))
}

// ring gives a new key only as PKCS #8, in which the private key follows its version 1 (RFC 5915),
// and the point is last. That the two belong together is checked.
fn new_p256() -> Result<Material, SignError> {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
    let document = document.map_err(|_| SignError::Random)?;
    let der = document.as_ref();
    let start = [0x02, 0x01, 0x01, 0x04, 0x20];
    let found = der.windows(start.len()).position(|part| part == start);
    let scalar = found.and_then(|at| der.get(at + start.len()..at + start.len() + 32));
    let point = der.len().checked_sub(65).map(|at| &der[at..]);
    let pair = scalar.zip(point).and_then(|(scalar, point)| p256(scalar, point));
    pair.ok_or(SignError::Random)
}

fn from_jwk(jwk: &Map<String, Value>) -> Option<Material> {
    let text = |member: &str| jwk.get(member).and_then(Value::as_str);
    match (text("kty")?, text("crv")) {
        ("OKP", Some("Ed25519")) => {
            let (seed, public) = (bytes_of(jwk, "d")?, bytes_of(jwk, "x")?);
            let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public).ok()?;
            Some(Material::Ed25519(Box::new(pair), seed.try_into().ok()))
        }
        ("EC", Some("P-256")) => {
            let point = [vec![4], bytes_of(jwk, "x")?, bytes_of(jwk, "y")?].concat();
            p256(&bytes_of(jwk, "d")?, &point)
        }
        ("oct", _) => {
            let secret = bytes_of(jwk, "k").filter(|secret| secret.len() >= MIN_SECRET)?;
            Some(Material::Secret(secret))
        }
        _ => None,
    }
}

fn from_pem(bytes: &[u8]) -> Option<Material> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(bytes).ok()?;
    let der = der.secret_pkcs8_der();
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Some(Material::Ed25519(Box::new(pair), None));
    }
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random).ok()?;
    Some(Material::P256(Box::new(pair), None))
}
