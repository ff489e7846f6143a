//! Fuzz targets: tokens, and the keys that verify them.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "targets for a fuzzer, not a part of the daemon"
)]

use super::keys::{Algorithm, KeySet, MAX_KEY_ID, MAX_KEYS};
use super::token::{Expectations, MAX_LEEWAY, SigningKey, Verifier, named_key};
use crate::fuzz::Script;
use serde_json::Value;
use std::sync::OnceLock;

// 2027-01-15 in µs.
const NOW: u64 = 1_800_000_000_000_000;

struct Keys {
    signing: SigningKey,
    verifier: Verifier,
    strict: Verifier,
}

fn verifier() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let secret = r#"{"kty":"oct","kid":"s","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}"#;
        let signing = SigningKey::parse(secret.as_bytes()).unwrap();
        let keys = || {
            let mut keys = KeySet::parse(secret.as_bytes()).unwrap();
            for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
                let key = SigningKey::generate(algorithm, Some("k")).unwrap();
                keys.extend(KeySet::parse(key.public_jwks().unwrap().as_bytes()).unwrap()).unwrap();
            }
            keys
        };
        let expectations = Expectations::default().with_audience("weir").with_issuer("issuer");
        let strict = Verifier::new(keys(), expectations);
        let verifier = Verifier::new(keys(), Expectations::default());
        Keys { signing, verifier, strict }
    })
}

/// A token that nobody has signed is refused. One that was signed gives the name and the rights that
/// it says, and only for its time, audience and issuer.
pub(crate) fn tokens(data: &[u8]) {
    let Keys { signing, verifier, strict } = verifier();
    let mut script = Script::new(data);
    let signed = script.below(3);
    if signed == 0 {
        let token = String::from_utf8_lossy(script.rest());
        // The parts of a signed one are known, and its signature is not.
        assert!(verifier.verify(&token, NOW).is_err(), "nobody has signed {token:?}");
        let _ = named_key(&token);
        return;
    }
    let header = if signed == 1 { script.text() } else { r#"{"alg":"HS256","kid":"s"}"# };
    let payload = String::from_utf8_lossy(script.rest());
    let token = signing.sign_parts(header, &payload).unwrap();
    let named = named_key(&token);
    for (verifier, is_strict) in [(verifier, false), (strict, true)] {
        let identity = match verifier.verify(&token, NOW) {
            Ok(identity) => identity,
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() < 2000 && !text.chars().any(char::is_control), "{text:?}");
                continue;
            }
        };
        assert_eq!(named.as_ref().map(|(algorithm, _)| *algorithm), Ok(Algorithm::Hs256));
        let said: Value = serde_json::from_str(&payload).unwrap();
        let list = |claim: &str| match &said["weir"][claim] {
            Value::Array(all) => all.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
            _ => Vec::new(),
        };
        assert_eq!(identity.name(), said["sub"].as_str());
        for (claim, filters) in
            [("publish", identity.rights().publish()), ("subscribe", identity.rights().subscribe())]
        {
            let said: Vec<String> = list(claim);
            assert!(filters.iter().all(|filter| said.iter().any(|one| one == filter.as_str())));
        }
        let expires = said["exp"].as_f64().unwrap();
        let leeway = MAX_LEEWAY.as_secs_f64();
        assert!(expires + leeway >= NOW as f64 / 1e6, "it has expired");
        assert!((identity.expires().unwrap() as f64 / 1e6 - expires - leeway).abs() < 0.001);
        for claim in ["nbf", "iat"] {
            assert!(said[claim].as_f64().is_none_or(|from| from <= NOW as f64 / 1e6 + leeway));
        }
        if is_strict {
            assert_eq!(said["iss"], "issuer");
        }
        let audience = &said["aud"];
        let ours = audience == "weir"
            || audience.as_array().is_some_and(|all| all.iter().any(|one| one == "weir"));
        assert!(if is_strict { ours } else { audience.is_null() });
    }
}

/// A file of keys has at most so many, a published one has no secrets, and none passes for a raw secret.
pub(crate) fn keys(data: &[u8]) {
    let parsed = KeySet::parse(data);
    if let Ok(keys) = &parsed {
        assert!((1..=MAX_KEYS).contains(&keys.ids().len()) && keys.skipped().len() <= MAX_KEYS);
        assert!(keys.ids().all(|(_, id)| id.is_none_or(|id| id.len() <= MAX_KEY_ID)));
        assert!(KeySet::from_secret(data, None).is_err(), "a public key is used as a secret");
        let verifier = Verifier::new(KeySet::parse(data).unwrap(), Expectations::default());
        for header in ["eyJhbGciOiJFZERTQSJ9", "eyJhbGciOiJFUzI1NiJ9", "eyJhbGciOiJIUzI1NiJ9"] {
            assert!(verifier.verify(&format!("{header}.e30.{}", "A".repeat(86)), NOW).is_err());
        }
    }
    if let Err(error) = &parsed {
        assert!(!error.to_string().chars().any(char::is_control));
    }
    if let Ok(keys) = KeySet::parse_published(data) {
        assert!(keys.ids().all(|(algorithm, _)| algorithm != Algorithm::Hs256));
        assert!(parsed.is_ok());
    }
    if let Ok(key) = SigningKey::parse(data) {
        let private = key.private_jwk();
        let again = private.map(|private| SigningKey::parse(private.as_bytes()).unwrap());
        assert!(again.is_none_or(|again| again.thumbprint() == key.thumbprint()));
        assert!(key.algorithm() == Algorithm::Hs256 || parsed.is_err(), "a private key in use");
    }
}
