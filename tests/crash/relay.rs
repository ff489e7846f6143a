//! A daemon that ends and starts again, on the same ports and with the same state.

use crate::common::Served;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use weir::client::Builder;
use weir::{Client, Transport, Trust};

/// How a daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Kill,
    Stop,
}

/// What clients have to know.
#[derive(Debug, Clone)]
pub struct Target {
    pub listen: SocketAddr,
    /// The address for raw QUIC and WebTransport.
    pub udp: SocketAddr,
    pub http: SocketAddr,
    pub hash: String,
}

impl Target {
    pub fn builder(&self, transport: Transport) -> Builder {
        let address = if transport == Transport::WebSocket { self.listen } else { self.udp };
        let trust = Trust::Pinned(self.hash.parse().unwrap());
        Client::builder(address.to_string()).trust(trust).transport(transport)
    }

    pub async fn client(&self, transport: Transport) -> Client {
        // Others may be killing the daemon.
        self.builder(transport).wait(true).connect().await.unwrap()
    }
}

/// What a life of a daemon takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// KiB.
    pub rss: u64,
    pub descriptors: u64,
    pub threads: u64,
    /// Files in the state directory, and their bytes together.
    pub files: u64,
    pub bytes: u64,
}

pub struct Relay {
    state: TempDir,
    environment: Vec<(&'static str, String)>,
    served: Option<Served>,
    pub target: Target,
    /// Number of this life, from 1.
    pub life: u64,
}

impl Relay {
    pub fn start(environment: &[(&'static str, &str)]) -> Self {
        Self::start_in(&std::env::temp_dir(), environment)
    }

    /// The same with the state in another directory.
    pub fn start_in(place: &Path, environment: &[(&'static str, &str)]) -> Self {
        let state = tempfile::tempdir_in(place).unwrap();
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let served = serve(state.path(), "127.0.0.1:0", "127.0.0.1:0", &environment);
        let (listen, http) = (served.server.parse().unwrap(), served.http.unwrap());
        let target = Target { listen, udp: listen, http, hash: served.hash.clone() };
        Self { state, environment, served: Some(served), target, life: 1 }
    }

    /// Ends this daemon.
    pub fn end(&mut self, how: End) {
        let mut served = self.served.take().unwrap();
        served.signal(if how == End::Kill { "KILL" } else { "TERM" });
        let status = served.child.wait().unwrap();
        assert!(how == End::Kill || status.success(), "{status}");
    }

    /// Starts the next one.
    pub fn begin(&mut self) {
        let Target { listen, http, .. } = &self.target;
        let (listen, http) = (listen.to_string(), http.to_string());
        self.served = Some(serve(self.state.path(), &listen, &http, &self.environment));
        self.life += 1;
    }

    pub fn figures(&self) -> Figures {
        let served = self.served.as_ref().unwrap();
        let descriptors = format!("/proc/{}/fd", served.child.id());
        let status = std::fs::read_to_string(format!("/proc/{}/status", served.child.id()));
        let status = status.unwrap();
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
        let (files, bytes) = usage(self.state.path());
        Figures {
            rss: served.kib("VmRSS:"),
            descriptors: std::fs::read_dir(descriptors).unwrap().count() as u64,
            threads: threads.trim().parse().unwrap(),
            files,
            bytes,
        }
    }
}

fn serve(state: &Path, listen: &str, http: &str, more: &[(&str, String)]) -> Served {
    let mut environment = vec![("WEIR_DRAIN", "1s")];
    environment.extend(more.iter().map(|(name, value)| (*name, &**value)));
    Served::start_at(listen, state, &["--http", http], &environment)
}

// A file may be removed while the directory is read.
fn usage(directory: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    let mut left: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => left.push(entry.path()),
                Ok(metadata) => sum = (sum.0 + 1, sum.1 + metadata.len()),
                Err(_) => {}
            }
        }
    }
    sum
}
