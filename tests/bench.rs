//! `weir bench`: every message arrives once, and not before the link delivers it. Nothing here
//! tests speed.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{stderr, stdout, weir};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::tempdir;

/// Returns the reason if this machine cannot have links.
fn no_link() -> Option<String> {
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        return Some(format!("/dev/net/tun: {error}"));
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return Some("no ip: install iproute2".into());
    }
    for arguments in [&[][..], &["--user", "--map-root-user"]] {
        let flags = ["--net", "--pid", "--fork", "--mount-proc", "true"];
        match Command::new("unshare").args(arguments).args(flags).output() {
            Ok(output) if output.status.success() => return None,
            Ok(_) => {}
            Err(error) => return Some(format!("unshare: {error}: install util-linux")),
        }
    }
    Some("no namespaces for this user".into())
}

fn bench(state: &Path, arguments: &[&str]) -> Output {
    let arguments = [&["bench"], arguments].concat();
    // The benchmark must remove its files.
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
fn over_a_link_with_loss_everything_arrives_once_and_not_too_early() {
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
        // Two crossings of 25 ms. Each message is in at least two packets.
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

// Checks that every subscriber received every message once.
fn assert_delivered(object: &Value, sent: u64, subscribers: u64) {
    let keys = ["sent", "expected", "delivered", "missing", "gaps", "duplicates", "corrupted"];
    let counts = keys.map(|key| object[key].as_u64().unwrap_or(u64::MAX));
    let all = sent * subscribers;
    assert_eq!(counts, [sent, all, all, 0, 0, 0, 0], "{object}");
    assert!(object["measured"].as_u64() > Some(0), "{object}");
    for key in ["p50_us", "cpu_us_per_delivery", "rss_idle_mib", "rss_peak_mib"] {
        assert!(object[key].as_f64() > Some(0.0), "{key}: {object}");
    }
    assert!(object["rss_peak_mib"].as_f64() >= object["rss_idle_mib"].as_f64());
}

#[test]
fn in_a_fan_out_all_subscribers_get_all_messages_of_all_publishers() {
    let state = tempdir().unwrap();
    let svg = tempdir().unwrap();
    let svg = svg.path().join("fanout.svg");
    let who = ["--publishers", "2", "--subscribers", "5", "--rate", "20", "--compare"];
    let options = ["--mode", "ordered,unordered,realtime", "--duration", "1s", "--rounds", "1"];
    let output = ["--json", "--svg", svg.to_str().unwrap()];
    let output = bench(state.path(), &[&["fanout"], &who[..], &options, &output].concat());
    let nats = stderr(&output).lines().all(|line| !line.contains("no nats-server here"));
    let objects = objects(&output);
    let (summary, lanes) = objects.split_last().unwrap();
    let names: Vec<_> = lanes.iter().map(|lane| lane["lane"].as_str().unwrap()).collect();
    let mut expected = vec!["quic ordered", "quic unordered", "quic realtime", "websocket"];
    if nats {
        expected.extend(["nats, plain", "nats, TLS"]);
    } else {
        eprintln!("skipped: no nats-server here");
    }
    assert_eq!(names, expected);
    for lane in lanes {
        assert_eq!((&lane["event"], &lane["round"]), (&"round".into(), &1.into()));
        assert_delivered(lane, 40, 5);
    }
    let lanes = summary["lanes"].as_array().unwrap();
    assert_eq!(lanes.len(), expected.len());
    assert!(lanes[0]["ratios"]["websocket"]["cpu_us_per_delivery"].as_f64() > Some(0.0));
    assert_eq!(lanes[0]["ratios"]["nats, plain"].is_object(), nats);
    assert!(std::fs::read_to_string(svg).unwrap().ends_with("</svg>\n"));
    assert!(is_empty(state.path()));
}

#[test]
fn in_a_chat_everyone_receives_all_messages() {
    let state = tempdir().unwrap();
    let who = ["--chat", "--subscribers", "4", "--rate", "5", "--transport", "webtransport"];
    let options = ["--duration", "1s", "--rounds", "2", "--json"];
    let output = bench(state.path(), &[&["fanout"], &who[..], &options].concat());
    let objects = objects(&output);
    let [first, second, summary] = &objects[..] else { panic!("{objects:?}") };
    for (object, round) in [(first, 1), (second, 2)] {
        assert_eq!(object["round"], round);
        assert_eq!(object["transport"], "webtransport");
        assert_delivered(object, 4 * 5, 4);
    }
    assert_eq!(summary["conditions"]["publishers"], 4);
    assert_eq!(summary["lanes"][0]["delivered"], 2 * 4 * 5 * 4);
}

#[test]
fn as_fast_as_it_goes_nothing_is_lost_either() {
    let state = tempdir().unwrap();
    let who = ["--subscribers", "3", "--rate", "max", "--window", "64", "--workers", "1"];
    let options = ["--duration", "500ms", "--rounds", "1", "--json"];
    let output = bench(state.path(), &[&["fanout"], &who[..], &options].concat());
    let objects = objects(&output);
    let [round, summary] = &objects[..] else { panic!("{objects:?}") };
    assert_eq!(round["lane"], "quic ordered, 1 core");
    let sent = round["sent"].as_u64().unwrap();
    assert!(sent > 64, "{round}");
    assert_delivered(round, sent, 3);
    assert!(round["deliveries_per_cpu_second"].as_f64() > Some(0.0));
    assert_eq!(summary["conditions"]["hz"], Value::Null);
}

#[test]
fn sessions_that_were_idle_are_still_served() {
    let state = tempdir().unwrap();
    let transports = ["quic", "webtransport", "websocket"];
    for subscribe in [false, true] {
        let list = transports.join(",");
        let options = ["idle", "--sessions", "12", "--duration", "300ms", "--json", "--transport"];
        let more: &[&str] = if subscribe { &[&list, "--subscribe"] } else { &[&list] };
        let objects = objects(&bench(state.path(), &[&options[..], more].concat()));
        assert_eq!(objects.len(), 3);
        for (object, transport) in objects.iter().zip(transports) {
            assert_eq!(object["transport"], transport);
            assert_eq!(object["subscribed"], subscribe);
            assert_eq!((&object["sessions"], &object["served"]), (&12.into(), &12.into()));
            assert!(object["rss_kib_per_session"].is_number(), "{object}");
            assert!(object["opened_per_second"].as_f64() > Some(0.0));
        }
    }
    assert!(is_empty(state.path()));
}

#[test]
fn more_sessions_than_open_files_are_refused_with_the_reason() {
    let state = tempdir().unwrap();
    let weir = env!("CARGO_BIN_EXE_weir");
    let limited = format!("ulimit -n 300; exec {weir} bench idle --sessions 101");
    let output = Command::new("sh").args(["-c", &limited]).env("TMPDIR", state.path()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("101 sessions need 301 open files, and 300 are allowed"));
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
        (&["fanout", "--rate", "never"], "--rate"),
        (&["fanout", "--size", "5"], "--size"),
        (&["fanout", "--subscribers", "0"], "--subscribers"),
        (&["fanout", "--chat", "--publishers", "2"], "--chat"),
        (&["idle", "--sessions", "0"], "--sessions"),
    ] {
        let output = bench(state.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
}
