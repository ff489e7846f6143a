//! The imports that each room of `src` may have, and the names that the engine and the wire codec
//! may mention. Both are pure: no runtime, no sockets, no clock, no shell.
#![allow(clippy::unwrap_used)]

mod circles;

use std::fs;
use std::path::{Path, PathBuf};

/// Names that neither may mention.
const OUTSIDE: &[&str] = &[
    "axum",
    "quinn",
    "rustls",
    "tokio",
    "tracing",
    "wtransport",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::time",
    "Instant",
    "SystemTime",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Tests, and the targets of fuzzing, may use everything.
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests" || stem == "fuzz");
        match path.is_dir() {
            _ if is_test => {}
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

/// Returns the code of a file without comments and without the unit tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether `word` occurs in `code` as a whole word or as the start of a path.
fn mentions(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// The rooms of `src`, from the lowest floor to the highest, and the rooms that each may import,
/// which are before it in this table. `docs/architecture.md` has the same table.
const ROOMS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("histogram", &[]),
    ("state", &[]),
    ("units", &[]),
    ("json", &["wire"]),
    ("message", &["wire"]),
    ("engine", &["wire"]),
    ("access", &["wire"]),
    ("tls", &["state", "wire"]),
    ("journal", &["engine", "histogram", "wire"]),
    ("broker", &["access", "engine", "histogram", "journal", "wire"]),
    ("net", &["access", "broker", "engine", "histogram", "journal", "tls", "wire"]),
    ("client", &["message", "net", "state", "tls", "wire"]),
    ("http", &["access", "broker", "engine", "json", "net", "tls", "wire"]),
    ("ops", &["access", "broker", "engine", "histogram", "http", "journal", "net", "tls", "wire"]),
    (
        "daemon",
        &["access", "broker", "engine", "http", "journal", "message", "net", "ops", "tls", "wire"],
    ),
    ("config", &["access", "daemon", "engine", "units", "wire"]),
    ("console", &["client", "json", "message", "wire"]),
    ("bench", &["client", "console", "message", "net", "tls", "units", "wire"]),
    (
        "cli",
        &[
            "access", "bench", "client", "config", "console", "daemon", "message", "net", "state",
            "tls", "units", "wire",
        ],
    ),
];

/// The same within `net`.
const NET: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("deadlines", &[]),
    ("quic", &["deadlines"]),
    ("websocket", &["deadlines", "error"]),
    ("transport", &["error", "quic", "websocket"]),
    ("delivery", &["error", "quic", "transport"]),
    ("session", &["deadlines", "delivery", "error", "transport"]),
    ("qlog", &[]),
    ("bind", &["quic"]),
    ("endpoint", &["bind", "deadlines", "qlog", "quic", "session", "transport"]),
];

/// The same for the files of `client`, which form no circle.
const CLIENT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("datagram_queue", &[]),
    ("delivery_stats", &[]),
    ("reassembly", &[]),
    ("message_stream", &["error", "reassembly"]),
    ("in_flight", &["error"]),
    ("reconnect", &["error"]),
    ("dial", &["error"]),
    ("session_state", &["datagram_queue", "dial", "error", "in_flight", "message_stream"]),
    ("shown", &[]),
    ("progress", &["error", "shown"]),
    ("token", &["error"]),
    ("shared", &["error", "in_flight", "reconnect", "session_state", "token"]),
    ("handle", &["error", "reconnect", "session_state", "shared"]),
    ("request", &["error", "handle", "message_stream", "reassembly", "session_state"]),
    ("renew", &["error", "request", "session_state", "token"]),
    ("upload", &["error", "in_flight", "session_state", "shared"]),
    ("publish", &["error", "handle", "in_flight", "shared"]),
    ("publish_realtime", &["error", "handle", "in_flight", "publish", "session_state", "shared"]),
    ("ordered", &["error", "message_stream", "progress", "reassembly", "shown"]),
    (
        "unordered",
        &[
            "datagram_queue",
            "delivery_stats",
            "error",
            "message_stream",
            "progress",
            "reassembly",
            "session_state",
            "shown",
        ],
    ),
    ("subscribing", &["datagram_queue", "error", "request", "session_state"]),
    (
        "subscription",
        &[
            "datagram_queue",
            "delivery_stats",
            "error",
            "handle",
            "message_stream",
            "ordered",
            "progress",
            "session_state",
            "subscribing",
            "unordered",
        ],
    ),
    (
        "driver",
        &[
            "error",
            "in_flight",
            "message_stream",
            "publish_realtime",
            "renew",
            "request",
            "session_state",
            "shared",
            "upload",
        ],
    ),
    ("builder", &["handle", "in_flight", "reconnect", "token"]),
    ("connect", &["builder", "dial", "error", "session_state"]),
    ("presented", &["connect", "dial", "error"]),
    (
        "supervisor",
        &[
            "builder",
            "connect",
            "driver",
            "error",
            "handle",
            "in_flight",
            "reconnect",
            "session_state",
            "shared",
        ],
    ),
];

