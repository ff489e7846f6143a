//! `weir serve` and `weir sub` in difficult surroundings: the environment, signals, the disk, a
//! pipe that is not read.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Served, WEIR, stderr, weir};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::tempdir;

/// Starts a daemon and waits until it is ready. Its log is piped.
fn serve(state: &Path, environment: &[(&str, &str)]) -> Child {
    let mut command = weir(state, &["serve", "--listen", "127.0.0.1:0", "--http", "off", "--json"]);
    command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line.is_empty() {
        let mut log = String::new();
        child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        panic!("it did not start: {log}");
    }
    child
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

/// Stops it in good order. Returns its log.
fn stop(mut child: Child) -> String {
    signal(&child, "TERM");
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{log}");
    log
}

// Kubernetes sets these in each container of a namespace that has a service named weir.
#[test]
fn variables_of_a_cluster_with_a_service_named_weir_are_ignored() {
    let state = tempdir().unwrap();
    let variables = [
        ("WEIR_SERVICE_HOST", "10.96.0.1"),
        ("WEIR_SERVICE_PORT", "4433"),
        ("WEIR_PORT", "tcp://10.96.0.1:4433"),
        ("WEIR_PORT_4433_TCP", "tcp://10.96.0.1:4433"),
        ("WEIR_PORT_4433_TCP_PROTO", "tcp"),
        ("WEIR_LIMITS__TOPICS", "7"),
    ];
    let log = stop(serve(state.path(), &variables));
    let lines: Vec<_> = log.lines().filter(|line| line.contains("WEIR_PORT_4433_TCP")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("WARN") && lines[0].contains("WEIR_SERVICE_HOST"), "{log}");
    assert!(!log.contains("WEIR_LIMITS__TOPICS"), "{log}");
    for (name, value) in [("WEIR_LIMITS__TOPIC", "7"), ("WEIR_LISTEN", "x"), ("WEIR_CACHE", "1")] {
        let output = weir(state.path(), &["serve"]).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
        assert!(stderr(&output).contains(name), "{}", stderr(&output));
    }
}

// To start the daemon again does not help, so that systemd should not.
#[test]
fn a_file_of_the_configuration_that_cannot_be_used_is_a_wrong_configuration() {
    let state = tempdir().unwrap();
    let (file, config) = (state.path().join("file"), state.path().join("weir.toml"));
    let (at, shown) = (config.display(), file.display());
    let certificate = format!("certificate = \"{shown}\"\nkey = \"{shown}\"");
    for (content, text, place) in [
        (None, format!("[access]\nkeys = \"{shown}\""), "2:8: access.keys"),
        (Some("{}"), format!("[access]\nkeys = \"{shown}\""), "2:8: access.keys"),
        (
            None,
            format!("[access]\nkeys = \"https://id.example/\"\nauthorities = \"{shown}\""),
            "3:15: access.authorities",
        ),
        (None, format!("[tls]\n{certificate}"), "2:15: tls.certificate"),
        (Some(""), format!("[tls]\n{certificate}"), "2:15: tls.certificate"),
        (None, format!("[tls]\nclient_authorities = \"{shown}\""), "2:22: tls.client_authorities"),
    ] {
        let _ = std::fs::remove_file(&file);
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        std::fs::write(&config, &text).unwrap();
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--http", "off", "--config"];
        let arguments = [&arguments[..], &[config.to_str().unwrap()]].concat();
        let output = weir(state.path(), &arguments).output().unwrap();
        let log = stderr(&output);
        assert_eq!(output.status.code(), Some(78), "{text}\n{log}");
        assert!(log.contains(&format!("weir: {at}:{place}: ")), "{text}\n{log}");
        assert!(log.contains(&*shown.to_string()), "{text}\n{log}");
    }
    let output = weir(state.path(), &["serve"]).env("WEIR_ACCESS__KEYS", &file).output().unwrap();
    let log = stderr(&output);
    assert_eq!(output.status.code(), Some(78), "{log}");
    assert!(log.contains("WEIR_ACCESS__KEYS: access.keys: "), "{log}");
}

#[test]
fn hup_without_a_file_logs_a_line() {
    let state = tempdir().unwrap();
    let mut child = serve(state.path(), &[]);
    let mut log = BufReader::new(child.stderr.take().unwrap());
    for _ in 0..2 {
        signal(&child, "HUP");
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        // Nothing has changed.
        assert!(line.contains("HUP: read again acme=false"), "{line}");
    }
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_key_that_others_may_read_is_protected_and_reported() {
    let state = tempdir().unwrap();
    assert!(!stop(serve(state.path(), &[])).contains("key.pem"));
    let key = state.path().join("weir/key.pem");
    let next = state.path().join("weir/next-key.pem");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o660)).unwrap();
    let log = stop(serve(state.path(), &[]));
    assert_eq!([mode(&key), mode(&next)], [0o600, 0o600]);
    let lines: Vec<_> = log.lines().filter(|line| line.contains("key.pem")).collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("WARN")), "{log}");
    assert!(lines[0].contains("other users") && lines[0].contains("remove"), "{log}");
    // The message appears once.
    assert!(!stop(serve(state.path(), &[])).contains("key.pem"));
}

