//! The file of a qlog, and the thread that writes it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

/// Maximum number of files in the directory, 16: 1 GiB in all. The daemon removes none, because only the
/// operator knows which are still needed.
pub(super) const MOST_FILES: usize = 16;

/// The file of a connection.
pub(super) struct Target {
    pub(super) directory: PathBuf,
    pub(super) name: String,
    pub(super) peer: SocketAddr,
}

/// The records that a file does not have.
#[derive(Debug, Default)]
pub(super) struct Missing {
    // The disk was too slow for them.
    pub(super) dropped: AtomicU64,
    // The file has its maximum size.
    pub(super) cut: AtomicBool,
}

/// Writes a file until its connection ends, and logs where it is.
pub(super) fn write(to: &Target, records: &Receiver<Vec<u8>>, missing: &Missing) {
    let Target { directory, name, peer } = to;
    let path = directory.join(name);
    let file = path.display();
    let created = match create(directory, &path) {
        Ok(created) => created,
        Err(error) => {
            tracing::warn!(%file, %peer, %error, "qlog: the connection is not recorded");
            return;
        }
    };
    tracing::info!(%file, %peer, "qlog: a connection is recorded");
    let (bytes, written) = copy(created, records);
    let dropped = missing.dropped.load(Ordering::Relaxed);
    if let Err(error) = written {
        tracing::warn!(%file, bytes, %error, "qlog: the file cannot be written, and ends here");
    } else if missing.cut.load(Ordering::Acquire) {
        tracing::warn!(%file, bytes, dropped, "qlog: the file was cut, at its maximum size");
    } else if dropped > 0 {
        tracing::warn!(%file, bytes, dropped, "qlog: the disk was too slow, and records are missing");
    } else {
        tracing::info!(%file, bytes, "qlog: the connection is gone, and its file is complete");
    }
}

fn create(directory: &Path, path: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if fs::read_dir(directory)?.count() >= MOST_FILES {
        let full = format!("its directory has {MOST_FILES} files: remove those that you have read");
        return Err(io::Error::new(io::ErrorKind::QuotaExceeded, full));
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

// Returns the number of bytes that were written.
fn copy(file: File, records: &Receiver<Vec<u8>>) -> (u64, io::Result<()>) {
    let (mut file, mut bytes) = (BufWriter::new(file), 0);
    while let Ok(record) = records.recv() {
        let mut next = Some(record);
        while let Some(record) = next {
            if let Err(error) = file.write_all(&record) {
                return (bytes, Err(error));
            }
            bytes += record.len() as u64;
            next = records.try_recv().ok();
        }
        // So that the file can be read while the connection goes on.
        if let Err(error) = file.flush() {
            return (bytes, Err(error));
        }
    }
    (bytes, Ok(()))
}
