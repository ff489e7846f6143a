//! The keys that verify tokens.

#[cfg(test)]
mod tests;

use super::strict_json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value};
use std::fmt;

/// Maximum number of keys in a [`KeySet`]. A token that names no key is tried with all keys of its
/// algorithm, which takes up to 100 µs each.
pub const MAX_KEYS: usize = 16;

/// Maximum size of a file of keys, 64 KiB. Sets of large providers with their certificates have 30.
pub const MAX_KEY_BYTES: usize = 64 << 10;

/// Maximum length of a key's id, `kid`, in bytes.
pub const MAX_KEY_ID: usize = 255;

/// Minimum length of a secret for HS256, in bytes (RFC 7518, section 3.2).
pub const MIN_SECRET: usize = 32;

/// How a token is signed (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Ed25519. RFC 9864 calls it `Ed25519`, which is accepted as well.
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// HMAC with SHA-256: whoever verifies can also sign.
    Hs256,
}

impl Algorithm {
    /// Returns the algorithm with this name in a token's header: `EdDSA`, `ES256` or `HS256`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            "ES256" => Some(Self::Es256),
            "HS256" => Some(Self::Hs256),
            _ => None,
        }
    }

    /// Returns the name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Hs256 => "HS256",
        }
    }
}

/// Why keys cannot be used. The texts do not contain them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file is larger than [`MAX_KEY_BYTES`].
    #[error("a file of keys has at most {MAX_KEY_BYTES} bytes, this one has {0}")]
    TooLarge(usize),
    /// There are more than [`MAX_KEYS`] keys.
    #[error("at most {MAX_KEYS} keys may be in use: remove the old ones")]
    TooMany,
    /// It is neither a JWK, a set of them, nor PEM.
    #[error(
        "not a file of keys: expected a JWK or a set of them (JSON with \"kty\" or \"keys\", no member \
         twice), or PEM with PUBLIC KEY; a raw secret has to be named as one"
    )]
    Format,
    /// It contains a private key.
    #[error(
        "this is a private key, which only the issuer of tokens should have: use its public part, as \
         `weir token keygen` prints it"
    )]
    Private,
    /// The PEM is of another kind, such as a certificate.
    #[error(
        "no PUBLIC KEY of Ed25519 or P-256 in this PEM: `openssl pkey -in key.pem -pubout` prints that \
         of a key, `openssl x509 -in cert.pem -noout -pubkey` that of a certificate"
    )]
    Pem,
    /// No key in the set can be used.
    #[error(
        "no usable key: supported are Ed25519 (OKP), P-256 (EC) and secrets for HS256 (oct){}",
        reasons(.0)
    )]
    NoneUsable(Vec<SkippedKey>),
    /// The secret is shorter than [`MIN_SECRET`].
    #[error("a secret for HS256 has at least {MIN_SECRET} bytes (RFC 7518), this one has {0}")]
    ShortSecret(usize),
    /// A raw secret is a file of keys.
    #[error(
        "this is a file of keys, and no raw secret: a public key as a secret would let anybody sign"
    )]
    NotSecret,
}

fn reasons(skipped: &[SkippedKey]) -> String {
    skipped.iter().fold(String::new(), |mut text, key| {
        text.push_str("; ");
        text.push_str(&key.to_string());
        text
    })
}

/// A key of a set that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key {index} {reason}")]
#[non_exhaustive]
pub struct SkippedKey {
    /// Its place in the set, from 0.
    pub index: usize,
    /// Why it is not used.
    pub reason: &'static str,
}

/// One key.
pub(super) struct Key {
    pub(super) id: Option<String>,
    material: Material,
}

enum Material {
    Ed25519([u8; 32]),
    // Uncompressed: 4, x, y.
    P256([u8; 65]),
    Secret(hmac::Key),
}

impl Key {
    pub(super) fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Ed25519(_) => Algorithm::EdDsa,
            Material::P256(_) => Algorithm::Es256,
            Material::Secret(_) => Algorithm::Hs256,
        }
    }

    // The algorithm is the key's: nothing in a token can have a public key used as a secret.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verify = |algorithm, key| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match &self.material {
            Material::Ed25519(key) => verify(&signature::ED25519, &key[..]),
            Material::P256(key) => verify(&signature::ECDSA_P256_SHA256_FIXED, &key[..]),
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

