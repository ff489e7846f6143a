//! Fuzz target: files of certificates and keys, and certificates that a peer sends.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "targets for a fuzzer, not a part of the daemon"
)]

use super::info::{self, CertificateInfo};
use super::pem;
use crate::fuzz::Script;
use std::path::Path;
use time::OffsetDateTime;

/// Any text is certificates and a key, or is refused with a reason; any bytes are a certificate, or are
/// refused. The first byte says which of the two the rest is.
pub(crate) fn certificates(data: &[u8]) {
    let mut script = Script::new(data);
    if script.chance(2) {
        return certificate(script.rest());
    }
    let text = String::from_utf8_lossy(script.rest());
    let found = pem::certificates(&text);
    for der in found.iter().flatten() {
        certificate(der);
    }
    if let Err(problem) = &found {
        assert!(!problem.to_string().is_empty());
    }
    let key = pem::private_key(&text);
    if found.is_ok() && key.is_ok() {
        let path = Path::new("pair.pem");
        if let Err(error) = pem::certified([path, path], [&text, &text]) {
            assert!(error.to_string().starts_with("pair.pem"));
        }
    }
}

fn certificate(der: &[u8]) {
    if let Ok(info) = CertificateInfo::of(der) {
        let [from, until] = [info.from, info.until].map(info::utc);
        assert!(from.ends_with('Z') && until.ends_with('Z'));
        let _ = info.check_valid(OffsetDateTime::UNIX_EPOCH);
        assert!(!info.is_pinned() || info.until - info.from <= info::MAX_PINNED);
    }
    assert!(info::peer_name(der).is_none_or(|name| !name.is_empty()));
}
