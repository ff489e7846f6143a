//! `log.qlog`: one connection of an address is recorded, and HUP records another one.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{stderr, weir};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use tempfile::{TempDir, tempdir};

/// A daemon with a configuration file, and its log as JSON.
struct Daemon {
    state: TempDir,
    child: Child,
    server: String,
    log: BufReader<ChildStderr>,
}

impl Daemon {
    fn start(config: &str) -> Self {
        let state = tempdir().unwrap();
        let file = state.path().join("weir.toml");
        fs::write(&file, config).unwrap();
        let file = file.to_str().unwrap();
        let arguments = ["serve", "--config", file, "--listen", "127.0.0.1:0", "--http", "off"];
        let mut child =
            weir(state.path(), &[&arguments[..], &["--json", "--log", "json"]].concat())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { state, child, server: ready["listen"].as_str().unwrap().to_owned(), log }
    }

    fn hup(&mut self, config: &str) {
        fs::write(self.state.path().join("weir.toml"), config).unwrap();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "HUP", &pid]).status().unwrap().success());
        self.record("HUP: read again");
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

    fn publish(&self, transport: &str) {
        let arguments =
            ["pub", "demo/a", "secret-payload", "--server", &self.server, "--transport", transport];
        let output = weir(self.state.path(), &arguments).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }

    /// Waits until a recording is complete, and returns its file.
    fn recorded(&mut self) -> PathBuf {
        let begun = self.record("qlog: ");
        assert_eq!(begun["message"], "qlog: a connection is recorded");
        assert!(begun["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{begun}");
        let ended = self.record("qlog: ");
        assert_eq!(ended["message"], "qlog: the connection is gone, and its file is complete");
        assert_eq!(begun["file"], ended["file"]);
        PathBuf::from(ended["file"].as_str().unwrap())
    }

    fn files(&self) -> usize {
        fs::read_dir(self.state.path().join("weir/qlog")).map_or(0, Iterator::count)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a JSON text sequence (RFC 7464): the names of its events.
fn events(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(!text.contains("secret-payload") && !text.contains("demo/a"));
    let text = text.strip_prefix('\u{1e}').unwrap();
    let mut records = text.split('\u{1e}').map(|record| {
        let record = record.strip_suffix('\n').unwrap();
        serde_json::from_str::<Value>(record).unwrap()
    });
    let head = records.next().unwrap();
    assert_eq!(head["qlog_format"], "JSON-SEQ");
    assert!(head["trace"].is_object(), "{head}");
    let mut before = 0.0;
    let named = |event: Value| {
        let time = event["time"].as_f64().unwrap();
        assert!(time >= before, "{event}");
        before = time;
        assert!(event["data"].is_object(), "{event}");
        event["name"].as_str().unwrap().to_owned()
    };
    records.map(named).collect()
}

#[test]
fn one_connection_is_recorded_after_the_start_and_after_each_hup() {
    let config = "[log]\nqlog = \"127.0.0.1\"\n";
    let mut daemon = Daemon::start(config);
    for (number, transport) in (1..).zip(["quic", "webtransport"]) {
        // It is no connection over QUIC, and does not use up the request.
        daemon.publish("websocket");
        daemon.publish(transport);
        let path = daemon.recorded();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let events = events(&path);
        for name in ["packet_sent", "packet_received"] {
            let found = events.iter().filter(|event| event.ends_with(&format!(":{name}"))).count();
            assert!(found >= 3, "{name}: {events:?}");
        }
        assert!(events.iter().any(|event| event.ends_with(":metrics_updated")), "{events:?}");
        // Another one is not.
        daemon.publish(transport);
        assert_eq!(daemon.files(), number);
        daemon.hup(config);
    }
    // The last request is withdrawn, and the next one is for another address.
    daemon.hup("");
    daemon.publish("quic");
    daemon.hup("[log]\nqlog = \"192.0.2.7\"\n");
    daemon.publish("quic");
    daemon.hup("");
    assert_eq!(daemon.files(), 2);
}

#[test]
fn check_config_names_the_place_of_a_wrong_address() {
    let state = tempdir().unwrap();
    let file = state.path().join("weir.toml");
    fs::write(&file, "[log]\nlevel = \"info\"\nqlog = \"nowhere\"\n").unwrap();
    let file = file.to_str().unwrap();
    let output = weir(state.path(), &["check-config", file]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let expected = format!("{file}:3:8: log.qlog: it is not an address without port");
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
}