/// The keys that verify tokens, at most [`MAX_KEYS`].
#[derive(Default)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: Vec<SkippedKey>,
}

impl KeySet {
    /// Reads a set of keys (JWKS, RFC 7517), one JWK, or PEM with one or more `PUBLIC KEY`s of
    /// Ed25519 or P-256.
    ///
    /// Keys of a set that are not supported are skipped, as RFC 7517 asks: see
    /// [`skipped`](Self::skipped). At least one must be usable. A private key is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::read(bytes, true)
    }

    /// Reads a set of keys that was published, as [`parse`](Self::parse) does. Secrets are skipped:
    /// everybody knows them.
    pub fn parse_published(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::read(bytes, false)
    }

    /// Makes a set of one secret for HS256, of at least [`MIN_SECRET`] bytes.
    ///
    /// It is not recognised by its content: a damaged file with a public key would be one, and then
    /// everybody who has the public key could sign.
    pub fn from_secret(secret: &[u8], id: Option<&str>) -> Result<Self, KeyError> {
        if secret.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLarge(secret.len()));
        }
        let says = |text: &str| secret.windows(text.len()).any(|part| part == text.as_bytes());
        // The last is the start of a public key in DER.
        if says("-----BEGIN") || strict_json::object(secret).is_some() || is_spki(secret) {
            return Err(KeyError::NotSecret);
        }
        if secret.len() < MIN_SECRET {
            return Err(KeyError::ShortSecret(secret.len()));
        }
        let material = Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret));
        let keys = vec![Key { id: id.map(str::to_owned), material }];
        Ok(Self { keys, skipped: Vec::new() })
    }

    /// Adds the keys of another set.
    pub fn extend(&mut self, other: Self) -> Result<(), KeyError> {
        if self.keys.len() + other.keys.len() > MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        self.keys.extend(other.keys);
        self.skipped.extend(other.skipped);
        Ok(())
    }

    /// Returns the algorithm and the id of each key.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = (Algorithm, Option<&str>)> {
        self.keys.iter().map(|key| (key.algorithm(), key.id.as_deref()))
    }

    /// Returns the keys of the file that are not used, at most [`MAX_KEYS`] of them.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// Returns the keys that may have signed a token with this algorithm and id. A key without an id
    /// may have signed any, and a token without one may be from any key.
    pub(super) fn candidates(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> impl Iterator<Item = &Key> {
        let named = move |key: &&Key| match (&key.id, id) {
            (Some(mine), Some(asked)) => mine == asked,
            _ => true,
        };
        self.keys.iter().filter(move |key| key.algorithm() == algorithm).filter(named)
    }

    fn read(bytes: &[u8], secrets: bool) -> Result<Self, KeyError> {
        if bytes.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLarge(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| KeyError::Format)?;
        if text.contains("-----BEGIN") {
            return Self::from_pem(text);
        }
        let object = strict_json::object(bytes).ok_or(KeyError::Format)?;
        let list = match object.get("keys") {
            Some(Value::Array(list)) => list,
            None if object.contains_key("kty") => &vec![Value::Object(object)],
            _ => return Err(KeyError::Format),
        };
        let mut set = Self::default();
        for (index, jwk) in list.iter().enumerate() {
            let jwk = jwk.as_object().ok_or(KeyError::Format)?;
            match from_jwk(jwk, secrets) {
                Ok(_) if set.keys.len() == MAX_KEYS => return Err(KeyError::TooMany),
                Ok(key) => set.keys.push(key),
                Err(Unusable::Private) => return Err(KeyError::Private),
                Err(Unusable::Skip(reason)) if set.skipped.len() < MAX_KEYS => {
                    set.skipped.push(SkippedKey { index, reason });
                }
                Err(Unusable::Skip(_)) => {}
            }
        }
        if set.keys.is_empty() {
            return Err(KeyError::NoneUsable(set.skipped));
        }
        Ok(set)
    }

    fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        let mut set = Self::default();
        for der in SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes()) {
            let material = der.ok().and_then(|der| from_spki(&der)).ok_or(KeyError::Pem)?;
            if set.keys.len() == MAX_KEYS {
                return Err(KeyError::TooMany);
            }
            set.keys.push(Key { id: None, material });
        }
        if set.keys.is_empty() { Err(KeyError::Pem) } else { Ok(set) }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

