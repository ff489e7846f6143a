use super::*;

const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

const P256: &str = r#"{"kty":"EC","crv":"P-256",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

fn okp(more: &str) -> String {
    format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}"{more}}}"#)
}

fn oct(length: usize) -> String {
    format!(r#"{{"kty":"oct","k":"{}"}}"#, URL_SAFE_NO_PAD.encode(vec![7; length]))
}

fn set(keys: &[&str]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

fn parse(text: &str) -> Result<KeySet, KeyError> {
    KeySet::parse(text.as_bytes())
}

fn skipped(jwk: &str) -> &'static str {
    match parse(jwk) {
        Err(KeyError::NoneUsable(skipped)) => skipped[0].reason,
        other => panic!("{jwk}: {other:?}"),
    }
}

#[test]
fn a_key_and_a_set_of_keys() {
    assert_eq!(parse(&okp("")).unwrap().ids().collect::<Vec<_>>(), [(Algorithm::EdDsa, None)]);
    let named = okp(r#","kid":"a","alg":"Ed25519","use":"sig","key_ops":["verify"],"x5t":"other""#);
    let found = parse(&set(&[&named, P256, &oct(32)])).unwrap();
    let ids = [(Algorithm::EdDsa, Some("a")), (Algorithm::Es256, None), (Algorithm::Hs256, None)];
    assert_eq!(found.ids().collect::<Vec<_>>(), ids);
    assert!(found.skipped().is_empty());
}

#[test]
fn keys_that_are_not_supported_are_skipped_and_told() {
    let rsa = r#"{"kty":"RSA","n":"AQAB","e":"AQAB","alg":"RS256"}"#;
    let found =
        parse(&set(&[rsa, &okp(""), r#"{"kty":"EC","crv":"P-384","x":"","y":""}"#])).unwrap();
    assert_eq!(found.ids().len(), 1);
    assert_eq!(found.skipped().iter().map(|key| key.index).collect::<Vec<_>>(), [0, 2]);
    assert!(skipped(rsa).contains("not supported"));
    assert!(skipped(r#"{"kty":"OKP","crv":"X25519","x":"AAAA"}"#).contains("not supported"));
    assert!(skipped(r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#).contains("32 bytes"));
    assert!(skipped(r#"{"kty":"OKP","crv":"Ed25519"}"#).contains("32 bytes"));
    assert!(skipped(&P256.replace("\"y\":\"x", "\"y\":\"")).contains("32 bytes"));
    assert!(skipped(&okp("").replace(X, &format!("{X}="))).contains("base64url"));
    assert!(skipped(&okp(r#","alg":"HS256""#)).contains("alg"));
    assert!(skipped(&okp(r#","alg":"ES256""#)).contains("alg"));
    assert!(skipped(&okp(r#","alg":null"#)).contains("alg"));
    assert!(skipped(&okp(r#","use":"enc""#)).contains("use"));
    assert!(skipped(&okp(r#","key_ops":["encrypt"]"#)).contains("key_ops"));
    assert!(skipped(&okp(r#","kid":7"#)).contains("kid"));
    assert!(skipped(&okp(&format!(r#","kid":"{}""#, "x".repeat(256)))).contains("kid"));
    assert!(skipped(&oct(31)).contains("32 bytes"));
    assert!(skipped(&oct(32).replace('}', ",\"alg\":\"HS512\"}")).contains("alg"));
    let text = parse(rsa).unwrap_err().to_string();
    assert!(text.contains("key 0 is of a kind"), "{text}");
}

#[test]
fn private_keys_do_not_belong_on_a_daemon() {
    let private = okp(r#","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A""#);
    assert_eq!(parse(&private).unwrap_err(), KeyError::Private);
    assert_eq!(parse(&set(&[&okp(""), &private])).unwrap_err(), KeyError::Private);
    for kind in ["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
        let pem = format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
        assert_eq!(parse(&pem).unwrap_err(), KeyError::Private);
    }
}

#[test]
fn a_published_secret_is_none() {
    let mixed = set(&[&oct(32), &okp("")]);
    let found = KeySet::parse_published(mixed.as_bytes()).unwrap();
    assert_eq!(found.ids().collect::<Vec<_>>(), [(Algorithm::EdDsa, None)]);
    assert!(found.skipped()[0].reason.contains("published"));
    assert!(KeySet::parse_published(oct(32).as_bytes()).is_err());
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

#[test]
fn keys_in_pem() {
    // `openssl pkey -pubout` of the keys above.
    let ed25519 = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    let p256 = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7\n\
        6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n-----END PUBLIC KEY-----\n";
    let found = parse(&format!("A comment.\n{ed25519}{p256}")).unwrap();
    let ids = [(Algorithm::EdDsa, None), (Algorithm::Es256, None)];
    assert_eq!(found.ids().collect::<Vec<_>>(), ids);
    let Material::Ed25519(key) = &found.keys[0].material else { panic!() };
    assert_eq!(URL_SAFE_NO_PAD.encode(key), X);
    let compressed = [&SPKI_P256[..], &[2; 65]].concat();
    let too_long = [&SPKI_ED25519[..], &[0; 33]].concat();
    for bad in [&compressed, &too_long, &too_long[..40], &[0x30, 0x82][..], &[]] {
        assert_eq!(parse(&pem(bad)).unwrap_err(), KeyError::Pem);
    }
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for bad in [certificate, "-----BEGIN PUBLIC KEY-----\nAAAA", "-----BEGIN"] {
        assert_eq!(parse(bad).unwrap_err(), KeyError::Pem, "{bad}");
    }
}

#[test]
fn what_is_no_file_of_keys() {
    for bad in [
        "",
        "[]",
        "{}",
        "null",
        r#"{"keys":{}}"#,
        r#"{"keys":[1]}"#,
        r#"{"kty":"OKP","kty":"oct"}"#,
        "a secret of at least thirty-two bytes",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI user@host",
    ] {
        assert_eq!(parse(bad).unwrap_err(), KeyError::Format, "{bad}");
    }
    assert_eq!(KeySet::parse(&[0xff; 64]).unwrap_err(), KeyError::Format);
    assert!(matches!(parse(r#"{"keys":[]}"#), Err(KeyError::NoneUsable(none)) if none.is_empty()));
}

#[test]
fn bounds() {
    let list = |count: usize| set(&vec![&*okp(""); count]);
    assert_eq!(parse(&list(16)).unwrap().ids().len(), 16);
    assert_eq!(parse(&list(17)).unwrap_err(), KeyError::TooMany);
    let mut full = parse(&list(16)).unwrap();
    assert_eq!(full.extend(parse(&okp("")).unwrap()), Err(KeyError::TooMany));
    let seventeen = pem(&[&SPKI_ED25519[..], &[1; 32]].concat()).repeat(17);
    assert_eq!(parse(&seventeen).unwrap_err(), KeyError::TooMany);
    let unsupported = vec!["{\"kty\":\"RSA\"}"; 1000];
    let found = parse(&set(&[&unsupported[..], &[&okp("")]].concat())).unwrap();
    assert_eq!((found.ids().len(), found.skipped().len()), (1, 16));
    let large = format!("{}{}", okp(""), " ".repeat(MAX_KEY_BYTES));
    assert_eq!(parse(&large).unwrap_err(), KeyError::TooLarge(large.len()));
    assert!(parse(&large[..MAX_KEY_BYTES]).is_ok());
}

#[test]
fn raw_secrets() {
    let of = |secret: &[u8]| KeySet::from_secret(secret, Some("a")).map(|set| set.ids().len());
    assert_eq!(of(&[0xff; 32]), Ok(1));
    assert_eq!(of(b"0123456789abcdef0123456789abcdef"), Ok(1));
    assert_eq!(of(&[7; 31]), Err(KeyError::ShortSecret(31)));
    assert_eq!(of(b""), Err(KeyError::ShortSecret(0)));
    assert!(matches!(of(&vec![7; 1 << 20]), Err(KeyError::TooLarge(_))));
    // Public keys, in any form.
    let der = [&SPKI_P256[..], &[4; 65]].concat();
    let rsa = [&[0x30, 0x82, 1, 0x22, 0x30, 0x0d, 6, 9][..], &[1; 290]].concat();
    for public in [
        okp("").as_bytes(),
        set(&[P256]).as_bytes(),
        format!("\u{feff}\n{}", pem(&der)).as_bytes(),
        b"-----BEGIN RSA PUBLIC KEY-----\nAAAAAAAAAAAAAAAA",
        &der,
        &[&SPKI_ED25519[..], &[1; 32]].concat(),
        &rsa,
    ] {
        assert_eq!(of(public), Err(KeyError::NotSecret), "{public:?}");
    }
}
