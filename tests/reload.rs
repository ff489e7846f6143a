//! `weir serve` and HUP: the configuration is read again, and the log says what has changed.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{stderr, weir};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use tempfile::tempdir;

/// A daemon with a configuration file, and its log as JSON.
struct Daemon {
    child: Child,
    server: String,
    log: BufReader<ChildStderr>,
}

impl Daemon {
    fn start(state: &Path, file: &Path, environment: &[(&str, &str)]) -> Self {
        let config = file.to_str().unwrap();
        let arguments =
            ["serve", "--config", config, "--listen", "127.0.0.1:0", "--json", "--log", "json"];
        let mut child = weir(state, &arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, server: ready["listen"].as_str().unwrap().to_owned(), log }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for the next record with this text in its message.
    fn record(&mut self, text: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "the log ends before {text:?}");
            let record: Value = serde_json::from_str(&line).unwrap();
            if record["message"].as_str().unwrap().contains(text) {
                return record;
            }
        }
    }

    fn hup(&mut self) -> Value {
        self.signal("HUP");
        self.record("HUP")
    }

    fn publishes(&self, state: &Path, topic: &str) -> Result<(), String> {
        let arguments = ["pub", topic, "x", "--server", &self.server];
        let output = weir(state, &arguments).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(stderr(&output)) }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const BEGIN: &str = "[http]\nlisten = \"off\"\n";

#[test]
fn hup_applies_what_it_can_and_names_what_needs_a_restart() {
    let state = tempdir().unwrap();
    let file = state.path().join("weir.toml");
    fs::write(&file, BEGIN).unwrap();
    let mut daemon = Daemon::start(state.path(), &file, &[("WEIR_LIMITS__WINDOW", "64")]);
    daemon.publishes(state.path(), "a").unwrap();
    let session = daemon.record("a session has ended");
    assert_eq!((&session["transport"], &session["code"]), (&"quic".into(), &"done".into()));
    assert!(session["id"].is_u64() && session["address"].as_str().unwrap().contains(':'));

    let text = format!(
        "listen = \"127.0.0.1:9\"\n{BEGIN}[cache]\nbytes = \"128MiB\"\n[limits]\nsessions = 99\n\
         window = 99\n[access.public]\npublish = [\"b\"]\n[log]\nlevel = \"debug\"\n"
    );
    fs::write(&file, &text).unwrap();
    let record = daemon.hup();
    assert_eq!(record["level"], "WARN");
    // The flag and the variable still win over the file, so that neither key has changed.
    assert_eq!(record["changed"], "access.public limits.sessions log.level");
    assert_eq!(record["restart"], "cache.bytes");
    daemon.publishes(state.path(), "b").unwrap();
    let refused = daemon.publishes(state.path(), "a").unwrap_err();
    assert!(refused.contains("needs a token"), "{refused}");

    // What needs a restart is named until there is one.
    let record = daemon.hup();
    assert_eq!((&record["changed"], &record["restart"]), (&Value::Null, &"cache.bytes".into()));
    fs::write(&file, BEGIN).unwrap();
    let record = daemon.hup();
    assert_eq!(record["level"], "INFO");
    assert_eq!(record["changed"], "access.public limits.sessions log.level");
    assert!(record.get("restart").is_none(), "{record}");
    daemon.publishes(state.path(), "a").unwrap();
}

#[test]
fn keys_that_cannot_be_used_are_one_error() {
    let state = tempdir().unwrap();
    let (file, key) = (state.path().join("weir.toml"), state.path().join("key.jwk"));
    let keys = state.path().join("keys.json");
    let files = ["--out", key.to_str().unwrap(), "--public", keys.to_str().unwrap()];
    let keygen = weir(state.path(), &[&["token", "keygen"], &files[..]].concat()).output().unwrap();
    assert!(keygen.status.success(), "{}", stderr(&keygen));
    fs::write(&file, format!("{BEGIN}[access]\nkeys = \"{}\"\n", keys.display())).unwrap();
    let mut daemon = Daemon::start(state.path(), &file, &[]);
    let good = fs::read(&keys).unwrap();
    // Each HUP has one line, so that the next one is of the next HUP.
    for _ in 0..2 {
        fs::write(&keys, "{").unwrap();
        let record = daemon.hup();
        assert_eq!((&record["level"], &record["keys"]), (&"ERROR".into(), &false.into()));
        let error = record["error"].as_str().unwrap();
        assert!(error.starts_with(&format!("{}: ", keys.display())), "{record}");
        fs::write(&keys, &good).unwrap();
        let record = daemon.hup();
        assert_eq!((&record["level"], &record["keys"]), (&"INFO".into(), &true.into()));
    }
}

#[test]
fn a_file_that_is_wrong_changes_nothing() {
    let state = tempdir().unwrap();
    let (file, keys) = (state.path().join("weir.toml"), state.path().join("keys.json"));
    fs::write(&file, BEGIN).unwrap();
    let mut daemon = Daemon::start(state.path(), &file, &[]);
    let closed = format!("{BEGIN}[access.public]\nsubscribe = [\"**\"]\n");
    let path = file.display();
    for (text, expected) in [
        (
            format!("{closed}[limits]\n  window =  3\n"),
            format!("{path}:6:13: limits.window: 3 is below 64"),
        ),
        (format!("{closed}[limit]\n"), format!("{path}:5:2: limit: unknown key")),
        (format!("{closed}[cache\n"), format!("{path}:5:")),
        (
            format!("{BEGIN}[access]\nkeys = \"{}\"\n", keys.display()),
            format!("{path}:4:8: access.keys: {}: ", keys.display()),
        ),
    ] {
        fs::write(&file, text).unwrap();
        let record = daemon.hup();
        assert_eq!(record["level"], "ERROR");
        assert!(record["message"].as_str().unwrap().contains("nothing changes"), "{record}");
        assert!(record["error"].as_str().unwrap().starts_with(&expected), "{record}");
        daemon.publishes(state.path(), "a").unwrap();
    }
    fs::remove_file(&file).unwrap();
    let record = daemon.hup();
    assert!(record["error"].as_str().unwrap().starts_with(&format!("{path}: ")), "{record}");
    daemon.publishes(state.path(), "a").unwrap();
}

// The daemon read it for ever, and not even TERM ended it.
#[test]
fn a_configuration_that_has_become_a_pipe_is_not_read() {
    let state = tempdir().unwrap();
    let file = state.path().join("weir.toml");
    fs::write(&file, BEGIN).unwrap();
    let mut daemon = Daemon::start(state.path(), &file, &[]);
    fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    let record = daemon.hup();
    assert!(record["message"].as_str().unwrap().contains("not a regular file"), "{record}");
    daemon.signal("TERM");
    assert!(daemon.child.wait().unwrap().success());
}
