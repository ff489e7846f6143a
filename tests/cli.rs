//! The command line as people and programs use it: processes, pipes, exit codes.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{NOBODY, Served, stderr, stdout, weir};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tempfile::tempdir;

/// Runs a command to its end with this standard input.
fn run_with(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn run(state: &Path, arguments: &[&str]) -> Output {
    run_with(weir(state, arguments), b"")
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output)
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn numbers(objects: &[Value], key: &str) -> Vec<u64> {
    objects.iter().map(|object| object[key].as_u64().unwrap()).collect()
}

/// Starts a subscriber, and waits until it has received a first message.
fn subscriber(
    served: &Served,
    state: &Path,
    arguments: &[&str],
) -> (Child, impl Iterator<Item = Value> + use<>) {
    let filter = arguments[0];
    let first = filter.replace('*', "first");
    let published = run(state, &["pub", &first, "first", "--server", &served.server]);
    ok(&published);
    let arguments =
        [&["sub"], arguments, &["--json", "--from", "all", "--server", &served.server]].concat();
    let mut child = weir(state, &arguments).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut objects = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(objects.next().unwrap()["payload"], "first");
    (child, objects)
}

#[test]
fn a_thousand_lines_arrive_in_order_and_a_second_round_counts_two() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    let lines = (1..=1000).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
    for transports in
        [["quic", "webtransport"], ["webtransport", "websocket"], ["websocket", "auto"]]
    {
        let topic = format!("{}/a", transports[0]);
        let filter = format!("{}/*", transports[0]);
        let on = ["--transport", transports[1], "--count", "1001"];
        let (mut child, received) =
            subscriber(&served, state.path(), &[&[&*filter], &on[..]].concat());
        let publish = ["pub", &topic, "--lines", "--json", "--server", &served.server];
        let publish = [&publish[..], &["--transport", transports[0]]].concat();
        let receipts = objects(&ok(&run_with(weir(state.path(), &publish), lines.as_bytes())));
        let received: Vec<_> = received.collect();
        assert!(child.wait().unwrap().success());
        let sequences: Vec<u64> = (1..=1000).collect();
        assert_eq!(numbers(&received, "sequence"), sequences);
        assert_eq!(numbers(&receipts, "sequence"), sequences);
        for (n, (message, receipt)) in (1..).zip(received.iter().zip(&receipts)) {
            assert_eq!(message["topic"], *topic);
            assert_eq!(message["payload"], format!("{n}"));
            assert_eq!(message["count"], 1);
            assert_eq!(message["digest"], receipt["digest"]);
            assert!(message["stamp"].is_u64());
        }
        let again = objects(&ok(&run_with(weir(state.path(), &publish), lines.as_bytes())));
        assert!(numbers(&again, "count").iter().all(|count| *count == 2));

        let top = ok(&run(
            state.path(),
            &["top", &topic, "-k", "3", "--json", "--server", &served.server],
        ));
        assert_eq!(numbers(&objects(&top), "count"), [2, 2, 2]);
        let late = ["sub", &topic, "--from", "last:10", "--count", "10", "--json"];
        let late = ok(&run(state.path(), &[&late[..], &["--server", &served.server]].concat()));
        assert_eq!(numbers(&objects(&late), "sequence"), (1991..=2000).collect::<Vec<_>>());
    }
}

#[test]
fn lines_arrive_in_datagrams_each_once() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    let lines = (1..=1000).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
    for transport in ["quic", "webtransport", "websocket"] {
        for delivery in ["realtime", "unordered"] {
            let topic = format!("{transport}-{delivery}/a");
            let filter = format!("{transport}-{delivery}/*");
            let on = ["--transport", transport, "--count", "1001", "--delivery", delivery];
            let (mut child, received) =
                subscriber(&served, state.path(), &[&[&*filter], &on[..]].concat());
            let publish = ["pub", &topic, "--lines", "--realtime", "--json"];
            let on = ["--server", &served.server, "--transport", transport];
            let publish = weir(state.path(), &[&publish[..], &on].concat());
            let accepted = objects(&ok(&run_with(publish, lines.as_bytes())));
            assert_eq!(accepted.len(), 1000);
            let mut received: Vec<_> = received.collect();
            assert!(child.wait().unwrap().success());
            received.sort_by_key(|message| message["sequence"].as_u64());
            assert_eq!(numbers(&received, "sequence"), (1..=1000).collect::<Vec<_>>());
            let text = |message: &Value| message["payload"].as_str().unwrap().parse().unwrap();
            let mut payloads: Vec<u64> = received.iter().map(text).collect();
            payloads.sort_unstable();
            assert_eq!(payloads, (1..=1000).collect::<Vec<_>>());
            assert!(received.iter().all(|message| message["count"] == 1));
        }
    }
}

