//! A real disk that is full: a small file system in a namespace of its own. A daemon that starts there
//! serves what it has read, refuses publications, and accepts them once there is room again.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Served, stderr, stdout, weir};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output};

const INNER: &str = "in_a_namespace";

struct Started<'a> {
    daemon: Served,
    state: &'a Path,
}

impl<'a> Started<'a> {
    fn new(state: &'a Path, on_failure: &str) -> Self {
        let environment = [
            ("WEIR_CACHE__BYTES", "1MiB"),
            ("WEIR_LIMITS__PAYLOAD", "64KiB"),
            ("WEIR_JOURNAL__ON_FAILURE", on_failure),
        ];
        Self { daemon: Served::start(state, &["--ops", "127.0.0.1:0"], &environment), state }
    }

    // Returns the answer to a request for this path of metrics and health.
    fn ask(&self, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(self.daemon.ops.unwrap()).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    // Metrics and health say what the daemon does.
    fn says(&self, refuses: bool, unkept: bool) {
        let metrics = self.ask("/metrics");
        for (name, value) in [("weir_journal_refuses", refuses), ("weir_journal_unkept", unkept)] {
            assert!(metrics.contains(&format!("\n{name} {}", u8::from(value))), "{metrics}");
        }
        let ready = self.ask("/readyz");
        assert_eq!(ready.starts_with("HTTP/1.1 200 "), !refuses, "{ready}");
        assert_eq!(ready.contains("\"reason\":\"journal\""), refuses, "{ready}");
        assert!(self.ask("/healthz").starts_with("HTTP/1.1 200 "));
    }

    fn run(&self, verb: &[&str]) -> Output {
        weir(self.state, &[verb, &["--server", &self.daemon.server]].concat()).output().unwrap()
    }

    fn stop(mut self) {
        self.daemon.signal("TERM");
        assert!(self.daemon.child.wait().unwrap().success());
    }
}

#[test]
fn a_daemon_starts_on_a_full_disk() {
    let test = std::env::current_exe().unwrap();
    let arguments = ["-Urm", "--kill-child"];
    let probe = Command::new("unshare").args(arguments).arg("true").output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("not tested: this machine allows no namespaces of users (unshare -Urm)");
        return;
    }
    let inner = ["--ignored", "--exact", INNER, "--nocapture"];
    let status = Command::new("unshare").args(arguments).arg(test).args(inner).status().unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "it mounts a file system: the other test runs it in a namespace"]
fn in_a_namespace() {
    let disk = tempfile::tempdir().unwrap();
    mount(disk.path(), &["-t", "tmpfs", "-o", "size=3m", "tmpfs"]);
    read_only(disk.path());
    for on_failure in ["refuse", "continue"] {
        let state = disk.path().join(on_failure);
        let daemon = Started::new(&state, on_failure);
        assert!(daemon.run(&["pub", "a", "kept"]).status.success());
        daemon.stop();
        let filler = disk.path().join("filler");
        fill(&filler);
        // It is full when the next one starts, and also after a restart.
        for _ in 0..2 {
            let daemon = Started::new(&state, on_failure);
            let got = daemon.run(&["get", "a"]);
            assert_eq!(stdout(&got).trim(), "kept", "{got:?}");
            let published = daemon.run(&["pub", "b", "x"]);
            let said = stderr(&published);
            match on_failure {
                "refuse" => assert!(said.contains("journal cannot be written"), "{said}"),
                _ => assert!(published.status.success(), "{said}"),
            }
            daemon.says(on_failure == "refuse", on_failure == "continue");
            daemon.stop();
        }
        let daemon = Started::new(&state, on_failure);
        std::fs::remove_file(&filler).unwrap();
        let mut kept = daemon.run(&["pub", "c", "again"]);
        while !kept.status.success() {
            // It tries every two seconds.
            std::thread::sleep(std::time::Duration::from_millis(100));
            kept = daemon.run(&["pub", "c", "again"]);
        }
        if on_failure == "refuse" {
            daemon.says(false, false);
        }
        daemon.stop();
        let daemon = Started::new(&state, on_failure);
        assert!(daemon.run(&["get", "a"]).status.success());
        if on_failure == "refuse" {
            assert!(daemon.run(&["get", "c"]).status.success());
        }
        daemon.stop();
    }
}

fn mount(path: &Path, how: &[&str]) {
    assert!(Command::new("mount").args(how).arg(path).status().unwrap().success());
}

// The file system is read-only when the daemon starts, and a file of the journal is damaged. It is set
// aside once that is possible.
fn read_only(disk: &Path) {
    let state = disk.join("read-only");
    let mut daemon = Started::new(&state, "refuse");
    for payload in ["first", "second", "third"] {
        assert!(daemon.run(&["pub", "a", payload]).status.success());
    }
    daemon.daemon.signal("KILL");
    daemon.daemon.child.wait().unwrap();
    let journal = state.join("weir/journal");
    let names = || {
        let entries = std::fs::read_dir(&journal).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let log = names().into_iter().filter(|name| name.starts_with("log")).max().unwrap();
    let mut bytes = std::fs::read(journal.join(&log)).unwrap();
    let at = bytes.windows(6).position(|text| text == b"second").unwrap();
    bytes[at] ^= 1;
    std::fs::write(journal.join(&log), &bytes).unwrap();
    mount(disk, &["-o", "remount,ro"]);
    let daemon = Started::new(&state, "refuse");
    assert_eq!(stdout(&daemon.run(&["get", "a"])).trim(), "third");
    let said = stderr(&daemon.run(&["pub", "a", "x"]));
    assert!(said.contains("journal cannot be written"), "{said}");
    mount(disk, &["-o", "remount,rw"]);
    while !daemon.run(&["pub", "a", "fourth"]).status.success() {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(names().contains(&format!("{log}.aside-1")), "{:?}", names());
    daemon.stop();
}

fn fill(path: &Path) {
    let block = vec![0; 4 << 10];
    let mut file = std::fs::File::create(path).unwrap();
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
}