// To the daemon, a limit of the file size is the same as a full disk.
#[test]
fn a_full_disk_at_the_first_start_leaves_nothing_half_written() {
    let state = tempdir().unwrap();
    let directory = state.path().join("weir");
    // In blocks of 512 bytes: room for nothing, then for the keys but not for the certificates.
    for (blocks, written) in [(0, &[][..]), (1, &["key.pem"])] {
        let limited = format!("trap '' XFSZ; ulimit -f {blocks}; exec {WEIR} serve");
        let output = Command::new("sh")
            .args(["-c", &format!("{limited} --listen 127.0.0.1:0 --http off")])
            .env("XDG_STATE_HOME", state.path())
            .env_remove("STATE_DIRECTORY")
            .output()
            .unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("weir/") && text.contains("--state DIR"), "{text}");
        let names = std::fs::read_dir(&directory).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, written);
    }
    stop(serve(state.path(), &[]));
}

#[test]
fn a_command_that_prints_to_a_blocked_pipe_can_be_interrupted() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    let at = ["--server", &served.server];
    // A hundred payloads of 1 KB, and one of that total: both are more than a pipe holds.
    let lines = (0..100).map(|n| format!("{n:01000}")).collect::<Vec<_>>().join("\n");
    let mut publish = weir(state.path(), &["pub", "a", "--lines", at[0], at[1]]);
    let mut publish = publish.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    publish.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(publish.wait().unwrap().success());
    let subscribe: &[&str] = &["sub", "a", "--from", "all", "--json"];
    for (arguments, how) in [
        (subscribe, "INT"),
        (subscribe, "TERM"),
        (subscribe, "HUP"),
        (&["top", "a", "-k", "100", "--watch", "--json"], "INT"),
    ] {
        let mut child = weir(state.path(), &[arguments, &at[..]].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It prints the first, and finds no room for the rest.
        let mut reader = child.stdout.take().unwrap();
        reader.read_exact(&mut [0]).unwrap();
        signal(&child, how);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?} {how}");
    }
}