/// The exports of `lib.rs`, and the room of each.
const EXPORTS: &[(&str, &str)] = &[
    ("Client", "client"),
    ("Daemon", "daemon"),
    ("Event", "message"),
    ("Gap", "message"),
    ("Interruption", "message"),
    ("Message", "message"),
    ("ResumePoint", "message"),
    ("Start", "message"),
    ("SubscribeOptions", "message"),
    ("Transport", "net"),
    ("CertificateError", "tls"),
    ("CertificateHash", "tls"),
    ("CertificateHashError", "tls"),
    ("CertificateHashes", "tls"),
    ("CertificateProblem", "tls"),
    ("TlsError", "tls"),
    ("Trust", "tls"),
];

/// Returns the room of a file below `root`: the first part of its path, without the extension.
fn room<'a>(root: &Path, file: &'a Path) -> &'a str {
    let part = file.strip_prefix(root).unwrap().components().next().unwrap();
    part.as_os_str().to_str().unwrap().trim_end_matches(".rs")
}

/// Returns the names that `code` imports from `base`, as in `crate::wire` or `use crate::{engine,
/// wire}`.
fn imports<'a>(code: &'a str, base: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, path) in code.match_indices(base) {
        let rest = code[at + path.len()..].trim_start();
        let list = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
        let names = list.unwrap_or(rest).split(',').take(if list.is_some() { 99 } else { 1 });
        found.extend(names.filter_map(|name| {
            let name = name.trim_start();
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
            Some(&name[..end.unwrap_or(name.len())]).filter(|name| !name.is_empty())
        }));
    }
    found
}

/// Checks every file below `folder` against a table, and prints the imports between its rooms.
fn check_rooms(folder: &str, base: &str, table: &[(&str, &[&str])]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    for (at, (name, may)) in table.iter().enumerate() {
        let below = |other: &&str| table[..at].iter().any(|(lower, _)| lower == other);
        assert!(may.iter().all(below), "{name} may import only what stands below");
    }
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut arrows = std::collections::BTreeMap::new();
    for file in &files {
        let from = room(&root, file);
        let Some((_, may)) = table.iter().find(|(name, _)| *name == from) else {
            let known = ["lib", "main", "mod"].contains(&from);
            assert!(known, "{}: a room that the table does not have", file.display());
            continue;
        };
        let text = fs::read_to_string(file).unwrap();
        let code = code(&text);
        // A file may also import another room through `super`.
        let folders = file.strip_prefix(&root).unwrap().components().count() - 1;
        let depth = if file.ends_with("mod.rs") { folders } else { folders + 1 };
        let neighbour = &*"super::".repeat(depth);
        for name in [base, neighbour].into_iter().flat_map(|base| imports(&code, base)) {
            let export = EXPORTS.iter().find(|(export, _)| *export == name);
            let to = export.map_or(name, |(_, room)| room);
            if to == from || !table.iter().any(|(name, _)| *name == to) {
                continue;
            }
            assert!(
                may.contains(&to),
                "{} may not import {to}: see the table in tests/layering/",
                file.display()
            );
            *arrows.entry((from, to.to_owned())).or_insert(0) += 1;
        }
    }
    println!("{folder}: {} files, {} arrows between rooms, none back", files.len(), arrows.len());
    for ((from, to), imports) in arrows {
        println!("  {from} -> {to}: {imports}");
    }
}

#[test]
fn each_room_imports_only_rooms_below_it() {
    check_rooms("src", "crate::", ROOMS);
    check_rooms("src/net", "crate::net::", NET);
    check_rooms("src/client", "crate::client::", CLIENT);
}

fn trespasses(module: &str, allowed: &[&str], text: &str) -> Vec<String> {
    let code = code(text);
    let outside = OUTSIDE.iter().filter(|word| mentions(&code, word));
    let mut all: Vec<String> = outside.map(|word| (*word).to_owned()).collect();
    let own = imports(&code, "crate::").into_iter();
    let own = own.filter(|name| *name != module && !allowed.contains(name));
    all.extend(own.map(|name| format!("crate::{name}")));
    all
}

fn check(module: &str, allowed: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(module);
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 3, "no sources below {}", root.display());
    for file in files {
        let found = trespasses(module, allowed, &fs::read_to_string(&file).unwrap());
        assert!(
            found.is_empty(),
            "{} may not use {}: time is an argument, and I/O is the shell's (docs/architecture.md)",
            file.display(),
            found.join(", ")
        );
    }
}

#[test]
fn the_engine_uses_nothing_but_the_wire() {
    check("engine", &["wire"]);
}

#[test]
fn the_wire_uses_nothing_of_ours() {
    check("wire", &[]);
}

#[test]
fn the_check_finds_forbidden_imports() {
    let found = |text: &str| trespasses("engine", &["wire"], text);
    assert_eq!(found("use tokio::sync::Notify;"), ["tokio"]);
    assert_eq!(found("let now = std::time::Instant::now();"), ["std::time", "Instant"]);
    assert_eq!(found("use crate::{net::Link, wire};"), ["crate::net"]);
    assert_eq!(found("use crate::daemon::Daemon;"), ["crate::daemon"]);
    assert!(found("// tokio\nuse crate::wire::Code; // Instant").is_empty());
    assert!(found("let tokios = instant;\n#[cfg(test)]\nmod tests { use tokio; }").is_empty());
}
