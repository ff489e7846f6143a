//! The engine and the wire codec decide purely: no runtime, no sockets, no clock, no shell.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// What neither may mention.
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
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        match path.is_dir() {
            _ if is_test => {}
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

/// The code of a file: without comments, and without the unit tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether `word` stands in `code` as a word of its own, or as the beginning of a path.
fn mentions(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// Modules of this crate that `code` names, as in `crate::wire` or `use crate::{engine, wire}`.
fn own_modules(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, path) in code.match_indices("crate::") {
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

fn trespasses(module: &str, allowed: &[&str], text: &str) -> Vec<String> {
    let code = code(text);
    let outside = OUTSIDE.iter().filter(|word| mentions(&code, word));
    let mut all: Vec<String> = outside.map(|word| (*word).to_owned()).collect();
    let own = own_modules(&code).into_iter();
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
fn the_check_sees_what_it_should() {
    let found = |text: &str| trespasses("engine", &["wire"], text);
    assert_eq!(found("use tokio::sync::Notify;"), ["tokio"]);
    assert_eq!(found("let now = std::time::Instant::now();"), ["std::time", "Instant"]);
    assert_eq!(found("use crate::{net::Link, wire};"), ["crate::net"]);
    assert_eq!(found("use crate::daemon::Daemon;"), ["crate::daemon"]);
    assert!(found("// tokio\nuse crate::wire::Code; // Instant").is_empty());
    assert!(found("let tokios = instant;\n#[cfg(test)]\nmod tests { use tokio; }").is_empty());
}
