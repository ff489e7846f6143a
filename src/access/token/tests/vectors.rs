//! The examples of the RFCs, and what this program signs itself.

use super::*;
use crate::access::IdentityLimits;
use crate::access::token::TokenError;
use std::time::Duration;

fn of(keys: &str) -> Verifier {
    Verifier::new(KeySet::parse(keys.as_bytes()).unwrap(), Expectations::default())
}

// RFC 8037, appendix A.
const ED25519: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

const ED25519_PRIVATE: &str = r#"{"kty":"OKP","crv":"Ed25519",
    "d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

#[test]
fn rfc_8037_ed25519() {
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-\
                 09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let payload = of(ED25519).signed_payload(token).unwrap();
    assert_eq!(payload, b"Example of Ed25519 signing");
    // Its payload is not JSON, and so it is not a JWT.
    assert!(matches!(of(ED25519).verify(token, NOW), Err(TokenError::Malformed(_))));
    let key = SigningKey::parse(ED25519_PRIVATE.as_bytes()).unwrap();
    assert_eq!(key.sign_parts(r#"{"alg":"EdDSA"}"#, "Example of Ed25519 signing").unwrap(), token);
    let thumbprint = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
    assert_eq!(key.thumbprint().as_deref(), Some(thumbprint));
}

// RFC 7515, appendices A.1 and A.3: the same claims.
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9p\
                       c19yb290Ijp0cnVlfQ";

const EXPIRES: u64 = 1_300_819_380 * SECOND;

fn rfc_7515(keys: &str, header: &str, signature: &str) {
    let token = format!("{header}.{PAYLOAD}.{signature}");
    let identity = of(keys).verify(&token, EXPIRES - 1).unwrap();
    assert_eq!(identity.expires(), Some(EXPIRES + 60 * SECOND));
    assert_eq!((identity.name(), &**identity.rights()), (None, &Rights::nothing()));
    assert_eq!(of(keys).verify(&token, EXPIRES + 60 * SECOND), Err(TokenError::Expired(60)));
}

#[test]
fn rfc_7515_hs256() {
    let key = r#"{"kty":"oct","k":
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
    let header = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9";
    rfc_7515(key, header, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
}

#[test]
fn rfc_7515_es256() {
    let key = r#"{"kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    let signature =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    rfc_7515(key, "eyJhbGciOiJFUzI1NiJ9", signature);
    let private =
        key.replace("\"kty\"", r#""d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI","kty""#);
    let private = SigningKey::parse(private.as_bytes()).unwrap();
    let token = private.sign_parts(r#"{"alg":"ES256"}"#, "{}").unwrap();
    assert_eq!(of(key).signed_payload(&token).unwrap(), b"{}");
}

#[test]
fn what_was_signed_is_what_is_verified() {
    let limits = IdentityLimits {
        sessions: Some(1),
        messages_per_second: Some(2),
        bytes_per_second: Some(u64::MAX),
        subscriptions: Some(u32::MAX),
    };
    for algorithm in ALL {
        let key = signing(algorithm);
        let expectations = Expectations::default().with_leeway(Duration::ZERO);
        let expectations =
            expectations.with_audience("weir.example").with_issuer("https://id.example");
        let verifier = Verifier::new(keys(&key), expectations);
        for identity in [ada(), ada().with_limits(limits)] {
            let token = key.sign(&identity, Some("weir.example"), Some("https://id.example"), NOW);
            assert_eq!(verifier.verify(&token.unwrap(), NOW), Ok(identity));
        }
        let again = SigningKey::parse(key.private_jwk().unwrap().as_bytes()).unwrap();
        let token = again.sign(&ada(), Some("weir.example"), Some("https://id.example"), NOW);
        assert!(verifier.verify(&token.unwrap(), NOW).is_ok());
        assert_eq!((again.id(), again.algorithm()), (Some("first"), algorithm));
    }
}

#[test]
fn a_new_key_has_a_name_of_its_own() {
    let ids = ALL.map(|algorithm| {
        let [one, other] = [(); 2].map(|()| SigningKey::generate(algorithm, None).unwrap());
        assert_eq!(
            one.id().map(str::len),
            Some(if algorithm == Algorithm::Hs256 { 22 } else { 43 })
        );
        assert_ne!(one.id(), other.id());
        // A secret's name tells nothing about it.
        assert_eq!(one.thumbprint().is_some(), algorithm != Algorithm::Hs256);
        one.id().map(str::to_owned)
    });
    assert!(ids.iter().all(Option::is_some));
}

#[test]
fn a_token_that_would_be_refused_is_not_signed() {
    let filter = |n: usize| format!("{}/{n}", "x".repeat(200)).parse().unwrap();
    let many = Rights::new((0..60).map(filter), []).unwrap();
    let token = signing(Algorithm::EdDsa).sign(&Identity::anonymous(many), None, None, NOW);
    assert!(matches!(token, Err(super::super::SignError::TooLong(length)) if length > 8192));
}
