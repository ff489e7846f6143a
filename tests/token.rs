//! `weir token` as people and programs use it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{stderr, stdout, weir};
use serde_json::Value;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use tempfile::tempdir;

fn run_with(at: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = weir(at, &[&["token"], arguments].concat());
    command.current_dir(at).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn ok(at: &Path, arguments: &[&str]) -> String {
    let output = run_with(at, arguments, "");
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// The exit code, and what was printed to standard error.
fn failed(at: &Path, arguments: &[&str]) -> (i32, String) {
    let output = run_with(at, arguments, "");
    let code = output.status.code().unwrap();
    assert!(code != 0, "{arguments:?}: {}", stdout(&output));
    (code, stderr(&output))
}

fn object(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

/// Makes `key.jwk` and `keys.json`.
fn keygen(at: &Path, more: &[&str]) {
    ok(at, &[&["keygen", "--out", "key.jwk", "--public", "keys.json"], more].concat());
}

#[test]
fn a_key_a_token_and_its_check() {
    let at = tempdir().unwrap();
    for (alg, kind) in [("EdDSA", "OKP"), ("ES256", "EC")] {
        let (key, keys) = (format!("{alg}.jwk"), format!("{alg}.json"));
        let public = ok(at.path(), &["keygen", "--alg", alg, "--out", &key]);
        std::fs::write(at.path().join(&keys), &public).unwrap();
        let private = std::fs::read_to_string(at.path().join(&key)).unwrap();
        assert_eq!(object(&private)["kty"], kind);
        assert_eq!(object(&public)["keys"][0]["x"], object(&private)["x"]);
        assert!(object(&public)["keys"][0].get("d").is_none(), "{public}");
        let mode = std::fs::metadata(at.path().join(&key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let limits = ["--limit", "sessions=2", "--limit", "bytes_per_second=1MiB"];
        let grants = ["--sub", "ada", "--subscribe", "demo/**", "--publish", "demo/chat"];
        let token = ok(at.path(), &[&["new", "--key", &key], &limits[..], &grants].concat());
        let checked = ok(at.path(), &["check", token.trim(), "--keys", &keys]);
        for line in [
            "name       ada",
            "publish    demo/chat",
            "subscribe  demo/**",
            "limits     sessions=2, bytes_per_second=1048576",
        ] {
            assert!(checked.lines().any(|found| found == line), "{line}: {checked}");
        }
        let piped = run_with(at.path(), &["check", "-", "--keys", &keys, "--json"], &token);
        let found = object(&stdout(&piped));
        assert_eq!((&found["valid"], &found["sub"]), (&true.into(), &"ada".into()));
        assert_eq!(found["limits"]["bytes_per_second"], 1 << 20);
        assert_eq!(found["limits"]["subscriptions"], Value::Null);
    }
}

#[test]
fn a_secret_has_no_public_part() {
    let at = tempdir().unwrap();
    let printed = ok(at.path(), &["keygen", "--alg", "hs256", "--out", "key.jwk", "--kid", "a"]);
    assert_eq!(printed, "");
    let token = ok(at.path(), &["new", "--key", "key.jwk"]);
    ok(at.path(), &["check", token.trim(), "--keys", "key.jwk"]);
    let both = ["keygen", "--alg", "HS256", "--out", "b.jwk", "--public", "c.json"];
    assert!(failed(at.path(), &both).1.contains("no public part"));
    assert!(!at.path().join("b.jwk").exists());
}

#[test]
fn a_key_is_never_overwritten() {
    let at = tempdir().unwrap();
    keygen(at.path(), &[]);
    let before = std::fs::read(at.path().join("key.jwk")).unwrap();
    let (code, text) = failed(at.path(), &["keygen", "--out", "key.jwk"]);
    assert!(code == 1 && text.contains("key.jwk exists"), "{text}");
    assert_eq!(std::fs::read(at.path().join("key.jwk")).unwrap(), before);
    // Neither file without the other.
    let (code, text) = failed(at.path(), &["keygen", "--out", "b.jwk", "--public", "keys.json"]);
    assert!(code == 1 && text.contains("keys.json exists"), "{text}");
    assert!(!at.path().join("b.jwk").exists());
}

#[test]
fn a_token_in_a_file_is_for_its_owner_only() {
    let at = tempdir().unwrap();
    keygen(at.path(), &[]);
    // An earlier one that others can read.
    std::fs::write(at.path().join("token"), "eyJhbGciOiJFZERTQSJ9.e30.c2ln\n").unwrap();
    let new = ["new", "--key", "key.jwk", "--subscribe", "a", "--out", "token"];
    assert_eq!(ok(at.path(), &new), "");
    let file = at.path().join("token");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = std::fs::read_to_string(&file).unwrap();
    ok(at.path(), &["check", token.trim(), "--keys", "keys.json"]);
    // Nothing is left beside it.
    assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), 3);
    let (code, text) = failed(at.path(), &[&new[..5], &["--out", "no/token"]].concat());
    assert!(code == 1 && text.contains("no/token"), "{text}");
    // Neither a key nor a device becomes a token.
    let key = std::fs::read(at.path().join("key.jwk")).unwrap();
    std::fs::write(at.path().join("name"), "www.example.com\n").unwrap();
    for other in ["key.jwk", "keys.json", "name", "/dev/null", "."] {
        let (code, text) = failed(at.path(), &[&new[..5], &["--out", other]].concat());
        assert!(code == 1 && text.contains("is left as it is"), "{other}: {text}");
    }
    assert_eq!(std::fs::read(at.path().join("key.jwk")).unwrap(), key);
    assert_eq!(ok(at.path(), &[&new[..5], &["--out", "-"]].concat()).matches('.').count(), 2);
}

// A daemon would refuse it, because it would restrict nothing.
#[test]
fn a_limit_of_a_name_needs_one() {
    let at = tempdir().unwrap();
    keygen(at.path(), &[]);
    let new = ["new", "--key", "key.jwk", "--subscribe", "a", "--limit", "sessions=1"];
    let (code, text) = failed(at.path(), &new);
    assert!(code == 1 && text.contains("sessions needs a name"), "{text}");
    ok(at.path(), &[&new[..], &["--sub", "ada"]].concat());
}

#[test]
fn what_a_token_says_as_json() {
    let at = tempdir().unwrap();
    keygen(at.path(), &["--kid", "2026-11"]);
    let arguments = ["--sub", "ada", "--aud", "relay.example", "--iss", "https://id.example"];
    let grants = ["--publish", "a", "--publish", "b/*", "--expires", "1d"];
    let new = [&["new", "--key", "key.jwk", "--json"], &arguments[..], &grants].concat();
    let found = object(&ok(at.path(), &new));
    assert_eq!((&found["alg"], &found["kid"]), (&"EdDSA".into(), &"2026-11".into()));
    assert_eq!(found["publish"], serde_json::json!(["a", "b/*"]));
    assert_eq!(found["subscribe"], serde_json::json!([]));
    let token = found["token"].as_str().unwrap();
    let check = |more: &[&str]| {
        let arguments = [&["check", token, "--keys", "keys.json", "--json"], more].concat();
        let output = run_with(at.path(), &arguments, "");
        (output.status.code().unwrap(), object(&stdout(&output)))
    };
    let expected = ["--aud", "relay.example", "--iss", "https://id.example"];
    assert_eq!(check(&expected).0, 0);
    for (refused, says) in [
        (&[][..], "has none"),
        (&["--aud", "other.example"], "\"aud\""),
        (&["--aud", "relay.example", "--iss", "https://other.example"], "\"iss\""),
    ] {
        let (code, found) = check(refused);
        assert_eq!((code, &found["valid"]), (1, &false.into()));
        assert!(found["reason"].as_str().unwrap().contains(says), "{found}");
    }
}

#[test]
fn why_a_token_is_refused() {
    let at = tempdir().unwrap();
    keygen(at.path(), &["--kid", "first"]);
    ok(at.path(), &["keygen", "--out", "b.jwk", "--public", "b.json", "--kid", "second"]);
    let token = ok(at.path(), &["new", "--key", "key.jwk"]);
    let (code, text) = failed(at.path(), &["check", token.trim(), "--keys", "b.json"]);
    assert_eq!(code, 1);
    assert!(text.starts_with("refused: the signature is not one"), "{text}");
    assert!(text.contains("the token names  EdDSA and kid \"first\""), "{text}");
    assert!(text.contains("a key has        EdDSA and kid \"second\""), "{text}");
    ok(at.path(), &["check", token.trim(), "--keys", "b.json", "--keys", "keys.json"]);

    let forever = ok(at.path(), &["new", "--key", "key.jwk", "--expires", "never"]);
    let (_, text) = failed(at.path(), &["check", forever.trim(), "--keys", "keys.json"]);
    assert!(text.contains("no claim \"exp\""), "{text}");
    let text = ok(at.path(), &["check", forever.trim(), "--keys", "keys.json", "--without-expiry"]);
    assert!(text.contains("expires    never"), "{text}");

    for other in ["", "a.b", &"x".repeat(9000)] {
        let (code, text) = failed(at.path(), &["check", other, "--keys", "keys.json"]);
        assert!(code == 1 && text.starts_with("refused: "), "{text}");
    }
    let output = run_with(at.path(), &["check", "-", "--keys", "keys.json"], &"x".repeat(16_000));
    assert!(stderr(&output).contains("at most 8192 bytes"), "{}", stderr(&output));
}

#[test]
fn files_that_are_not_keys() {
    let at = tempdir().unwrap();
    keygen(at.path(), &[]);
    let token = ok(at.path(), &["new", "--key", "key.jwk"]);
    let write = |name: &str, text: &str| std::fs::write(at.path().join(name), text).unwrap();
    write("text", "a secret of at least thirty-two bytes");
    write("short", "short");
    for (arguments, says) in [
        (&["check", token.trim(), "--keys", "key.jwk"][..], "private key"),
        (&["check", token.trim(), "--keys", "text"], "not a file of keys"),
        (&["check", token.trim(), "--keys", "missing"], "missing"),
        (&["check", token.trim(), "--secret", "keys.json"], "public key as a secret"),
        (&["check", token.trim(), "--secret", "short"], "at least 32 bytes"),
        (&["new", "--key", "keys.json"], "not a key that signs"),
        (&["new", "--key", "text"], "not a key that signs"),
    ] {
        let (code, text) = failed(at.path(), arguments);
        assert!(code == 1 && text.contains(says), "{arguments:?}: {text}");
    }
    let (_, text) = failed(at.path(), &["check", token.trim(), "--secret", "text"]);
    assert!(text.starts_with("refused: "), "{text}");
}

#[test]
fn wrong_usage() {
    let at = tempdir().unwrap();
    keygen(at.path(), &[]);
    for arguments in [
        &["--publish", "a/**/b"][..],
        &["--subscribe", "a//b"],
        &["--expires", "0s"],
        &["--expires", "1h30"],
        &["--expires", "200000d"],
        &["--limit", "sessions"],
        &["--limit", "sessions=0"],
        &["--limit", "sessions=4294967296"],
        &["--limit", "session=1"],
    ] {
        let (code, text) = failed(at.path(), &[&["new", "--key", "key.jwk"], arguments].concat());
        assert_eq!(code, 2, "{arguments:?}: {text}");
    }
    assert_eq!(failed(at.path(), &["check", "x"]).0, 2, "no keys");
    assert_eq!(failed(at.path(), &["keygen"]).0, 2);
    for arguments in [&["--sub", ""][..], &["--sub", "a\nb"], &["--publish", "$weir/x"]] {
        let (code, _) = failed(at.path(), &[&["new", "--key", "key.jwk"], arguments].concat());
        assert_eq!(code, 1, "{arguments:?}");
    }
}

#[test]
fn others_who_can_read_a_key_are_told() {
    let at = tempdir().unwrap();
    keygen(at.path(), &[]);
    let new = ["new", "--key", "key.jwk", "--subscribe", "a"];
    assert_eq!(stderr(&run_with(at.path(), &new, "")), "");
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(at.path().join("key.jwk"), open).unwrap();
    let text = stderr(&run_with(at.path(), &new, ""));
    assert!(text.contains("chmod 600 key.jwk"), "{text}");
}
