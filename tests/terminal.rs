//! Text of others on a terminal: escape sequences, line ends and changes of direction in payloads,
//! topics, names and reasons, through the binary.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/raw.rs"]
mod raw;
#[path = "common/staged.rs"]
mod staged;

use common::{Served, stderr, stdout, weir};
use raw::Raw;
use serde_json::Value;
use staged::{Stage, staged};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::tempdir;
use weir::wire::{self, ClientFrame, Code, DaemonFrame, Delivery, GapCause};

/// Clears the screen, sets the title, fills the clipboard, the same with a C1 character, moves back
/// over what stands there, begins a line, and turns the direction of writing round.
const ATTACK: &str =
    "a\x1b[2J\x1b]0;t\x07\x1b]52;c;eA==\x07\u{9b}2Jb\rc\x08\x7f\nforged: line\u{202e}d";

fn is_obeyed(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Checks that nothing of the attack has an effect, in what was printed in all and on each line.
fn check(what: &str, printed: &str) {
    let left = printed.chars().find(|c| is_obeyed(*c));
    assert_eq!(left, None, "{what}: {printed:?}");
    assert!(!printed.lines().any(|line| line.starts_with("forged")), "{what}: {printed}");
}

fn check_output(what: &str, output: &Output) {
    check(what, &stdout(output));
    check(what, &stderr(output));
}

/// Runs `weir` with a terminal as its standard output and error, and returns what it prints there.
fn on_a_terminal(state: &Path, arguments: &[&str]) -> (bool, String) {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let words: Vec<_> = arguments.iter().map(|argument| quoted(argument)).collect();
    let command = format!("{} {}", quoted(common::WEIR), words.join(" "));
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("XDG_STATE_HOME", state)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // The terminal itself ends lines with a carriage return.
    (output.status.success(), stdout(&output).replace("\r\n", "\n"))
}

#[test]
fn payloads_of_others() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    let on = ["--server", &served.server];
    let file = state.path().join("payload");
    std::fs::write(&file, ATTACK).unwrap();
    let publish = ["pub", "demo/a", "--file", file.to_str().unwrap()];
    let published = weir(state.path(), &[&publish[..], &on].concat()).output().unwrap();
    assert!(published.status.success(), "{}", stderr(&published));
    let sub = ["sub", "**", "--from", "all", "--count", "1"];
    let printing: [&[&str]; 7] = [
        &sub,
        &["sub", "**", "--from", "all", "--count", "1", "--json"],
        &["sub", "**", "--from", "all", "--count", "1", "--delivery", "realtime"],
        &["top", "demo/a"],
        &["top", "demo/a", "--json"],
        &["get", "demo/a", "--json"],
        &["ping", "--count", "1"],
    ];
    for arguments in printing {
        let output = weir(state.path(), &[arguments, &on].concat()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        check_output(&format!("{arguments:?}"), &output);
        if let Ok(value) = serde_json::from_str::<Value>(&stdout(&output)) {
            assert_eq!(value["payload"], ATTACK, "{arguments:?}");
        }
    }
    // A payload that is fetched into a pipe or a file is what was published, and on a terminal it is
    // shown.
    let get = [&["get", "demo/a"], &on[..]].concat();
    assert_eq!(stdout(&weir(state.path(), &get).output().unwrap()), ATTACK);
    let (fetched, shown) = on_a_terminal(state.path(), &get);
    assert!(fetched && shown.contains("forged: line"), "{shown:?}");
    let left = shown.chars().find(|c| is_obeyed(*c));
    assert_eq!(left, None, "{shown:?}");
    let (subscribed, shown) = on_a_terminal(state.path(), &[&sub, &on[..]].concat());
    assert!(subscribed && shown.contains("demo/a #1"), "{shown:?}");
    check("sub on a terminal", &shown);
}

#[test]
fn data_that_is_no_text_is_not_written_to_a_terminal() {
    let state = tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    let on = ["--server", &served.server];
    let file = state.path().join("payload");
    std::fs::write(&file, b"\xff\x1b[2J\x9b2J").unwrap();
    let publish = ["pub", "demo/a", "--file", file.to_str().unwrap()];
    assert!(weir(state.path(), &[&publish[..], &on].concat()).status().unwrap().success());
    let get = [&["get", "demo/a"], &on[..]].concat();
    let (fetched, shown) = on_a_terminal(state.path(), &get);
    assert!(!fetched && shown.contains("--output F"), "{shown:?}");
    check("get on a terminal", &shown);
    let piped = weir(state.path(), &get).output().unwrap();
    assert_eq!(piped.stdout, b"\xff\x1b[2J\x9b2J");
}

/// The scripted daemon answers the first request of a client with this.
async fn against(
    arguments: &[&str],
    answer: impl AsyncFnOnce(&mut Stage, &ClientFrame<'_>),
) -> Output {
    let state = tempdir().unwrap();
    let (endpoint, hash) = staged();
    let (server, hash) = (endpoint.local_addr().unwrap().to_string(), hash.to_string());
    let on = ["--server", &server, "--cert-hash", &hash, "--transport", "quic"];
    let child = weir(state.path(), &[arguments, &on].concat())
        .env("RUST_LOG", "debug")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stage = Stage::accept(&endpoint).await;
    loop {
        let frame = stage.frame().await;
        let frame = ClientFrame::decode(&frame).unwrap();
        // What it can decode, and topics, are no requests.
        if !matches!(frame, ClientFrame::Knows { .. } | ClientFrame::Topic { .. }) {
            answer(&mut stage, &frame).await;
            break;
        }
    }
    let waited = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    common::within(waited).await.unwrap()
}

fn number(frame: &ClientFrame<'_>) -> u32 {
    match frame {
        ClientFrame::Subscribe { request, .. }
        | ClientFrame::Get { request, .. }
        | ClientFrame::Top { request, .. }
        | ClientFrame::Ping { request } => *request,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn reasons_of_a_hostile_daemon() {
    let verbs: [&[&str]; 5] = [
        &["sub", "demo/*", "--no-reconnect"],
        &["sub", "demo/*", "--no-reconnect", "--json"],
        &["get", "demo/a"],
        &["top", "demo/a"],
        &["ping"],
    ];
    for arguments in verbs {
        let failed = against(arguments, async |stage, frame| {
            let request = number(frame);
            let code = Code::OVERLOADED;
            stage.send(&DaemonFrame::Failed { request, code, reason: ATTACK }).await;
        });
        let goodbye = against(arguments, async |stage, _| {
            let (code, retry) = (Code::FORBIDDEN, false);
            stage.send(&DaemonFrame::Goodbye { code, reason: ATTACK, retry }).await;
        });
        // QUIC has a reason of its own.
        let closed = against(arguments, async |stage, _| {
            stage.connection.close(9_u32.into(), ATTACK.as_bytes());
        });
        for output in [failed.await, goodbye.await, closed.await] {
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            check_output(&format!("{arguments:?}"), &output);
        }
    }
}

#[tokio::test]
async fn topics_and_notices_of_a_hostile_daemon() {
    for json in [&[][..], &["--json"]] {
        let arguments = [&["sub", "demo/*", "--no-reconnect"], json].concat();
        let output = against(&arguments, async |stage, frame| {
            let ClientFrame::Subscribe { request, delivery: Delivery::Ordered, .. } = *frame else {
                panic!("{frame:?}")
            };
            stage.send(&DaemonFrame::Subscribed { request, position: 1 }).await;
            stage.send(&DaemonFrame::Notice { code: Code::UNKEPT, reason: ATTACK }).await;
            let message = |sequence| DaemonFrame::Message {
                topic: 1,
                sequence,
                count: 1,
                stamp: 0,
                payload: ATTACK.as_bytes(),
            };
            let mut stream = stage
                .stream(&[
                    DaemonFrame::For { request },
                    DaemonFrame::Topic { id: 1, epoch: 1, next: 1, name: ATTACK },
                    message(1),
                    DaemonFrame::Gap { topic: 1, first: 2, last: 3, cause: GapCause::Evicted },
                    message(4),
                ])
                .await;
            stream.finish().unwrap();
            // Both arrive before the end.
            common::within(stream.stopped()).await.unwrap();
            let (code, retry) = (Code::DONE, false);
            stage.send(&DaemonFrame::Goodbye { code, reason: ATTACK, retry }).await;
        })
        .await;
        check_output(&format!("{json:?}"), &output);
        let lines = stdout(&output)
            .lines()
            .filter(|line| line.contains("a·[2J") || line.contains("a\\u001b"))
            .count();
        // Two messages and a gap, as objects also the notice; fewer if the goodbye overtakes the stream.
        assert!(lines <= 3 + json.len(), "{output:?}");
    }
}

// The log of a daemon is read on a terminal as well.
#[tokio::test]
async fn the_log_of_a_daemon_with_hostile_clients() {
    let state = tempdir().unwrap();
    let sink = state.path().join("log");
    let mut command = weir(state.path(), &["serve", "--listen", "127.0.0.1:0", "--json"]);
    command.args(["--http", "127.0.0.1:0"]).env("RUST_LOG", "debug").stdout(Stdio::piped());
    let mut child = command.stderr(std::fs::File::create(&sink).unwrap()).spawn().unwrap();
    let mut ready = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut ready,
    )
    .unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    let server = ready["listen"].as_str().unwrap();
    for end in 0..3 {
        let mut raw = Raw::to(server.parse().unwrap()).await;
        let (version, producer) = (wire::VERSION, wire::ProducerId([1; 16]));
        raw.send(&[ClientFrame::Hello { version, producer, token: None, agent: ATTACK }]).await;
        let welcome = raw.frame().await;
        assert!(matches!(DaemonFrame::decode(&welcome), Ok(DaemonFrame::Welcome { .. })));
        match end {
            0 => {
                let goodbye = ClientFrame::Goodbye { code: Code::DONE, reason: ATTACK };
                raw.send(&[ClientFrame::Topic { alias: 1, name: ATTACK }, goodbye]).await;
            }
            // Chunks of nothing end the session.
            1 => raw.send(&[ClientFrame::Chunk { bytes: ATTACK.as_bytes() }]).await,
            _ => raw.connection.close(9_u32.into(), ATTACK.as_bytes()),
        }
        common::within(raw.connection.closed()).await;
    }
    let term = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(term.success() && child.wait().unwrap().success());
    let log = std::fs::read_to_string(&sink).unwrap();
    assert!(log.contains("session"), "{log}");
    check("the daemon's log", &log);
}

#[test]
fn files_and_tokens_of_others() {
    let at = tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = at.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let run = |arguments: &[&str]| {
        let output = weir(at.path(), arguments).current_dir(at.path()).output().unwrap();
        check_output(&format!("{arguments:?}"), &output);
        output
    };
    // Keys of a configuration, in quotes and not, and values.
    let escaped = ATTACK.replace('\x1b', "\\u001b").replace('\n', "\\n").replace('\r', "\\r");
    let escaped =
        escaped.replace('\x07', "\\u0007").replace('\x08', "\\b").replace('\x7f', "\\u007f");
    for text in [
        format!("\"{escaped}\" = 1\n"),
        format!("[http]\n{ATTACK} = 1\n"),
        format!("[http]\nnames = [\"{escaped}\"]\n"),
        format!("listen = \"{escaped}\"\n"),
    ] {
        let output = run(&["check-config", &file("weir.toml", &text)]);
        assert_eq!(output.status.code(), Some(78), "{text:?}");
    }
    // Tokens: a name, filters, and what errors quote.
    run(&["token", "keygen", "--out", "key.jwk", "--public", "keys.json"]);
    let name = "ada\u{202e}nimda";
    let grants = ["--subscribe", "demo/\u{202e}a/**", "--publish", "demo/\u{2066}b"];
    let new = ["token", "new", "--key", "key.jwk", "--sub", name];
    let token = stdout(&run(&[&new[..], &grants].concat()));
    let json = run(&[&new[..], &grants, &["--json"]].concat());
    assert_eq!(serde_json::from_str::<Value>(&stdout(&json)).unwrap()["sub"], name);
    let check = ["token", "check", token.trim(), "--keys", "keys.json"];
    let checked = run(&check);
    assert!(stdout(&checked).contains("ada·nimda"), "{checked:?}");
    assert!(run(&[&check[..], &["--json"]].concat()).status.success());
    let header = base64(format!(r#"{{"alg":"EdDSA","kid":"{escaped}"}}"#).as_bytes());
    let foreign = format!("{header}.{}.{}", base64(b"{}"), base64(&[7; 64]));
    let alg = base64(format!(r#"{{"alg":"{escaped}"}}"#).as_bytes());
    let unknown = format!("{alg}.e30.e30");
    for token in [foreign, unknown] {
        let refused = run(&["token", "check", &token, "--keys", "keys.json"]);
        assert_eq!(refused.status.code(), Some(1));
        run(&["token", "check", &token, "--keys", "keys.json", "--json"]);
    }
    // A file whose name is an attack.
    let named = file("x\x1b[2J\nforged", "no certificate");
    run(&["cert", "show", &named]);
    run(&["check-config", &named]);
    run(&["token", "check", "x", "--keys", &named]);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
