//! A qlog of one connection over QUIC: its packets, losses, round trips and windows, for an operator who
//! looks into one peer's trouble. It has no payloads, names or tokens.
//!
//! The format is JSON-SEQ (RFC 7464), as `draft-ietf-quic-qlog-main-schema` has it. quinn makes the records
//! in the connection's task. A bounded queue takes them to a thread, which writes them. With a slow disk,
//! records are dropped and counted, and the connection does not wait.

mod file;
#[cfg(test)]
mod tests;

use file::Missing;
use quinn::{QlogConfig, QlogStream};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Maximum size of a file, 64 MiB. A packet takes about 180 bytes, so that this is about 370,000 packets.
const MOST_BYTES: u64 = 64 << 20;

/// Maximum number of records that wait for the disk, 4,096: less than 1 MiB.
const QUEUE: usize = 4096;

/// The name of the directory below that of the state.
const DIRECTORY: &str = "qlog";

/// Records the next connection of an address, once for each request.
#[derive(Debug)]
pub(crate) struct Recorder {
    // None without a directory for the state. Then nothing is requested.
    directory: Option<PathBuf>,
    wanted: Mutex<Option<IpAddr>>,
}

impl Recorder {
    pub(crate) fn new(state: Option<&Path>) -> Self {
        let directory = state.map(|state| state.join(DIRECTORY));
        Self { directory, wanted: Mutex::default() }
    }

    /// Returns whether there is a place for recordings.
    pub(crate) fn has_directory(&self) -> bool {
        self.directory.is_some()
    }

    /// Records the next connection of an address, in place of one that was requested before.
    pub(crate) fn record_next(&self, address: Option<IpAddr>) {
        let wanted = address.map(|address| address.to_canonical());
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
    }

    // Returns whether this connection is the one, which ends the request.
    fn take(&self, address: IpAddr) -> bool {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.take_if(|wanted| *wanted == address.to_canonical()).is_some()
    }

    /// Returns where a connection is recorded, if it is the requested one.
    pub(super) fn begin(&self, incoming: &quinn::Incoming) -> Option<QlogStream> {
        let peer = incoming.remote_address();
        if !self.take(peer.ip()) {
            return None;
        }
        // The name that other tools use, too: the destination that the client has chosen for its first
        // packet. It is hexadecimal.
        let name = format!("{}.sqlog", incoming.orig_dst_cid());
        self.record(&name, peer)
    }

    fn record(&self, name: &str, peer: SocketAddr) -> Option<QlogStream> {
        let directory = self.directory.clone()?;
        let (queue, records) = sync_channel(QUEUE);
        let missing = Arc::<Missing>::default();
        let to = file::Target { directory, name: name.to_owned(), peer };
        let (shared, thread) = (missing.clone(), std::thread::Builder::new().name("qlog".into()));
        if let Err(error) = thread.spawn(move || file::write(&to, &records, &shared)) {
            tracing::warn!(%error, "qlog: no thread, and the connection is not recorded");
            return None;
        }
        let mut config = QlogConfig::default();
        config
            .writer(Box::new(Writer::new(queue, missing, MOST_BYTES)))
            .title(Some(format!("weir {}", env!("CARGO_PKG_VERSION"))))
            .description(Some(description(peer)));
        config.into_stream()
    }
}

// quinn's records have times since the first one.
fn description(peer: SocketAddr) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("the daemon's end; peer {peer}; time 0 is {} ms after 1970", now.as_millis())
}

/// Collects each record, and puts it into the queue.
struct Writer {
    // None once the file is full. Then the thread ends.
    queue: Option<SyncSender<Vec<u8>>>,
    missing: Arc<Missing>,
    record: Vec<u8>,
    left: u64,
}

impl Writer {
    fn new(queue: SyncSender<Vec<u8>>, missing: Arc<Missing>, most: u64) -> Self {
        Self { queue: Some(queue), missing, record: Vec::new(), left: most }
    }

    fn put(&mut self) {
        let record = std::mem::take(&mut self.record);
        let Some(queue) = &self.queue else { return };
        let Some(left) = self.left.checked_sub(record.len() as u64) else {
            self.missing.cut.store(true, Ordering::Release);
            self.queue = None;
            return;
        };
        match queue.try_send(record) {
            Ok(()) => self.left = left,
            Err(TrySendError::Full(_)) => {
                self.missing.dropped.fetch_add(1, Ordering::Relaxed);
            }
            // The thread could not write, and has said so.
            Err(TrySendError::Disconnected(_)) => self.queue = None,
        }
    }
}

impl io::Write for Writer {
    // Never fails: quinn would log a warning for each packet.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.queue.is_some() {
            self.record.extend_from_slice(bytes);
            // Only a record's end has a line end. In JSON it is escaped.
            if bytes.ends_with(b"\n") {
                self.put();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
