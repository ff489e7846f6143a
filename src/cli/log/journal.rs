//! The journal of systemd, in its own protocol: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL>.
//!
//! A record has the same line in `MESSAGE` that the text has, so that `journalctl` shows all of it, and
//! each field by itself as `WEIR_…`, for searches.

use crate::console::terminal;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The socket of the journal.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Maximum size of a value, 8 KiB. The rest is left out. A record then fits into a datagram, whose
/// usual limit is 208 KiB.
const VALUE: usize = 8 << 10;

/// Maximum length of a field's name.
const NAME: usize = 64;

/// Returns whether standard error goes to the journal. systemd names its file in `JOURNAL_STREAM`. A
/// process whose standard error goes elsewhere may inherit the variable, so that the files are compared.
pub(super) fn is_standard_error() -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let file = io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    let here = file.and_then(|file| file.metadata()).ok();
    named.zip(here).is_some_and(|(named, here)| named == format!("{}:{}", here.dev(), here.ino()))
}

/// The journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    pub(super) fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // The journal ignores an empty datagram.
        socket.send_to(&[], path)?;
        Ok(Self { socket, path: path.into() })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let priority = match *metadata.level() {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        let message = fields.line();
        let mut record = Vec::new();
        put(&mut record, "MESSAGE", &message);
        put(&mut record, "PRIORITY", priority);
        put(&mut record, "SYSLOG_IDENTIFIER", "weir");
        put(&mut record, "TARGET", metadata.target());
        if let Some((file, line)) = metadata.file().zip(metadata.line()) {
            put(&mut record, "CODE_FILE", file);
            put(&mut record, "CODE_LINE", &line.to_string());
        }
        for (name, value) in &fields.others {
            put(&mut record, &name_of(name), value);
        }
        if let Err(error) = self.socket.send_to(&record, &self.path) {
            // Standard error is a way to the journal too. Without it, nobody reads it.
            let _ = writeln!(terminal::LogLines, "{message} ({error} at {})", self.path.display());
        }
    }
}

/// The fields of a record, as text on one line.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn line(&self) -> String {
        let mut line = self.message.clone();
        for (name, value) in &self.others {
            // It cannot fail, because a string has room.
            let _ = write!(line, " {name}={value}");
        }
        line
    }

    fn add(&mut self, field: &Field, value: &str) {
        let mut value = terminal::line(value).into_owned();
        if let Some((end, _)) = value.char_indices().find(|(at, c)| at + c.len_utf8() > VALUE) {
            value.truncate(end);
        }
        match field.name() {
            "message" => self.message = value,
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

// The name of a field in the journal: capital letters, digits and underscores.
fn name_of(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name = name.strip_prefix("r#").unwrap_or(name);
    format!("WEIR_{name}").chars().map(letter).take(NAME).collect()
}

// Appends a field in the form that is safe for every value: name, size, value.
fn put(record: &mut Vec<u8>, name: &str, value: &str) {
    record.extend_from_slice(name.as_bytes());
    record.push(b'\n');
    record.extend_from_slice(&(value.len() as u64).to_le_bytes());
    record.extend_from_slice(value.as_bytes());
    record.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// Reads a record as the journal does.
    fn read(mut record: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while !record.is_empty() {
            let end = record.iter().position(|byte| *byte == b'\n').unwrap();
            let name = String::from_utf8(record[..end].to_vec()).unwrap();
            let (size, rest) = record[end + 1..].split_first_chunk().unwrap();
            let (value, rest) = rest.split_at(u64::from_le_bytes(*size) as usize);
            fields.push((name, String::from_utf8(value.to_vec()).unwrap()));
            assert_eq!(rest[0], b'\n');
            record = &rest[1..];
        }
        fields
    }

    #[test]
    fn a_record_has_the_whole_line_and_each_field_and_peers_forge_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(Journal::at(&path).is_err());
        let socket = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        let mut bytes = vec![0; 64 << 10];
        assert_eq!(socket.recv(&mut bytes).unwrap(), 0);
        let attack = "a\nPRIORITY=0\n\u{1b}[2J";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), || {
            tracing::warn!(reason = attack, number = 7, long = "ö".repeat(VALUE), "it failed");
        });
        let size = socket.recv(&mut bytes).unwrap();
        let fields = read(&bytes[..size]);
        let get = |name: &str| {
            let found: Vec<_> = fields.iter().filter(|field| field.0 == name).collect();
            assert_eq!(found.len(), 1, "{name}");
            &*found[0].1
        };
        assert!(get("MESSAGE").starts_with("it failed reason=a·PRIORITY=0··[2J number=7 long=ö"));
        assert_eq!((get("PRIORITY"), get("SYSLOG_IDENTIFIER")), ("4", "weir"));
        assert_eq!((get("WEIR_REASON"), get("WEIR_NUMBER")), ("a·PRIORITY=0··[2J", "7"));
        assert_eq!(get("WEIR_LONG").len(), VALUE);
        assert!(get("CODE_FILE").ends_with("journal.rs"));
    }
}
