//! Tokens: what is accepted, and everything that is not.

mod attacks;
mod claims;
mod vectors;

use super::{Expectations, SigningKey, Verifier};
use crate::access::{Algorithm, Identity, KeySet, Rights};

/// Microseconds since 1970.
const NOW: u64 = 1_800_000_000_000_000;

const SECOND: u64 = 1_000_000;

const ALL: [Algorithm; 3] = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Hs256];

fn signing(algorithm: Algorithm) -> SigningKey {
    SigningKey::generate(algorithm, Some("first")).unwrap()
}

/// The keys as a daemon has them.
fn keys(of: &SigningKey) -> KeySet {
    let public = of.public_jwks().or_else(|| of.private_jwk()).unwrap();
    KeySet::parse(public.as_bytes()).unwrap()
}

fn verifier(of: &SigningKey) -> Verifier {
    Verifier::new(keys(of), Expectations::default())
}

fn ada() -> Identity {
    let rights = Rights::new(["demo/chat".parse().unwrap()], ["demo/**".parse().unwrap()]);
    Identity::named("ada", rights.unwrap()).unwrap().with_expires(NOW + 3600 * SECOND)
}

/// A signed token with this payload.
fn signed(key: &SigningKey, payload: &str) -> String {
    let header = format!(r#"{{"alg":"{}","kid":"first"}}"#, key.algorithm().name());
    key.sign_parts(&header, payload).unwrap()
}