// A wrong value of every key, by its type, its text or its size: the error names file, line, column and
// key, or the variable and the key.
#[test]
fn every_wrong_value_is_told_with_its_place_and_its_key() {
    let wrong: [(&str, &[&str]); 20] = [
        ("listen", &["5", "true", "\"nowhere\"", "\"1.2.3.4:99999\""]),
        ("http.listen", &["5", "true", "\"8080\""]),
        ("http.origins", &["5", "\"x\"", "[5]", "[\"evil\"]"]),
        ("http.names", &["5", "[true]", "[\"a.example:80\"]"]),
        ("cache.bytes", &["-1", "1.5", "true", "\"\"", "\"12 apples\"", "\"1KiB\""]),
        ("drain", &["5", "true", "\"10 apples\""]),
        ("journal.kind", &["5", "true", "\"disk\""]),
        ("journal.sync", &["5", "true", "\"2s\""]),
        ("journal.bytes", &["-1", "1.5", "true", "\"12 apples\"", "\"1055MiB\""]),
        ("journal.on_failure", &["5", "true", "\"ignore\""]),
        ("limits.payload", &["0", "-1", "true", "\"12 apples\"", "\"1GiB\""]),
        ("limits.sessions", &["0", "-1", "1.5", "\"x\""]),
        ("limits.topics", &["0", "-1", "1.5", "\"x\""]),
        ("limits.subscriptions", &["0", "-1", "5000000000", "\"x\""]),
        ("limits.producers", &["0", "-1", "1.5", "\"x\""]),
        ("limits.window", &["63", "-1", "5000000000", "\"x\""]),
        ("log.level", &["5", "true", "\"\"", "\"weir=loud\""]),
        ("log.format", &["5", "true", "\"xml\""]),
        ("log.otlp", &["5", "true", "\"127.0.0.1:4318\""]),
        ("log.otlp_ratio", &["1.5", "-1", "true", "\"x\""]),
    ];
    let state = tempdir().unwrap();
    let file = state.path().join("weir.toml");
    let path = file.to_str().unwrap();
    let refused = |output: &std::process::Output, place: &str| {
        let text = stderr(output);
        assert_eq!(output.status.code(), Some(78), "{place} {text}");
        assert!(text.contains(place) && text.trim_end().lines().count() == 1, "{place} {text}");
    };
    for (key, values) in wrong {
        for value in values {
            let (text, line) = match key.rsplit_once('.') {
                Some((section, name)) => (format!("\n[{section}]\n  {name} = {value}\n"), 3),
                None => (format!("# A comment.\n  {key} = {value}\n"), 2),
            };
            // The value's, or that of its first item.
            let name = key.rsplit('.').next().unwrap();
            let is_item = is_of_item(value);
            let column = 2 + name.len() + " = ".len() + 1 + usize::from(is_item);
            std::fs::write(&file, text).unwrap();
            let output = weir(state.path(), &["check-config", path]).output().unwrap();
            refused(&output, &format!("{path}:{line}:{column}: {key}: "));
            let variable = format!("WEIR_{}", key.replace('.', "__").to_uppercase());
            let value = value.trim_matches('"');
            let output = weir(state.path(), &["serve"]).env(&variable, value).output().unwrap();
            refused(&output, &format!("environment variable {variable}: {key}: "));
        }
    }
    // An error of the syntax has a line. It has a key only if the key is complete.
    std::fs::write(&file, "[cache]\nbytes = \"1GiB\n").unwrap();
    let output = weir(state.path(), &["check-config", path]).output().unwrap();
    refused(&output, &format!("{path}:2:14: "));
    // Nor has text in another encoding.
    std::fs::write(&file, b"# \xf6\n").unwrap();
    let output = weir(state.path(), &["check-config", path]).output().unwrap();
    refused(&output, &format!("{path}:1:3: "));
    std::fs::write(&file, "# ö\nlisten = \"ö".to_owned() + "\"\n").unwrap();
    let output = weir(state.path(), &["check-config", path]).output().unwrap();
    refused(&output, &format!("{path}:2:10: listen: "));
}

/// A weir that cannot export traces says what it lacks, and does not start.
#[cfg(not(feature = "otel"))]
#[test]
fn a_collector_of_traces_is_refused_without_the_feature() {
    let state = tempdir().unwrap();
    let file = state.path().join("weir.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "[log]\notlp = \"http://127.0.0.1:4318\"\n").unwrap();
    for arguments in [&["check-config", path][..], &["serve", "--config", path]] {
        let output = weir(state.path(), arguments).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains(&format!("{path}:2:8: log.otlp: ")), "{text}");
        assert!(text.contains("built without the feature otel"), "{text}");
    }
}

// A wrong type is an item's; a wrong text is reported for the list.
fn is_of_item(value: &str) -> bool {
    matches!(value, "[5]" | "[true]")
}

// Clients look for the certificate in the usual directory only.
#[test]
fn the_hints_name_a_state_directory_that_is_not_the_usual_one() {
    let (usual, other) = (tempdir().unwrap(), tempdir().unwrap());
    let listen = ["serve", "--listen", "127.0.0.1:0", "--http", "off"];
    let flag = format!(" --state {}", other.path().display());
    for (given, hinted) in [(&[][..], false), (&["--state", other.path().to_str().unwrap()], true)]
    {
        let mut command = weir(usual.path(), &[&listen[..], given].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let hint = lines.into_iter().find(|line| line.contains("weir pub demo/a hello")).unwrap();
        assert_eq!(hint.ends_with(&flag), hinted, "{hint}");
        stop(child);
    }
}
