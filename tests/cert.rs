//! `weir cert`, and certificates in files as an operator replaces them: HUP, and what the log says.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{stderr, stdout, weir};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use tempfile::tempdir;

fn ok(state: &Path, arguments: &[&str]) -> String {
    let output = weir(state, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

fn fails(state: &Path, arguments: &[&str]) -> String {
    let output = weir(state, arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", stderr(&output));
    stderr(&output)
}

fn first(json: &str) -> Value {
    serde_json::from_str(json.lines().next().unwrap()).unwrap()
}

/// Makes a pair. Returns its files.
fn make(state: &Path, name: &str) -> [PathBuf; 2] {
    let out = state.join(name);
    ok(state, &["cert", "new", "--names", "relay.lan,127.0.0.1", "--out", out.to_str().unwrap()]);
    ["certificate.pem", "key.pem"].map(|file| out.join(file))
}

#[test]
fn a_made_certificate_is_shown_and_never_replaced() {
    let state = tempdir().unwrap();
    let [certificate, key] = make(state.path(), "made");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&key).unwrap();
    let out = state.path().join("made");
    let again = ["cert", "new", "--names", "b.lan", "--out", out.to_str().unwrap()];
    let error = fails(state.path(), &again);
    assert!(error.contains("made/key.pem exists"), "{error}");
    assert_eq!(fs::read(&key).unwrap(), before);

    let file = certificate.to_str().unwrap();
    let shown = first(&ok(state.path(), &["cert", "show", file, "--json"]));
    assert_eq!(shown["names"], serde_json::json!(["relay.lan", "127.0.0.1"]));
    assert_eq!([&shown["self_signed"], &shown["pinnable"]], [true, true]);
    let text = ok(state.path(), &["cert", "show", file]);
    assert!(text.contains("12 days left") && text.contains("browsers can pin it"), "{text}");
    let error = fails(state.path(), &["cert", "show", key.to_str().unwrap()]);
    assert!(error.contains("key.pem: it has no certificate"), "{error}");

    let long = state.path().join("long");
    let long = long.to_str().unwrap();
    let made =
        ok(state.path(), &["cert", "new", "--names", "a.lan", "--days", "90", "--out", long]);
    assert!(made.contains("cannot pin it: it is valid for more than 14 days"), "{made}");
    for bad in ["a b", "", "ä.lan", "a.lan:443"] {
        let error = fails(state.path(), &["cert", "new", "--names", bad, "--out", "/no/such/x"]);
        assert!(error.contains("neither a DNS name nor an address"), "{error}");
    }
}

// A server may put anything into its names. A terminal obeys control characters.
#[test]
fn control_characters_of_a_certificate_do_not_reach_the_terminal() {
    let state = tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "a\u{1b}[2J\nb");
    let key = rcgen::KeyPair::generate().unwrap();
    let file = state.path().join("certificate.pem");
    fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
    let text = ok(state.path(), &["cert", "show", file.to_str().unwrap()]);
    assert!(text.contains("a·[2J"), "{text:?}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
    // A name adds no line either.
    assert_eq!(text.lines().count(), 7, "{text:?}");
}

/// A daemon with a certificate in files that it does not look at by itself while a test runs.
struct Served {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    server: String,
}

impl Served {
    fn start(state: &Path, [certificate, key]: &[PathBuf; 2]) -> Self {
        let mut command =
            weir(state, &["serve", "--listen", "127.0.0.1:0", "--http", "off", "--json"]);
        command.env("WEIR_TLS__CERTIFICATE", certificate).env("WEIR_TLS__KEY", key);
        command.env("WEIR_TLS__CHECK", "3600s").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = first(&line);
        assert!(ready["next_certificate_sha256"].is_null(), "{line}");
        Self { child, log, server: ready["listen"].as_str().unwrap().to_owned() }
    }

    fn hup(&mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "HUP", &pid]).status().unwrap().success());
        let mut lines = self.log.by_ref().map(Result::unwrap);
        lines.find(|line| line.contains("HUP")).unwrap()
    }

    fn shown(&self, state: &Path) -> Value {
        let shown = first(&ok(state, &["cert", "show", "--server", &self.server, "--json"]));
        assert_eq!(shown["over"], serde_json::json!(["quic", "tcp"]));
        shown
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn hup_reads_the_files_of_a_certificate_and_says_which() {
    let state = tempdir().unwrap();
    let (used, next) = (make(state.path(), "used"), make(state.path(), "next"));
    let mut served = Served::start(state.path(), &used);
    let before = served.shown(state.path());
    // A client on this machine finds the hash by itself.
    ok(state.path(), &["ping", "--count", "1", "--server", &served.server]);

    fs::copy(&next[0], &used[0]).unwrap();
    let line = served.hup();
    assert!(line.contains("ERROR") && line.contains("used/certificate.pem"), "{line}");
    assert!(line.contains("not for the key") && line.contains("stays"), "{line}");
    assert_eq!(served.shown(state.path()), before);

    fs::copy(&next[1], &used[1]).unwrap();
    let line = served.hup();
    assert!(line.contains("INFO") && line.contains("used/certificate.pem"), "{line}");
    let after = served.shown(state.path());
    let file = first(&ok(state.path(), &["cert", "show", next[0].to_str().unwrap(), "--json"]));
    assert_eq!(after["sha256"], file["sha256"]);
    assert_ne!(after["sha256"], before["sha256"]);
    ok(state.path(), &["ping", "--count", "1", "--server", &served.server]);
}

#[test]
fn a_key_that_others_can_read_stops_the_start() {
    let state = tempdir().unwrap();
    let [certificate, key] = make(state.path(), "used");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = weir(state.path(), &["serve", "--listen", "127.0.0.1:0", "--http", "off"]);
    command.env("WEIR_TLS__CERTIFICATE", certificate).env("WEIR_TLS__KEY", &key);
    let output = command.output().unwrap();
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(78), "{error}");
    assert!(
        error.contains("used/key.pem: its mode is 0644") && error.contains("chmod 600"),
        "{error}"
    );
}
