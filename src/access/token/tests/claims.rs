//! Claims of tokens.

use super::*;
use crate::access::token::TokenError;
use std::time::Duration;

fn verify_with(expectations: Expectations, payload: &str) -> Result<Identity, TokenError> {
    let key = signing(Algorithm::Hs256);
    Verifier::new(keys(&key), expectations).verify(&signed(&key, payload), NOW)
}

fn verify(payload: &str) -> Result<Identity, TokenError> {
    verify_with(Expectations::default(), payload)
}

// The path of the claim that is refused, and why.
fn refused(payload: &str) -> (String, String) {
    match verify(payload) {
        Err(TokenError::Claim { claim, problem }) => (claim, problem),
        other => panic!("{payload}: {other:?}"),
    }
}

#[test]
fn times() {
    let exp = |exp: &str| verify(&format!(r#"{{"exp":{exp}}}"#));
    assert_eq!(exp("1800000000").unwrap().expires(), Some(NOW + 60 * SECOND));
    assert_eq!(exp("1799999940.5").unwrap().expires(), Some(NOW + SECOND / 2));
    assert_eq!(exp("1.8e9").unwrap().expires(), Some(NOW + 60 * SECOND));
    assert_eq!(exp("253402300799").unwrap().expires(), Some(253_402_300_859 * SECOND));
    assert_eq!(exp("1799999940"), Err(TokenError::Expired(60)));
    assert_eq!(exp("0"), Err(TokenError::Expired(1_800_000_000)));
    for bad in [
        "-1",
        "-0.5",
        "253402300800",
        "18446744073709551615",
        "18446744073709551616",
        "1e300",
        "\"1800000000\"",
        "\"\"",
        "null",
        "true",
        "[1800000000]",
        "{}",
    ] {
        assert!(
            matches!(exp(bad), Err(TokenError::Claim { claim, .. }) if claim == "exp"),
            "{bad}: {:?}",
            exp(bad)
        );
    }
    for bad in ["1e999", "NaN", "Infinity", "0x6b49d200", "01800000000", "1_800_000_000", ""] {
        assert!(matches!(exp(bad), Err(TokenError::Malformed(_))), "{bad}");
    }
}

#[test]
fn a_token_expires_unless_the_daemon_needs_no_expiry() {
    assert!(matches!(verify("{}"), Err(TokenError::Missing { claim: "exp", .. })));
    let without = || Expectations::default().without_expiry();
    assert_eq!(verify_with(without(), "{}").unwrap().expires(), None);
    assert_eq!(
        verify_with(without(), r#"{"exp":1}"#),
        Err(TokenError::Expired(1_799_999_999)),
        "if it has one, it counts"
    );
    assert!(verify_with(without(), r#"{"exp":null}"#).is_err());
}

#[test]
fn the_leeway_is_bounded() {
    let hour = Expectations::default().with_leeway(Duration::from_secs(3600));
    assert_eq!(
        verify_with(hour, r#"{"exp":1799999940}"#),
        Err(TokenError::Expired(60)),
        "no more than a minute"
    );
    let none = || Expectations::default().with_leeway(Duration::ZERO);
    assert_eq!(verify_with(none(), r#"{"exp":1800000000}"#), Err(TokenError::Expired(0)));
    assert!(verify_with(none(), r#"{"exp":1800000001,"nbf":1800000000}"#).is_ok());
}

#[test]
fn tokens_of_the_future() {
    for claim in ["nbf", "iat"] {
        let at = |at: &str| verify(&format!(r#"{{"exp":1900000000,"{claim}":{at}}}"#));
        assert!(at("1800000060").is_ok() && at("0").is_ok());
        let seconds = 61;
        assert_eq!(at("1800000061"), Err(TokenError::NotYetValid { claim, seconds }));
        assert!(
            matches!(at("\"0\""), Err(TokenError::Claim { claim: found, .. }) if found == claim)
        );
        assert!(at("null").is_err() && at("-1").is_err());
    }
}

#[test]
fn audiences() {
    let ours = || Expectations::default().with_audience("weir.example");
    let aud = |aud: &str| format!(r#"{{"exp":1900000000,"aud":{aud}}}"#);
    for good in [r#""weir.example""#, r#"["other","weir.example"]"#] {
        assert!(verify_with(ours(), &aud(good)).is_ok(), "{good}");
        // It is for somebody, and this daemon is nobody.
        assert_eq!(verify(&aud(good)), Err(TokenError::UnexpectedAudience));
    }
    for other in [r#""""#, r#""weir.example.evil""#, r#""WEIR.example""#, r#"["other"]"#] {
        assert_eq!(verify_with(ours(), &aud(other)), Err(TokenError::Audience), "{other}");
    }
    for bad in ["null", "1", "[]", "{}", r#"["weir.example",1]"#, r#"[["weir.example"]]"#] {
        let found = verify_with(ours(), &aud(bad));
        assert!(matches!(found, Err(TokenError::Claim { claim, .. }) if claim == "aud"), "{bad}");
        assert!(verify(&aud(bad)).is_err());
    }
    let missing = verify_with(ours(), r#"{"exp":1900000000}"#);
    assert!(matches!(missing, Err(TokenError::Missing { claim: "aud", .. })));
}

#[test]
fn issuers() {
    let ours = || Expectations::default().with_issuer("https://id.example");
    let iss = |iss: &str| verify_with(ours(), &format!(r#"{{"exp":1900000000,"iss":{iss}}}"#));
    assert!(iss(r#""https://id.example""#).is_ok());
    assert_eq!(iss(r#""https://id.example/""#), Err(TokenError::Issuer));
    assert!(matches!(iss("[\"https://id.example\"]"), Err(TokenError::Claim { .. })));
    let missing = verify_with(ours(), r#"{"exp":1900000000}"#);
    assert!(matches!(missing, Err(TokenError::Missing { claim: "iss", .. })));
    assert!(verify(r#"{"exp":1900000000,"iss":"anybody"}"#).is_ok());
}

#[test]
fn names() {
    let sub = |sub: &str| format!(r#"{{"exp":1900000000,"sub":{sub}}}"#);
    let name = |text: &str| verify(&sub(text)).map(|identity| identity.name().map(str::to_owned));
    assert_eq!(name(r#""größe 日本""#), Ok(Some("größe 日本".to_owned())));
    assert_eq!(name(&format!("\"{}\"", "x".repeat(255))).unwrap().unwrap().len(), 255);
    for bad in [
        "\"\"",
        "null",
        "7",
        "[\"ada\"]",
        r#""a\u001b[2J""#,
        r#""a\n""#,
        r#""\u0000""#,
        &format!("\"{}\"", "x".repeat(256)),
    ] {
        assert_eq!(refused(&sub(bad)).0, "sub", "{bad}");
    }
}

#[test]
fn rights() {
    let weir = |weir: &str| format!(r#"{{"exp":1900000000,"weir":{weir}}}"#);
    let ada = verify(&weir(r#"{"publish":["demo/chat"],"subscribe":["demo/**"]}"#)).unwrap();
    assert!(ada.rights().may_publish("demo/chat") && !ada.rights().may_publish("demo/a"));
    assert!(ada.rights().may_read("demo/a"));
    // Nothing is granted that is not named, and no wildcard grants the daemon's own topics.
    assert_eq!(**verify(&weir("{}")).unwrap().rights(), Rights::nothing());
    let all = verify(&weir(r#"{"publish":["**"],"subscribe":["**"]}"#)).unwrap();
    assert!(!all.rights().is_everything() && !all.rights().may_read("$weir/x"));
    for (bad, path) in [
        ("null", "weir"),
        ("[]", "weir"),
        ("\"demo/**\"", "weir"),
        (r#"{"publsh":["a"]}"#, "weir"),
        (r#"{"Publish":["a"]}"#, "weir"),
        (r#"{"limit":{}}"#, "weir"),
        (r#"{"publish":["$weir/x"]}"#, "weir"),
        (r#"{"publish":"a"}"#, "weir.publish"),
        (r#"{"publish":null}"#, "weir.publish"),
        (r#"{"publish":["a",1]}"#, "weir.publish[1]"),
        (r#"{"subscribe":["a","b","a/**/b"]}"#, "weir.subscribe[2]"),
        (r#"{"subscribe":[""]}"#, "weir.subscribe[0]"),
        (r#"{"subscribe":["a\u001b[2J"]}"#, "weir.subscribe[0]"),
    ] {
        assert_eq!(refused(&weir(bad)).0, path, "{bad}");
    }
    assert!(refused(&weir(r#"{"publsh":["a"]}"#)).1.contains("\"publsh\""), "it says which");
    let many = |count: usize| {
        let list: Vec<_> = (0..count).map(|n| format!("\"t/{n}\"")).collect();
        weir(&format!(r#"{{"subscribe":[{}]}}"#, list.join(",")))
    };
    assert_eq!(verify(&many(64)).unwrap().rights().subscribe().len(), 64);
    assert_eq!(refused(&many(65)).0, "weir.subscribe");
}

#[test]
fn limits() {
    let limits =
        |limits: &str| format!(r#"{{"exp":1900000000,"sub":"ada","weir":{{"limits":{limits}}}}}"#);
    let all = r#"{"sessions":1,"messages_per_second":2,"bytes_per_second":3,"subscriptions":4}"#;
    let found = *verify(&limits(all)).unwrap().limits();
    assert_eq!((found.sessions, found.messages_per_second), (Some(1), Some(2)));
    assert_eq!((found.bytes_per_second, found.subscriptions), (Some(3), Some(4)));
    let none = *verify(&limits("{}")).unwrap().limits();
    assert_eq!(none, crate::access::IdentityLimits::default());
    for bad in ["0", "-1", "1.5", "4294967296", "\"1\"", "null", "true", "[1]"] {
        let found = refused(&limits(&format!(r#"{{"sessions":{bad}}}"#)));
        assert_eq!(found.0, "weir.limits.sessions", "{bad}");
    }
    assert_eq!(refused(&limits("[]")).0, "weir.limits");
    let (path, problem) = refused(&limits(r#"{"session":1}"#));
    assert!(path == "weir.limits" && problem.contains("\"session\""), "{problem}");
    // They count what all sessions of a name do, and would restrict nothing without one.
    for limit in ["sessions", "messages_per_second", "bytes_per_second"] {
        let nameless = limits(&format!(r#"{{"{limit}":1}}"#)).replace(r#""sub":"ada","#, "");
        let (path, problem) = refused(&nameless);
        assert_eq!(path, format!("weir.limits.{limit}"));
        assert!(problem.contains("\"sub\""), "{problem}");
    }
    let nameless = limits(r#"{"subscriptions":1}"#).replace(r#""sub":"ada","#, "");
    assert_eq!(verify(&nameless).unwrap().limits().subscriptions, Some(1));
}

#[test]
fn other_claims_are_ignored() {
    let payload = r#"{"exp":1900000000,"jti":"7","scope":"all","admin":true,"x":{"weir":{"publish":["**"]}}}"#;
    assert_eq!(**verify(payload).unwrap().rights(), Rights::nothing());
}

#[test]
fn what_a_token_says_is_quoted_in_errors() {
    let name = "\\u001b[31m".repeat(20);
    let (_, problem) = refused(&format!(r#"{{"exp":1900000000,"weir":{{"{name}":1}}}}"#));
    assert!(!problem.chars().any(char::is_control), "{problem}");
    assert!(problem.contains("\"…") && problem.len() < 200, "cut off: {problem}");
}
