//! Tokens made to be accepted though they should not.

use super::*;
use crate::access::token::TokenError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

const CLAIMS: &str = r#"{"exp":1900000000,"sub":"mallory","weir":{"publish":["**"]}}"#;

fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

fn part(token: &str, at: usize) -> &str {
    token.split('.').nth(at).unwrap()
}

#[test]
fn unsigned_in_every_spelling() {
    for algorithm in ALL {
        let key = signing(algorithm);
        let verifier = verifier(&key);
        for none in ["none", "None", "NONE", "nOnE"] {
            let header = encode(format!(r#"{{"alg":"{none}","kid":"first"}}"#));
            let signature = part(&signed(&key, CLAIMS), 2).to_owned();
            for signature in ["", "AAAA", &signature] {
                let token = format!("{header}.{}.{signature}", encode(CLAIMS));
                assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Unsigned), "{token}");
            }
        }
        for other in
            ["", "none ", "\\u0000none", "nоne", "null", "eddsa", "es256", "hs256", "HS256 "]
        {
            let header = encode(format!(r#"{{"alg":"{other}","kid":"first"}}"#));
            let token = format!("{header}.{}.", encode(CLAIMS));
            let found = verifier.verify(&token, NOW);
            assert!(matches!(found, Err(TokenError::Algorithm(_))), "{other:?}: {found:?}");
        }
        for header in
            [r#"{"kid":"first"}"#, r#"{"alg":null}"#, r#"{"alg":["EdDSA"]}"#, r#"{"alg":0}"#]
        {
            let token = key.sign_parts(header, CLAIMS).unwrap();
            assert!(matches!(verifier.verify(&token, NOW), Err(TokenError::Malformed(_))));
        }
        // A valid signature taken away.
        let token = signed(&key, CLAIMS);
        let bare = &token[..=token.rfind('.').unwrap()];
        assert_eq!(verifier.verify(bare, NOW), Err(TokenError::Signature));
    }
}

#[test]
fn algorithms_that_are_not_supported() {
    let key = signing(Algorithm::EdDsa);
    for name in ["RS256", "PS256", "ES384", "HS384", "HS512", "ES256K", "Ed448", "dir", "A128KW"] {
        let token = key.sign_parts(&format!(r#"{{"alg":"{name}"}}"#), CLAIMS).unwrap();
        let found = verifier(&key).verify(&token, NOW);
        assert!(matches!(found, Err(TokenError::Algorithm(_))), "{name}: {found:?}");
    }
    // RFC 9864 has another name for the same algorithm.
    let token = key.sign_parts(r#"{"alg":"Ed25519"}"#, CLAIMS).unwrap();
    assert!(verifier(&key).verify(&token, NOW).is_ok());
}

#[test]
fn a_public_key_is_no_secret() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let key = signing(algorithm);
        let public = key.public_jwks().unwrap();
        let set: serde_json::Value = serde_json::from_str(&public).unwrap();
        let (jwk, x) = (set["keys"][0].to_string(), set["keys"][0]["x"].as_str().unwrap());
        let bytes = URL_SAFE_NO_PAD.decode(x).unwrap();
        let y = set["keys"][0]["y"].as_str().map(|y| URL_SAFE_NO_PAD.decode(y).unwrap());
        let point = [&[4], &bytes[..], &y.unwrap_or_default()].concat();
        // Beside a secret of the daemon's, too.
        let secret = SigningKey::generate(Algorithm::Hs256, Some("second")).unwrap();
        let mut both = keys(&key);
        both.extend(keys(&secret)).unwrap();
        let verifiers = [verifier(&key), Verifier::new(both, Expectations::default())];
        for known in [&*bytes, &point, x.as_bytes(), public.as_bytes(), jwk.as_bytes(), b""] {
            for (alg, kid) in
                [("HS256", "first"), ("HS256", "second"), ("EdDSA", "first"), ("ES256", "first")]
            {
                let header = encode(format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#));
                let message = format!("{header}.{}", encode(CLAIMS));
                let known = hmac::Key::new(hmac::HMAC_SHA256, known);
                let token = format!("{message}.{}", encode(hmac::sign(&known, message.as_bytes())));
                for verifier in &verifiers {
                    assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Signature));
                }
            }
        }
    }
}

#[test]
fn the_algorithm_is_the_keys() {
    for (mine, named) in ALL.into_iter().flat_map(|mine| ALL.map(|named| (mine, named))) {
        let key = signing(mine);
        let header = format!(r#"{{"alg":"{}","kid":"first"}}"#, named.name());
        let token = key.sign_parts(&header, CLAIMS).unwrap();
        let found = verifier(&key).verify(&token, NOW);
        match found {
            Ok(_) => assert_eq!(mine, named),
            Err(error) => assert!(error == TokenError::Signature && mine != named),
        }
    }
}

#[test]
fn the_key_is_the_one_with_the_id() {
    let [first, second] =
        ["first", "second"].map(|id| SigningKey::generate(Algorithm::EdDsa, Some(id)).unwrap());
    let mut both = keys(&first);
    both.extend(keys(&second)).unwrap();
    let verifier = Verifier::new(both, Expectations::default());
    let verify = |key: &SigningKey, header: &str| {
        verifier.verify(&key.sign_parts(header, CLAIMS).unwrap(), NOW).map(|_| ())
    };
    assert_eq!(verify(&first, r#"{"alg":"EdDSA","kid":"first"}"#), Ok(()));
    assert_eq!(verify(&second, r#"{"alg":"EdDSA","kid":"second"}"#), Ok(()));
    assert_eq!(verify(&first, r#"{"alg":"EdDSA"}"#), Ok(()), "without an id all are tried");
    let signature = Err(TokenError::Signature);
    assert_eq!(verify(&first, r#"{"alg":"EdDSA","kid":"second"}"#), signature);
    // Elsewhere these could be a path, an address, or a query. Here they are texts.
    let long = "x".repeat(1000);
    for id in [
        "third",
        "",
        "First",
        "first ",
        "first\\u0000",
        "../../../../dev/null",
        "/dev/null",
        "file:///dev/null",
        "https://evil.example/keys",
        "' OR '1'='1",
        "first' UNION SELECT 'AAAA",
        "$(id)",
        "0",
        &long,
    ] {
        let header = format!(r#"{{"alg":"EdDSA","kid":"{id}"}}"#);
        assert_eq!(verify(&first, &header), signature, "{id}");
        // The empty key, as a file without bytes would be.
        let header = encode(header.replace("EdDSA", "HS256"));
        let message = format!("{header}.{}", encode(CLAIMS));
        let empty = hmac::Key::new(hmac::HMAC_SHA256, b"");
        let token = format!("{message}.{}", encode(hmac::sign(&empty, message.as_bytes())));
        assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Signature));
    }
    for id in ["null", "0", "[\"first\"]", "{}", "true"] {
        let found = verify(&first, &format!(r#"{{"alg":"EdDSA","kid":{id}}}"#));
        assert!(matches!(found, Err(TokenError::Malformed(_))), "{id}");
    }
}

#[test]
fn keys_that_a_token_brings_along_are_ignored() {
    let (ours, theirs) = (signing(Algorithm::EdDsa), signing(Algorithm::EdDsa));
    let set: serde_json::Value = serde_json::from_str(&theirs.public_jwks().unwrap()).unwrap();
    let brought = format!(
        r#"{{"alg":"EdDSA","kid":"first","jwk":{},"jku":"https://evil.example/jwks.json",
        "x5u":"https://evil.example/cert","x5c":["MIIB"],"b64":false}}"#,
        set["keys"][0]
    );
    let verify = |key: &SigningKey, header: &str| {
        verifier(&ours).verify(&key.sign_parts(header, CLAIMS).unwrap(), NOW).map(|_| ())
    };
    assert_eq!(verify(&theirs, &brought), Err(TokenError::Signature));
    assert_eq!(verify(&ours, &brought), Ok(()));
    for crit in ["[\"b64\"]", "[]", "null", "[\"exp\"]", "false"] {
        let header = format!(r#"{{"alg":"EdDSA","crit":{crit},"b64":true}}"#);
        assert_eq!(verify(&ours, &header), Err(TokenError::Critical), "{crit}");
    }
}

#[test]
fn members_twice() {
    let key = signing(Algorithm::EdDsa);
    let verify = |header: &str, payload: &str| {
        verifier(&key).verify(&key.sign_parts(header, payload).unwrap(), NOW)
    };
    let header = r#"{"alg":"EdDSA"}"#;
    assert!(verify(header, CLAIMS).is_ok());
    for (header, payload) in [
        (r#"{"alg":"none","alg":"EdDSA"}"#, CLAIMS),
        (r#"{"alg":"EdDSA","\u0061lg":"EdDSA"}"#, CLAIMS),
        (r#"{"alg":"EdDSA","kid":"first","kid":"first"}"#, CLAIMS),
        (header, r#"{"exp":1900000000,"exp":1}"#),
        (header, r#"{"exp":1900000000,"weir":{},"weir":{"publish":["**"]}}"#),
        (header, r#"{"exp":1900000000,"weir":{"publish":[],"publish":["**"]}}"#),
        (header, r#"{"exp":1900000000,"x":1,"x":2}"#),
    ] {
        let found = verify(header, payload);
        assert!(matches!(found, Err(TokenError::Malformed(_))), "{header} {payload}: {found:?}");
    }
}

#[test]
fn large_and_deep() {
    let key = signing(Algorithm::EdDsa);
    let verifier = verifier(&key);
    let padded = |length: usize| {
        let claims = CLAIMS.replace("mallory", "m\",\"x\":\"");
        let claims = claims.replace("\"x\":\"", &format!("\"x\":\"{}", "x".repeat(length)));
        signed(&key, &claims)
    };
    let token = padded(5900);
    assert!(token.len() <= 8192 && verifier.verify(&token, NOW).is_ok(), "{}", token.len());
    let token = padded(6200);
    assert_eq!(verifier.verify(&token, NOW), Err(TokenError::TooLong(token.len())));
    let huge = "a.".repeat(10_000_000);
    assert_eq!(verifier.verify(&huge, NOW), Err(TokenError::TooLong(20_000_000)));
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [126, 1000] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let payload = format!(r#"{{"exp":1900000000,"x":{deep}}}"#);
            let token = signed(&key, &payload);
            assert_eq!(verifier.verify(&token, NOW).is_ok(), depth < 128, "{open} {depth}");
            // Before its signature is verified.
            let token =
                key.sign_parts(&format!(r#"{{"alg":"EdDSA","x":{deep}}}"#), CLAIMS).unwrap();
            assert_eq!(verifier.verify(&token, NOW).is_ok(), depth < 128, "{open} {depth}");
        }
    }
    // Nor may a header without an end cost more than its length.
    let open = format!("{}.e30.AAAA", encode("[".repeat(6000)));
    assert!(matches!(verifier.verify(&open, NOW), Err(TokenError::Malformed(_))));
}

#[test]
fn other_forms() {
    let key = signing(Algorithm::Hs256);
    let verifier = verifier(&key);
    let token = signed(&key, CLAIMS);
    assert!(verifier.verify(&token, NOW).is_ok());
    let [header, payload, signature] = [0, 1, 2].map(|at| part(&token, at));
    let malformed = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        header.to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        // A JWE has five parts, and JWS as JSON none.
        format!("{token}.{payload}.{signature}"),
        format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#),
        // Padding, white space, and the alphabet of plain base64.
        format!("{token}="),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}==.{payload}=.{signature}="),
        format!("{token}\n"),
        format!(" {token}"),
        format!("{header}.{payload}. {signature}"),
        format!("{token}\0"),
        format!("{header}.{payload}.{}", "+/".repeat(21)),
        format!("{token}é"),
        format!("Bearer {token}"),
    ];
    for token in malformed {
        let found = verifier.verify(&token, NOW);
        assert!(matches!(found, Err(TokenError::Malformed(_))), "{token:?}: {found:?}");
    }
    // Text that is not UTF-8, or begins with a mark of its order of bytes.
    for payload in
        [&b"\xff\xfe"[..], b"\xef\xbb\xbf{\"exp\":1900000000}", b"{\"exp\":1900000000}\0"]
    {
        let message = format!("{header}.{}", encode(payload));
        let secret = key.private_jwk().unwrap();
        let secret: serde_json::Value = serde_json::from_str(&secret).unwrap();
        let secret = URL_SAFE_NO_PAD.decode(secret["k"].as_str().unwrap()).unwrap();
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let token = format!("{message}.{}", encode(hmac::sign(&secret, message.as_bytes())));
        assert!(matches!(verifier.verify(&token, NOW), Err(TokenError::Malformed(_))));
    }
}

#[test]
fn signatures_of_zeros_and_of_other_lengths() {
    for algorithm in ALL {
        let key = signing(algorithm);
        let verifier = verifier(&key);
        let token = signed(&key, CLAIMS);
        let message = &token[..token.rfind('.').unwrap()];
        let valid = URL_SAFE_NO_PAD.decode(part(&token, 2)).unwrap();
        let with =
            |signature: &[u8]| verifier.verify(&format!("{message}.{}", encode(signature)), NOW);
        assert!(with(&valid).is_ok());
        for length in [0, 1, 31, 32, 63, 64, 65, 72, 128] {
            for byte in [0, 1, 0xff] {
                assert_eq!(with(&vec![byte; length]), Err(TokenError::Signature));
            }
        }
        for length in 0..valid.len() {
            assert_eq!(with(&valid[..length]), Err(TokenError::Signature), "{length}");
            assert_eq!(with(&valid[length + 1..]), Err(TokenError::Signature), "{length}");
        }
        for more in [&[0][..], &[0; 32], &valid] {
            assert_eq!(with(&[&valid, more].concat()), Err(TokenError::Signature));
            assert_eq!(with(&[more, &valid].concat()), Err(TokenError::Signature));
        }
        if algorithm == Algorithm::Es256 {
            // Half of it zero, and the order of the curve itself, which is 0.
            let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
            let order: Vec<u8> = (0..32)
                .map(|at| u8::from_str_radix(&order[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            for half in [vec![0; 32], order] {
                assert_eq!(with(&[&valid[..32], &half].concat()), Err(TokenError::Signature));
                assert_eq!(with(&[&half, &valid[32..]].concat()), Err(TokenError::Signature));
            }
            // In the encoding of certificates (DER).
            let der =
                [&[0x30, 0x44, 0x02, 0x20], &valid[..32], &[0x02, 0x20], &valid[32..]].concat();
            assert_eq!(with(&der), Err(TokenError::Signature));
        }
    }
}

// The order of Ed25519's base point, little-endian: s + order would be a second signature, unless s
// has to be below it (RFC 8032, section 5.1.7).
#[test]
fn a_second_signature_of_ed25519_is_refused() {
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10_u8,
    ];
    let key = signing(Algorithm::EdDsa);
    let token = signed(&key, CLAIMS);
    let mut signature = URL_SAFE_NO_PAD.decode(part(&token, 2)).unwrap();
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    let message = &token[..token.rfind('.').unwrap()];
    let token = format!("{message}.{}", encode(signature));
    assert_eq!(verifier(&key).verify(&token, NOW), Err(TokenError::Signature));
}

#[test]
fn a_token_with_any_bit_flipped() {
    for algorithm in ALL {
        let key = signing(algorithm);
        let verifier = verifier(&key);
        let token = signed(&key, CLAIMS);
        assert!(verifier.verify(&token, NOW).is_ok());
        for (at, bit) in (0..token.len()).flat_map(|at| (0..7).map(move |bit| (at, bit))) {
            let mut flipped = token.clone().into_bytes();
            flipped[at] ^= 1 << bit;
            let flipped = String::from_utf8(flipped).unwrap();
            assert!(verifier.verify(&flipped, NOW).is_err(), "{at} {bit}: {flipped}");
        }
    }
}

#[test]
fn a_part_of_a_token() {
    for algorithm in ALL {
        let key = signing(algorithm);
        let verifier = verifier(&key);
        let token = signed(&key, CLAIMS);
        for at in 0..token.len() {
            assert!(verifier.verify(&token[..at], NOW).is_err(), "{at}");
            assert!(at == 0 || verifier.verify(&token[at..], NOW).is_err(), "{at}");
            let without = format!("{}{}", &token[..at], &token[at + 1..]);
            assert!(verifier.verify(&without, NOW).is_err(), "{at}");
            for more in ["A", ".", "=", "\0", "é"] {
                let with = format!("{}{more}{}", &token[..at], &token[at..]);
                assert!(verifier.verify(&with, NOW).is_err(), "{at} {more}");
            }
        }
    }
}

#[test]
fn parts_of_two_tokens() {
    let key = signing(Algorithm::Es256);
    let [one, other] =
        [CLAIMS, r#"{"exp":1900000000,"sub":"ada"}"#].map(|claims| signed(&key, claims));
    let swapped = format!("{}.{}.{}", part(&one, 0), part(&one, 1), part(&other, 2));
    assert_eq!(verifier(&key).verify(&swapped, NOW), Err(TokenError::Signature));
}

#[test]
fn errors_tell_nothing_about_keys() {
    let key = SigningKey::generate(Algorithm::EdDsa, Some("hidden-id")).unwrap();
    let other = signing(Algorithm::EdDsa);
    let found = verifier(&key).verify(&signed(&other, CLAIMS), NOW).unwrap_err().to_string();
    let header = r#"{"alg":"EdDSA","kid":"hidden-id"}"#;
    let token = other.sign_parts(header, CLAIMS).unwrap();
    let known = verifier(&key).verify(&token, NOW).unwrap_err().to_string();
    assert_eq!(found, known, "the same for an id that exists and one that does not");
    assert!(!found.contains("hidden-id"));
    let debug = format!("{:?} {key:?}", verifier(&key));
    let jwk: serde_json::Value = serde_json::from_str(&key.private_jwk().unwrap()).unwrap();
    assert!(!debug.contains(jwk["d"].as_str().unwrap()), "{debug}");
    let secret = SigningKey::generate(Algorithm::Hs256, None).unwrap();
    let debug = format!("{:?} {secret:?}", verifier(&secret));
    let jwk: serde_json::Value = serde_json::from_str(&secret.private_jwk().unwrap()).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(jwk["k"].as_str().unwrap()).unwrap();
    assert!(!debug.contains(jwk["k"].as_str().unwrap()) && !debug.contains(&format!("{bytes:?}")));
}

proptest::proptest! {
    #[test]
    fn any_text_is_refused(
        text in "\\PC{0,40}|[A-Za-z0-9_.-]{0,200}|[A-Za-z0-9_-]{1,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}",
        now in 0..u64::MAX,
    ) {
        let key = signing(Algorithm::EdDsa);
        proptest::prop_assert!(verifier(&key).verify(&text, now).is_err());
    }

    // Signed by the issuer, and yet malformed, at any time.
    #[test]
    fn any_claims_are_handled(
        json in "[\\[{\":,0-9a-z}\\]]{0,60}|\\{\"exp\":[0-9.e+-]{1,20},\"weir\":[\\[{\":,a-z*/}\\]]{0,40}\\}",
        now in 0..u64::MAX,
    ) {
        let key = signing(Algorithm::Hs256);
        let _ = verifier(&key).verify(&signed(&key, &json), now);
    }
}
