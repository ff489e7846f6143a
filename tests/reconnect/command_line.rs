//! `weir sub` and `weir pub --lines` while the daemon stops and starts again.

use crate::common::{Served, weir};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::tempdir;

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn lines(reader: impl std::io::Read) -> impl Iterator<Item = String> {
    BufReader::new(reader).lines().map(Result::unwrap)
}

fn objects(reader: impl std::io::Read) -> impl Iterator<Item = Value> {
    lines(reader).map(|line| serde_json::from_str(&line).expect(&line))
}

fn publish(served: &Served, state: &Path, payload: &str) {
    let arguments = ["pub", "t/a", payload, "--server", &served.server];
    assert!(weir(state, &arguments).output().unwrap().status.success());
}

/// Stops the daemon, and starts another at the same address.
fn restart(mut served: Served, state: &Path) -> Served {
    served.signal("TERM");
    assert!(served.child.wait().unwrap().success());
    let server = served.server.clone();
    Served::start_at(&server, state, &[], &[])
}

fn rest(mut child: Child) -> (bool, String) {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (child.wait().unwrap().success(), text)
}

#[test]
fn a_subscriber_says_that_it_was_interrupted_and_ends_after_its_count() {
    for transport in ["quic", "webtransport", "websocket"] {
        let state = tempdir().unwrap();
        let served = Served::start(state.path(), &[], &[]);
        publish(&served, state.path(), "0");
        let arguments = ["sub", "t/*", "--from", "all", "--count", "2", "--json"];
        let at = ["--server", &served.server, "--transport", transport];
        let mut child = spawn(weir(state.path(), &[&arguments[..], &at].concat()));
        let mut objects = objects(child.stdout.take().unwrap());
        assert_eq!(objects.next().unwrap()["payload"], "0");
        let served = restart(served, state.path());
        let interrupted = objects.next().unwrap();
        assert_eq!(interrupted["event"], "interrupted");
        assert_eq!(interrupted["code"], "shutting_down");
        publish(&served, state.path(), "1");
        assert_eq!(objects.next().unwrap()["payload"], "1");
        assert_eq!(objects.next(), None);
        let (success, text) = rest(child);
        assert!(success, "{text}");
        // Without the lines of the log.
        let said: Vec<_> = text.lines().filter(|line| line.starts_with("weir: ")).collect();
        assert_eq!(said.len(), 2, "{text}");
        assert!(
            said[0].starts_with("weir: lost the session (") && said[0].contains("connecting again")
        );
        assert!(said[1].starts_with("weir: back after ") && said[1].contains(" attempt"), "{text}");
    }
}

#[test]
fn a_publisher_of_lines_continues_where_it_stopped() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    let arguments = ["pub", "t/a", "--lines", "--json", "--server", &served.server];
    let mut child = spawn(weir(state.path(), &arguments));
    let mut input = child.stdin.take().unwrap();
    let mut objects = objects(child.stdout.take().unwrap());
    input.write_all(b"one\n").unwrap();
    assert_eq!(objects.next().unwrap()["sequence"], 1);
    let _served = restart(served, state.path());
    input.write_all(b"two\nthree\n").unwrap();
    drop(input);
    assert_eq!(objects.next().unwrap()["event"], "interrupted");
    // The daemon has a journal.
    let sequences: Vec<_> = objects.map(|receipt| receipt["sequence"].as_u64()).collect();
    assert_eq!(sequences, [Some(2), Some(3)]);
    let (success, text) = rest(child);
    assert!(success && text.contains("weir: back after "), "{text}");
}

#[test]
fn without_reconnects_the_end_of_the_session_is_an_error() {
    for arguments in [&["sub", "t/*", "--from", "all"][..], &["pub", "t/a", "--lines"]] {
        let state = tempdir().unwrap();
        let mut served = Served::start(state.path(), &[], &[]);
        publish(&served, state.path(), "0");
        let more = ["--no-reconnect", "--server", &served.server];
        let mut child = spawn(weir(state.path(), &[arguments, &more].concat()));
        let mut input = child.stdin.take().unwrap();
        let mut out = lines(child.stdout.take().unwrap());
        input.write_all(b"one\n").unwrap();
        // It has a session, because it printed a message or a receipt.
        out.next().unwrap();
        served.signal("TERM");
        assert!(served.child.wait().unwrap().success());
        // It may be gone already.
        let _ = input.write_all(b"two\n");
        let (success, text) = rest(child);
        assert!(!success && text.starts_with("weir: the session is over"), "{text}");
    }
    let state = tempdir().unwrap();
    let output = weir(state.path(), &["pub", "t/a", "x", "--no-reconnect"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "only with --lines");
}