#[test]
fn messages_past_their_deadline_are_an_event() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    let lines = "x\n".repeat(50);
    let publish = ["pub", "late", "--lines", "--realtime", "--server", &served.server];
    ok(&run_with(weir(state.path(), &publish), lines.as_bytes()));
    // All of it is older than the deadline before the subscriber connects.
    let hurried = ["--delivery", "realtime", "--deadline", "1us", "--count", "1", "--json"];
    let subscribe = ["sub", "late", "--from", "all", "--server", &served.server];
    let mut child = weir(state.path(), &[&subscribe[..], &hurried].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let event: Value = serde_json::from_str(&line).expect(&line);
    assert_eq!(event["event"], "gap", "{line}");
    assert_eq!((&event["first"], &event["last"]), (&1.into(), &50.into()), "{line}");
    assert_eq!(event["cause"], "late", "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn files_come_back_unchanged_and_one_byte_too_many_is_refused() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    let big: Vec<u8> =
        (0..16_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (file, back) = (state.path().join("big"), state.path().join("back"));
    std::fs::write(&file, &big).unwrap();
    let (file, back) = (file.to_str().unwrap(), back.to_str().unwrap());
    for transport in ["quic", "webtransport", "websocket"] {
        let on = ["--server", &served.server, "--transport", transport];
        ok(&run(state.path(), &[&["pub", "demo/big", "--file", file], &on[..]].concat()));
        ok(&run(state.path(), &[&["get", "demo/big", "--output", back], &on[..]].concat()));
        assert!(std::fs::read(back).unwrap() == big);
        let got = run(state.path(), &[&["get", "demo/big"], &on[..]].concat());
        assert!(got.stdout == big);
    }
    std::fs::write(file, [&big[..], &[0]].concat()).unwrap();
    let refused =
        run(state.path(), &["pub", "demo/big", "--file", file, "--server", &served.server]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("16777217 bytes is above the daemon's limit of 16777216"));

    let binary = [0, 0xff, 0xfe, b'\n'];
    ok(&run_with(weir(state.path(), &["pub", "demo/bin", "--server", &served.server]), &binary));
    let got = ok(&run(state.path(), &["get", "demo/bin", "--json", "--server", &served.server]));
    assert_eq!(objects(&got)[0]["payload_base64"], "AP/+Cg==");
}

#[test]
fn json_has_its_fields_in_the_documented_order() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    ok(&run(state.path(), &["pub", "demo/a", "x", "--server", &served.server]));
    let got = ok(&run(state.path(), &["get", "demo/a", "--json", "--server", &served.server]));
    let keys: Vec<_> = ["topic", "sequence", "count", "digest", "stamp", "size", "payload"].into();
    let places: Vec<_> = keys.iter().map(|key| got.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{got}");
}

#[test]
fn errors_that_newcomers_meet_are_one_line_that_says_what_to_do() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    let at = ["--server", &served.server];
    let other = "a".repeat(64);
    let empty = tempdir().unwrap();
    let missing = empty.path().to_str().unwrap();
    let config = state.path().join("bad.toml");
    std::fs::write(&config, "[cache]\nbyts = 1\n").unwrap();
    let config = config.to_str().unwrap();
    for (arguments, code, words) in [
        (&["serve", "--listen", &*served.server][..], 1, &["is taken", "--listen"][..]),
        (&["ping", "--server", NOBODY], 1, &["no daemon at", "weir serve"]),
        (&["ping", at[0], at[1], "--cert-hash", &other], 1, &["not trusted", "--cert-hash"]),
        (&["ping", at[0], at[1], "--state", missing], 1, &["weir serve", "--cert-hash"]),
        (&["ping", at[0], at[1], "--ca", "/dev/null"], 1, &["/dev/null", "PEM"]),
        (
            &["ping", at[0], at[1], "--token-file", "no/such"],
            1,
            &["no token: no/such: No such file"],
        ),
        (&["get", "demo/none", at[0], at[1]], 1, &["nothing was published"]),
        (&["serve", "--config", config], 78, &["bad.toml:2", "cache.byts", "unknown key"]),
        (&["serve", "--config", "/no/such.toml"], 78, &["/no/such.toml"]),
        (&["check-config", config], 78, &["bad.toml:2"]),
    ] {
        let output = run(state.path(), arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert_eq!(text.trim_end().lines().count(), 1, "{arguments:?}: {text}");
        assert!(text.starts_with("weir: "), "{text}");
        // What the system says is said once.
        assert!(text.matches("(os error").count() <= 1, "{text}");
        for word in words {
            assert!(text.contains(word), "{arguments:?}: {text}");
        }
    }
}

#[test]
fn wrong_usage_has_exit_code_2_before_anything_connects() {
    let state = tempdir().unwrap();
    let one_topic = "`*` is for filters only: name one topic";
    let reserved = "choose another first segment";
    for (arguments, reason) in [
        (&["sub"][..], "FILTER"),
        (&["pub", "a", "b", "--lines"], "--lines"),
        (&["sub", "a", "--from", "x"], "--from"),
        (&["sub", "a", "--delivery", "fast"], "--delivery"),
        (&["sub", "a", "--deadline", "soon"], "--deadline"),
        (&["no"], "no"),
        (&["sub", "a**", "--server", NOBODY], "one whole segment"),
        (&["sub", "demo/**/x", "--server", NOBODY], "one whole segment"),
        (&["sub", "a//b", "--server", NOBODY], "none may be empty"),
        (&["pub", "demo/*", "x", "--server", NOBODY], one_topic),
        (&["pub", "$weir/x", "x", "--server", NOBODY], reserved),
        (&["get", "demo/*", "--server", NOBODY], one_topic),
        (&["top", "demo/*", "--server", NOBODY], one_topic),
        (&["get", "/a", "--server", NOBODY], "none may be empty"),
        (&["top", "$weir/*", "--server", NOBODY], one_topic),
    ] {
        let output = run(state.path(), arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(reason), "{arguments:?}: {text}");
    }
}

#[test]
fn a_certificate_is_trusted_by_any_of_the_hashes_that_are_given() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    // A state directory in which the client does not find the certificate.
    let elsewhere = tempdir().unwrap();
    let ping = |flags: &[&str], variable: &str| {
        let arguments = [&["ping", "--count", "1", "--server", &served.server], flags].concat();
        let mut command = weir(elsewhere.path(), &arguments);
        if !variable.is_empty() {
            command.env("WEIR_CERT_HASH", variable);
        }
        run_with(command, b"")
    };
    let (hash, other) = (&*served.hash, "a".repeat(64));
    let kept = std::fs::read_to_string(state.path().join("weir/certificate.sha256")).unwrap();
    assert_eq!(kept, format!("{hash}\n{}\n", served.next));
    let list = format!("{other},{hash}");
    for (flags, variable) in [
        (&["--cert-hash", hash][..], ""),
        (&["--cert-hash", &list], ""),
        (&["--cert-hash", &other, "--cert-hash", hash], ""),
        (&["--cert-hash", kept.trim_end()], ""),
        (&[], hash),
        (&[], &*list),
        // Any flag takes precedence over the environment.
        (&["--cert-hash", hash], &*other),
        (&["--insecure"], &*other),
        (&["--ca", state.path().join("weir/certificate.pem").to_str().unwrap()], &*other),
    ] {
        ok(&ping(flags, variable));
    }
    let neither = format!("{other},{}", served.next);
    for (flags, variable, code, word) in [
        (&["--cert-hash", &*neither][..], "", 1, format!("{hash}, not {other} or {}", served.next)),
        (&["--cert-hash", &*other], hash, 1, "not trusted".into()),
        (&[], &*other, 1, "not trusted".into()),
        (&["--cert-hash", "abc"], "", 2, "64 hexadecimal digits".into()),
        (&["--cert-hash", "abc"], "", 2, "`weir serve` prints it".into()),
        (&["--cert-hash", &*format!("{hash},abc")], "", 2, "64 hexadecimal digits".into()),
        (&[], "abc", 1, "WEIR_CERT_HASH: a certificate hash is 64 hexadecimal digits".into()),
    ] {
        let output = ping(flags, variable);
        assert_eq!(output.status.code(), Some(code), "{flags:?} {variable}: {}", stderr(&output));
        assert!(stderr(&output).contains(&word), "{flags:?} {variable}: {}", stderr(&output));
    }
}

#[test]
fn the_shipped_configuration_is_the_default_and_is_accepted() {
    let state = tempdir().unwrap();
    let printed = ok(&run(state.path(), &["default-config"]));
    assert_eq!(printed, weir::config::DEFAULT);
    let file = state.path().join("weir.toml");
    std::fs::write(&file, printed).unwrap();
    ok(&run(state.path(), &["check-config", file.to_str().unwrap()]));
}

#[test]
fn a_daemon_stops_on_term_and_on_int_and_keeps_its_certificate() {
    let state = tempdir().unwrap();
    let mut hashes = Vec::new();
    for signal in ["TERM", "INT"] {
        let mut served = Served::start(state.path(), &[], &[]);
        let (mut child, _) = subscriber(&served, state.path(), &["demo/*", "--no-reconnect"]);
        served.signal(signal);
        assert_eq!(served.child.wait().unwrap().code(), Some(0));
        // The subscriber gets the reason, and fails.
        assert_eq!(child.wait().unwrap().code(), Some(1));
        hashes.push(served.hash.clone());
    }
    assert_eq!(hashes[0], hashes[1]);
}
