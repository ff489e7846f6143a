//! The file of keys, replaced while sessions are open.

use super::{Issuer, client, daemon, rights};
use crate::common::{PATIENCE, within};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::tempdir;
use weir::access::{AccessRules, Algorithm, Expectations, SigningKey};
use weir::client::ConnectError;
use weir::wire::Code;
use weir::{Daemon, Transport};

pub fn issuer(id: &str) -> Issuer {
    Issuer(SigningKey::generate(Algorithm::Es256, Some(id)).unwrap())
}

/// Replaces a file as tools do: under another name, and then renamed.
pub fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

pub async fn code(daemon: &Daemon, issuer: &Issuer) -> Option<Code> {
    let token = issuer.token("ada", rights(&["a"], &["a"]));
    match client(daemon, Transport::Quic, Some(token)).await {
        Ok(_) => None,
        Err(ConnectError::Refused { refusal, .. }) => Some(refusal.code),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_for_those_who_come_and_sessions_go_on() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let (one, two) = (issuer("1"), issuer("2"));
    put(&path, &one.0.public_jwks().unwrap());
    let expectations = Expectations::default().with_leeway(Duration::ZERO);
    let daemon = daemon(AccessRules::default().key_file(&path, expectations)).await;
    let token = one.short_token("ann", rights(&["a"], &["a"]), 4);
    let ann = client(&daemon, Transport::Quic, Some(token)).await.unwrap();
    assert_eq!(code(&daemon, &two).await, Some(Code::UNAUTHORIZED));

    put(&path, &two.0.public_jwks().unwrap());
    assert!(daemon.reload_keys().await.unwrap());
    assert_eq!(code(&daemon, &two).await, None);
    assert_eq!(code(&daemon, &one).await, Some(Code::UNAUTHORIZED));
    within(ann.publish("a", "x")).await.unwrap();

    // Whatever is wrong with the file, the keys stay.
    let private = two.0.private_jwk().unwrap();
    for broken in ["", "{}", "{\"keys\": []}", "-----BEGIN PUBLIC KEY-----\n", &private] {
        put(&path, broken);
        daemon.reload_keys().await.unwrap_err();
        assert_eq!(code(&daemon, &two).await, None, "{broken}");
    }
    fs::remove_file(&path).unwrap();
    let missing = daemon.reload_keys().await.unwrap_err().to_string();
    assert!(missing.contains("keys.json"), "{missing}");
    assert_eq!(code(&daemon, &two).await, None);
    within(ann.publish("a", "x")).await.unwrap();
    // Its token ends it.
    assert_eq!(within(ann.closed()).await.code, Some(Code::TOKEN_EXPIRED));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_noticed_without_being_told() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let (one, two) = (issuer("1"), issuer("2"));
    put(&path, &one.0.public_jwks().unwrap());
    let daemon = daemon(AccessRules::default().key_file(&path, Expectations::default())).await;
    put(&path, &two.0.public_jwks().unwrap());
    let begun = Instant::now();
    while code(&daemon, &two).await.is_some() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(code(&daemon, &one).await, Some(Code::UNAUTHORIZED));
}

#[cfg(feature = "cli")]
#[test]
fn hup_has_the_file_read() {
    use crate::common::{stderr, weir};
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    let state = tempdir().unwrap();
    let path = state.path().join("keys.json");
    let (one, two) = (issuer("1"), issuer("2"));
    put(&path, &one.0.public_jwks().unwrap());
    let mut serve = weir(state.path(), &["serve", "--listen", "127.0.0.1:0", "--http", "off"]);
    let serve = serve.arg("--json").env("WEIR_ACCESS__KEYS", &path);
    let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let server = ready["listen"].as_str().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let pid = child.id().to_string();
    let mut hup = || {
        assert!(Command::new("kill").args(["-s", "HUP", &pid]).status().unwrap().success());
        log.find(|line| line.contains("HUP")).unwrap()
    };
    let publish = |issuer: &Issuer| {
        let token = issuer.token("ada", rights(&["a"], &["a"]));
        let arguments = ["pub", "a", "x", "--server", server, "--token", &token];
        let output = weir(state.path(), &arguments).output().unwrap();
        let accepted = output.status.success();
        assert!(accepted || stderr(&output).contains("signature"), "{}", stderr(&output));
        accepted
    };
    assert!(publish(&one) && !publish(&two));
    // At once: the daemon looks by itself only every 5 s.
    put(&path, &two.0.public_jwks().unwrap());
    let told = hup();
    assert!(told.contains("keys=true"), "{told}");
    assert!(publish(&two) && !publish(&one));
    put(&path, "broken");
    let told = hup();
    assert!(
        told.contains("ERROR") && told.contains("stay") && told.contains("keys.json"),
        "{told}"
    );
    assert!(publish(&two));
    let _ = child.kill();
    let _ = child.wait();
}
