//! `weir bench`: every message comes once, and not before the link lets it. Nothing here is about
//! how fast it is.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{stderr, stdout, weir};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::tempdir;

/// Why there can be no link on this machine, if there can be none.
fn no_link() -> Option<String> {
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        return Some(format!("/dev/net/tun: {error}"));
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return Some("no ip: install iproute2".into());
    }
    for way in [&[][..], &["--user", "--map-root-user"]] {
        let flags = ["--net", "--pid", "--fork", "--mount-proc", "true"];
        match Command::new("unshare").args(way).args(flags).output() {
            Ok(said) if said.status.success() => return None,
            Ok(_) => {}
            Err(error) => return Some(format!("unshare: {error}: install util-linux")),
        }
    }
    Some("no namespaces for this user".into())
}

fn bench(state: &Path, arguments: &[&str]) -> Output {
    let arguments = [&["bench"], arguments].concat();
    // What it makes for itself is to be gone again.
    weir(state, &arguments).env("TMPDIR", state).output().unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn over_a_link_with_loss_everything_comes_once_and_not_too_early() {
    if let Some(why) = no_link() {
        eprintln!("skipped: {why}");
        return;
    }
    let state = tempdir().unwrap();
    let svg = tempdir().unwrap();
    let svg = svg.path().join("latency.svg");
    let options = ["--modes", "ordered,websocket-cubic", "--duration", "3s", "--runs", "1"];
    let link = ["--loss", "3%", "--legs", "both", "--json", "--svg", svg.to_str().unwrap()];
    let output = bench(state.path(), &[&["link"], &options[..], &link].concat());
    let objects = objects(&output);
    let [ordered, websocket, summary] = &objects[..] else { panic!("{objects:?}") };
    for (object, mode) in [(ordered, "ordered"), (websocket, "websocket-cubic")] {
        assert_eq!(object["event"], "run");
        assert_eq!(object["mode"], mode);
        if object["refused"].is_string() {
            eprintln!("skipped: {mode}: {}", object["refused"]);
            continue;
        }
        for (key, expected) in [
            ("sent", 180),
            ("delivered", 180),
            ("measured", 120),
            ("missing", 0),
            ("gaps", 0),
            ("duplicates", 0),
            ("corrupted", 0),
        ] {
            assert_eq!(object[key], expected, "{mode}: {key}");
        }
        // Two crossings of 25 ms; and each message is in two packets at least.
        assert!(object["min_ms"].as_f64().unwrap() >= 50.0, "{object}");
        assert!(object["p50_ms"].as_f64() <= object["max_ms"].as_f64());
        assert!(object["packets"].as_u64().unwrap() >= 2 * 180 / 2, "{object}");
        assert!(object["bytes_per_message"].as_f64().unwrap() >= 400.0, "{object}");
    }
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["modes"][0]["mode"], "ordered");
    assert!(std::fs::read_to_string(svg).unwrap().ends_with("</svg>\n"));
    assert!(is_empty(state.path()));
}

#[test]
fn over_loopback_every_case_delivers_all_or_is_refused() {
    let state = tempdir().unwrap();
    let options = ["--duration", "400ms", "--slice", "400ms", "--runs", "1", "--json"];
    let output = bench(state.path(), &[&["latency"], &options[..]].concat());
    let objects = objects(&output);
    let (summary, cases) = objects.split_last().unwrap();
    assert_eq!(cases.len(), 7);
    for case in cases {
        assert_eq!(case["event"], "run");
        if case["refused"].is_string() {
            assert_ne!(case["mode"], "ordered", "{case}");
            continue;
        }
        let counts = ["sent", "delivered", "missing", "gaps", "duplicates", "corrupted"];
        let counts = counts.map(|key| case[key].as_u64().unwrap());
        assert_eq!(counts, [40, 40, 0, 0, 0, 0], "{case}");
        assert!(case["p50_us"].as_f64() > Some(0.0));
    }
    assert_eq!(summary["cases"].as_array().unwrap().len(), 7);
    assert_eq!(summary["cases"][6]["ratios"]["p50"], 1.0);
    assert!(is_empty(state.path()));
}

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    let state = tempdir().unwrap();
    for (arguments, word) in [
        (&["link", "--size", "5"][..], "--size"),
        (&["link", "--loss", "1"], "percent"),
        (&["link", "--loss", "80%", "--burst", "1.5"], "--loss"),
        (&["link", "--modes", "ordered,ordered"], "--modes"),
        (&["latency", "--slice", "1ms"], "--slice"),
    ] {
        let output = bench(state.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
}
