//! The time of a scrape of the metrics.

use crate::bench::stats::Sorted;
use anyhow::ensure;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Number of scrapes.
const SCRAPES: usize = 50;

/// Time between two of them: collectors scrape every few seconds, and so the daemon has nothing warm.
const PAUSE: Duration = Duration::from_millis(100);

/// Scrapes the metrics again and again. Returns the times, ns, each with its connection.
pub(super) fn times(ops: SocketAddr) -> anyhow::Result<Sorted> {
    let mut times = Vec::with_capacity(SCRAPES);
    for _ in 0..SCRAPES {
        std::thread::sleep(PAUSE);
        let begun = Instant::now();
        let mut stream = TcpStream::connect(ops)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {ops}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        times.push(begun.elapsed().as_nanos() as u64);
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "the daemon refuses a scrape");
    }
    Ok(Sorted::new(times))
}
