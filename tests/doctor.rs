//! `weir doctor` against a daemon, and against networks and daemons that are wrong in one way each.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{NOBODY, Served, stdout, weir};
use serde_json::Value;
use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;

struct Visit {
    exit: i32,
    checks: Vec<Value>,
    verdict: Value,
}

impl Visit {
    fn to(state: &Path, server: &str, more: &[&str]) -> Self {
        let arguments = [&["doctor", "--json", "--server", server], more].concat();
        let output = weir(state, &arguments).output().unwrap();
        let lines = stdout(&output);
        let mut checks: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let verdict = checks.pop_if(|last| last["event"] == "verdict").unwrap_or_default();
        Self { exit: output.status.code().unwrap(), checks, verdict }
    }

    fn status(&self, name: &str) -> Option<&str> {
        let check = self.checks.iter().find(|check| check["check"] == name)?;
        check["status"].as_str()
    }

    fn says(&self, what: &str) {
        let text = format!("{} {}", self.verdict["text"], self.verdict["advice"]);
        assert!(text.contains(what), "{text}");
    }
}

fn serve() -> (tempfile::TempDir, Served) {
    let state = tempfile::tempdir().unwrap();
    let served = Served::start(state.path(), &[], &[]);
    (state, served)
}

#[test]
fn a_healthy_daemon_is_healthy() {
    let (state, served) = serve();
    let visit = Visit::to(state.path(), &served.server, &[]);
    for name in ["name", "quic", "webtransport", "websocket", "packets", "clock", "certificate"] {
        assert_eq!(visit.status(name), Some("ok"), "{name}: {:?}", visit.checks);
    }
    assert_eq!((visit.exit, &visit.verdict["works"]), (0, &Value::Bool(true)));
    let facts = |name: &str| {
        visit.checks.iter().find(|check| check["check"] == name).unwrap()["facts"].clone()
    };
    assert!(facts("packets")["mtu"].as_u64().unwrap() > 1350, "{}", facts("packets"));
    assert!(facts("clock")["daemon_ahead_ms"].as_f64().unwrap().abs() < 1000., "one machine");
    let text = weir(state.path(), &["doctor", "--server", &served.server]).output().unwrap();
    assert!(stdout(&text).ends_with("\nEverything works.\n"), "{}", stdout(&text));
}

// Passes TCP on to the daemon, and takes UDP without an answer, as a firewall does.
fn without_udp(to: &str) -> String {
    // The system gives a port that is free over TCP. Another test may have it over UDP.
    let (listener, silent) = std::iter::repeat_with(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = UdpSocket::bind(listener.local_addr().unwrap());
        silent.ok().map(|silent| (listener, silent))
    })
    .flatten()
    .next()
    .unwrap();
    let at = listener.local_addr().unwrap();
    let to = to.to_owned();
    thread::spawn(move || {
        let _silent = silent;
        for here in listener.incoming() {
            let (here, there) = (here.unwrap(), TcpStream::connect(&to).unwrap());
            let mut ways = [(here.try_clone().unwrap(), there.try_clone().unwrap()), (there, here)];
            for (from, to) in &mut ways {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    at.to_string()
}

#[test]
fn udp_that_is_blocked_is_named() {
    let (state, served) = serve();
    let at = without_udp(&served.server);
    let visit = Visit::to(state.path(), &at, &[]);
    assert_eq!((visit.exit, visit.status("websocket")), (1, Some("ok")));
    assert_eq!(
        (visit.status("quic"), visit.status("webtransport")),
        (Some("failed"), Some("failed"))
    );
    visit.says("UDP does not get through");
    visit.says(&format!("Open UDP port {}", at.rsplit_once(':').unwrap().1));
}

// Passes UDP on to the daemon; nothing listens on TCP.
#[test]
fn tcp_that_is_blocked_is_named() {
    let (state, served) = serve();
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = front.local_addr().unwrap().to_string();
    let to = served.server.clone();
    thread::spawn(move || {
        let mut ways: Vec<(std::net::SocketAddr, UdpSocket)> = Vec::new();
        let mut packet = [0; 2048];
        while let Ok((length, from)) = front.recv_from(&mut packet) {
            let known = ways.iter().position(|(of, _)| *of == from).unwrap_or_else(|| {
                let back = UdpSocket::bind("127.0.0.1:0").unwrap();
                back.connect(&to).unwrap();
                let (answers, front) = (back.try_clone().unwrap(), front.try_clone().unwrap());
                thread::spawn(move || {
                    let mut packet = [0; 2048];
                    while let Ok(length) = answers.recv(&mut packet) {
                        let _ = front.send_to(&packet[..length], from);
                    }
                });
                ways.push((from, back));
                ways.len() - 1
            });
            let _ = ways[known].1.send(&packet[..length]);
        }
    });
    let visit = Visit::to(state.path(), &at, &[]);
    assert_eq!(
        (visit.exit, visit.status("quic"), visit.status("websocket")),
        (1, Some("ok"), Some("failed"))
    );
    visit.says("WebSocket does not");
    visit.says("Open TCP port");
}

#[test]
fn what_is_wrong_with_the_daemon_is_named() {
    let (state, served) = serve();
    let other = "0".repeat(64);
    let visit = Visit::to(state.path(), &served.server, &["--cert-hash", &other]);
    assert_eq!(
        (visit.exit, visit.status("quic"), visit.status("websocket")),
        (1, Some("failed"), Some("failed"))
    );
    visit.says("not trusted");

    let visit = Visit::to(state.path(), NOBODY, &[]);
    assert_eq!(visit.exit, 1);
    visit.says("Nothing listens");

    let visit = Visit::to(state.path(), "no-such-name.invalid:1", &[]);
    assert_eq!((visit.exit, visit.status("name")), (1, Some("failed")));

    let closed = tempfile::tempdir().unwrap();
    // Nothing answers the question who a peer is.
    let environment = [("WEIR_ACCESS__AUTHORIZE", "http://127.0.0.1:9/")];
    let served = Served::start(closed.path(), &[], &environment);
    let visit = Visit::to(closed.path(), &served.server, &[]);
    assert_eq!(visit.exit, 1);
    visit.says("refuses sessions");

    // Something that is not a daemon.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let _ = connection.unwrap().read(&mut [0; 1000]);
        }
    });
    let visit = Visit::to(state.path(), &at, &["--insecure"]);
    assert_eq!((visit.exit, &visit.verdict["works"]), (1, &Value::Bool(false)));
}
