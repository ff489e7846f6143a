//! Files of keys.

use crate::access::MAX_TOKEN;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Reads a file of at most `most` bytes and one more, by which it is too large.
pub(super) fn read(file: &Path, most: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let opened = File::open(file).with_context(|| file.display().to_string())?;
    let read = opened.take(most as u64 + 1).read_to_end(&mut bytes);
    read.with_context(|| file.display().to_string())?;
    Ok(bytes)
}

/// Makes a file that does not exist yet.
pub(super) fn create(file: &Path, mode: u32) -> anyhow::Result<File> {
    let created = OpenOptions::new().write(true).create_new(true).mode(mode).open(file);
    created.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => anyhow::anyhow!(
            "{} exists, and is left as it is: name a new file, or remove this one",
            file.display()
        ),
        _ => anyhow::Error::new(error).context(file.display().to_string()),
    })
}

/// Makes a file of a token that only its owner can read, or replaces an earlier token. Anything else that
/// has the name is left as it is, a key above all.
pub(super) fn write_token(file: &Path, token: &str) -> anyhow::Result<()> {
    if let Ok(facts) = std::fs::symlink_metadata(file) {
        let before = if facts.is_file() { read(file, MAX_TOKEN)? } else { Vec::new() };
        anyhow::ensure!(
            facts.is_file() && is_like_a_token(&before),
            "{} exists, is no token, and is left as it is: name another file",
            file.display()
        );
    }
    let mut name = file.file_name().context("name a file")?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = file.with_file_name(name);
    let mut made = create(&beside, 0o600)?;
    let replaced = made
        .write_all(format!("{token}\n").as_bytes())
        .and_then(|()| made.sync_all())
        .and_then(|()| std::fs::rename(&beside, file));
    if replaced.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    replaced.with_context(|| file.display().to_string())
}

// Whether these may be the bytes of a token: three parts in base64url.
fn is_like_a_token(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let parts = text.split(|byte| *byte == b'.');
    // The first part is the header, which names the algorithm.
    let header = parts.clone().next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let header = header.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    parts.clone().count() == 3
        && parts.flatten().all(plain)
        && header.is_some_and(|header| header["alg"].is_string())
}

/// Warns if not only the owner can read a private key.
pub(super) fn warn_of_readers(file: &Path) {
    let mode = std::fs::metadata(file).map(|facts| facts.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        let file = file.display();
        tracing::warn!("others on this machine can read {file}: chmod 600 {file}");
    }
}
