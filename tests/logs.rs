//! The log of `weir serve`: text, JSON and records of the journal, what they never have, and who forges
//! no record.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::weir;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::tempdir;

const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--json", "--http"];

/// Starts a daemon whose log goes to a file. Returns it and the address of its HTTP.
fn start(mut command: Command, log: &Path) -> (Child, String, String) {
    let log = File::create(log).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
    (child, text("listen"), text("http"))
}

fn stop(mut child: Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

fn publish(state: &Path, server: &str, more: &[&str]) {
    let arguments = [&["pub", "demo/a", "secret-payload", "--server", server], more].concat();
    let output = weir(state, &arguments).output().unwrap();
    assert!(output.status.success(), "{}", common::stderr(&output));
}

fn serve(state: &Path, more: &[&str]) -> Command {
    weir(state, &[&SERVE[..], &["127.0.0.1:0"], more].concat())
}

#[test]
fn a_session_has_one_line_with_its_id_and_messages_have_none() {
    let state = tempdir().unwrap();
    let path = state.path().join("log");
    let (child, server, _) = start(serve(state.path(), &[]), &path);
    for transport in ["quic", "webtransport", "websocket"] {
        publish(state.path(), &server, &["--transport", transport]);
    }
    stop(child);
    let log = fs::read_to_string(&path).unwrap();
    let ends: Vec<_> = log.lines().filter(|line| line.contains("a session has ended")).collect();
    assert_eq!(ends.len(), 3, "{log}");
    for (line, transport) in ends.iter().zip(["quic", "webtransport", "websocket"]) {
        for part in
            [" INFO ", "id=", &format!("transport={transport}"), "address=127.0.0.1:", "seconds=0"]
        {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    assert!(!log.contains("demo/a") && !log.contains('\u{1b}'), "{log}");
}

// Whatever the level is.
#[test]
fn tokens_and_payloads_are_in_no_record() {
    let state = tempdir().unwrap();
    let path = state.path().join("log");
    let token = "c2VjcmV0.dG9rZW4.c2lnbmF0dXJl";
    let mut command = serve(state.path(), &["--log", "json"]);
    command.env("RUST_LOG", "weir=trace,info").env("WEIR_ACCESS__PUBLIC__PUBLISH", "[\"demo/*\"]");
    let (child, server, http) = start(command, &path);
    publish(state.path(), &server, &[]);
    let output = weir(state.path(), &["pub", "demo/a", "x", "--server", &server, "--token", token]);
    let _ = { output }.output().unwrap();
    // A peer without a session, whose host and target would be two lines and a colour.
    let mut stream = std::net::TcpStream::connect(&http).unwrap();
    let request = "GET /v1/topics/demo%2Fa%0A HTTP/1.1\r\nhost: a\u{9b}31m\r\n\
                   authorization: Bearer c2VjcmV0.dG9rZW4.c2lnbmF0dXJl\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    stop(child);
    let log = fs::read_to_string(&path).unwrap();
    assert!(!log.contains("secret-payload") && !log.contains("dG9rZW4"), "{log}");
    let mut levels = Vec::new();
    for line in log.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert!(record["timestamp"].is_string() && record["message"].is_string(), "{line}");
        levels.push(record["level"].as_str().unwrap().to_owned());
    }
    assert!(levels.iter().any(|level| level == "INFO"), "{log}");
}

#[test]
fn a_token_that_is_refused_has_a_line_with_the_address_and_the_reason() {
    let state = tempdir().unwrap();
    let path = state.path().join("log");
    let (key, keys) = (state.path().join("key.jwk"), state.path().join("keys.json"));
    let files = ["--out", key.to_str().unwrap(), "--public", keys.to_str().unwrap()];
    let keygen = weir(state.path(), &[&["token", "keygen"], &files[..]].concat()).output().unwrap();
    assert!(keygen.status.success(), "{}", common::stderr(&keygen));
    let mut command = serve(state.path(), &[]);
    command.env("WEIR_ACCESS__KEYS", &keys).env("WEIR_ACCESS__PUBLIC__PUBLISH", "[\"demo/*\"]");
    let (child, server, http) = start(command, &path);
    let arguments = ["pub", "demo/a", "x", "--server", &server, "--token", "a.b.c"];
    assert_eq!(weir(state.path(), &arguments).output().unwrap().status.code(), Some(1));
    let mut stream = std::net::TcpStream::connect(&http).unwrap();
    let request = "GET /v1/topics/demo%2Fa HTTP/1.1\r\nhost: localhost\r\n\
                   authorization: Bearer a.b.c\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let answer = std::io::read_to_string(&mut stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    // Without a token nobody is refused.
    publish(state.path(), &server, &[]);
    stop(child);
    let log = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("was refused")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    for line in lines {
        for part in [" INFO ", " address=127.0.0.1 ", " code=\"unauthorized\" ", " reason="] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}

#[test]
fn the_level_is_from_the_variable_the_file_or_the_default() {
    let state = tempdir().unwrap();
    let path = state.path().join("log");
    let lines = |file: &str, environment: &[(&str, &str)]| {
        let config = state.path().join("weir.toml");
        fs::write(&config, file).unwrap();
        let mut command = serve(state.path(), &["--config", config.to_str().unwrap()]);
        command.envs(environment.iter().copied());
        stop(start(command, &path).0);
        fs::read_to_string(&path).unwrap()
    };
    assert!(lines("", &[]).contains("INFO draining"));
    assert_eq!(lines("log.level = \"off\"", &[]), "");
    assert!(lines("log.level = \"off\"", &[("WEIR_LOG__LEVEL", "info")]).contains("INFO"));
    assert!(lines("log.level = \"off\"", &[("RUST_LOG", "weir=debug")]).contains("DEBUG"));
    // One that cannot be used is told.
    let wrong = lines("", &[("RUST_LOG", "weir=loud")]);
    assert!(wrong.contains("WARN RUST_LOG is not used") && wrong.contains("INFO"), "{wrong}");
    let output = weir(state.path(), &["serve"]).env("WEIR_LOG__LEVEL", "weir=loud").output();
    assert_eq!(output.unwrap().status.code(), Some(78));
}

/// Reads a record as the journal does.
fn fields(mut record: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while !record.is_empty() {
        let end = record.iter().position(|byte| *byte == b'\n').unwrap();
        let (size, rest) = record[end + 1..].split_first_chunk().unwrap();
        let (value, rest) = rest.split_at(u64::from_le_bytes(*size) as usize);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        fields.push((text(&record[..end]), text(value)));
        record = &rest[1..];
    }
    fields
}

// In a mount namespace, in which /run is another one.
#[cfg(target_os = "linux")]
#[test]
fn a_service_logs_to_the_journal_if_its_standard_error_goes_there() {
    let state = tempdir().unwrap();
    let (path, journal) = (state.path().join("log"), state.path().join("journal"));
    fs::create_dir(&journal).unwrap();
    let socket = UnixDatagram::bind(journal.join("socket")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let file = File::create(&path).unwrap().metadata().unwrap();
    let here = format!("{}:{}", file.dev(), file.ino());
    let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                  mount --bind \"$0\" /run/systemd/journal && exec \"$@\"";
    for (stream, reaches) in [(&*here, true), ("1:2", false), ("", false)] {
        let daemon = serve(state.path(), &[]);
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]).arg(&journal);
        command.arg(daemon.get_program()).args(daemon.get_args());
        for (name, value) in daemon.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("JOURNAL_STREAM", stream);
        let (child, server, _) = start(command, &path);
        publish(state.path(), &server, &[]);
        stop(child);
        let log = fs::read_to_string(&path).unwrap();
        assert_eq!(log.contains("a session has ended"), !reaches, "{log}");
        if !reaches {
            continue;
        }
        let mut buffer = vec![0; 64 << 10];
        let record = loop {
            let size = socket.recv(&mut buffer).unwrap();
            let fields = fields(&buffer[..size]);
            if fields.iter().any(|(_, value)| value.starts_with("a session has ended")) {
                break fields;
            }
        };
        let get = |name: &str| &*record.iter().find(|field| field.0 == name).unwrap().1;
        assert!(get("MESSAGE").contains(" transport=quic address=127.0.0.1:"), "{record:?}");
        assert_eq!((get("PRIORITY"), get("WEIR_TRANSPORT")), ("6", "quic"));
        assert_eq!(get("TARGET"), "weir::net::session");
        // The journal is drained, so that the others are of the next daemon.
        socket.set_nonblocking(true).unwrap();
        while socket.recv(&mut buffer).is_ok() {}
        socket.set_nonblocking(false).unwrap();
    }
}