// The bytes before the key in DER, which has one encoding: RFC 8410, section 4.
const SPKI_ED25519: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

// The same of an uncompressed point on P-256: RFC 5480, section 2.
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

fn from_spki(der: &[u8]) -> Option<Material> {
    if let Some(key) = der.strip_prefix(&SPKI_ED25519) {
        return key.try_into().ok().map(Material::Ed25519);
    }
    let point: [u8; 65] = der.strip_prefix(&SPKI_P256)?.try_into().ok()?;
    (point[0] == 4).then_some(Material::P256(point))
}

// A SEQUENCE that starts with a SEQUENCE that starts with an OBJECT IDENTIFIER: a public key in DER,
// of any kind.
fn is_spki(bytes: &[u8]) -> bool {
    fn content(bytes: &[u8]) -> &[u8] {
        match bytes {
            [0x30, 0x82, _, _, rest @ ..] | [0x30, 0x81, _, rest @ ..] | [0x30, _, rest @ ..] => {
                rest
            }
            _ => &[],
        }
    }
    content(content(bytes)).first() == Some(&6)
}

enum Unusable {
    Private,
    Skip(&'static str),
}

/// Returns the bytes of a member in base64url without padding.
pub(super) fn bytes_of(jwk: &Map<String, Value>, member: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(jwk.get(member)?.as_str()?).ok()
}

fn from_jwk(jwk: &Map<String, Value>, secrets: bool) -> Result<Key, Unusable> {
    let text = |member: &str| jwk.get(member).and_then(Value::as_str);
    let kind = text("kty").ok_or(Unusable::Skip("has no \"kty\""))?;
    if kind != "oct" && jwk.contains_key("d") {
        return Err(Unusable::Private);
    }
    let size = "has a coordinate that is missing, or not base64url of 32 bytes";
    let part = |member| {
        let bytes = bytes_of(jwk, member).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.ok_or(Unusable::Skip(size))
    };
    let material = match (kind, text("crv")) {
        ("OKP", Some("Ed25519")) => Material::Ed25519(part("x")?),
        ("EC", Some("P-256")) => {
            let mut point = [4; 65];
            point[1..33].copy_from_slice(&part("x")?);
            point[33..].copy_from_slice(&part("y")?);
            Material::P256(point)
        }
        ("oct", _) if !secrets => return Err(Unusable::Skip("is a secret that was published")),
        ("oct", _) => {
            let secret = bytes_of(jwk, "k").filter(|secret| secret.len() >= MIN_SECRET);
            let secret = secret.ok_or(Unusable::Skip("has no \"k\" of 32 bytes or more"))?;
            Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, &secret))
        }
        _ => return Err(Unusable::Skip("is of a kind that is not supported")),
    };
    let id = match jwk.get("kid") {
        None => None,
        Some(Value::String(id)) if id.len() <= MAX_KEY_ID => Some(id.clone()),
        Some(_) => return Err(Unusable::Skip("has a \"kid\" that is not a text of 255 bytes")),
    };
    let key = Key { id, material };
    // The use that its owner states.
    if jwk.contains_key("alg")
        && text("alg").and_then(Algorithm::from_name) != Some(key.algorithm())
    {
        return Err(Unusable::Skip("is for another \"alg\""));
    }
    if jwk.contains_key("use") && text("use") != Some("sig") {
        return Err(Unusable::Skip("is not for signatures, by its \"use\""));
    }
    let verify = |operations: &Value| {
        operations.as_array().is_some_and(|all| all.iter().any(|one| one == "verify"))
    };
    if jwk.get("key_ops").is_some_and(|operations| !verify(operations)) {
        return Err(Unusable::Skip("is not for verifying, by its \"key_ops\""));
    }
    Ok(key)
}
