//! Limits of peers: sessions, connections and handshakes of one address, and how fast a peer may send
//! and be sent. Each limit is reached, and others are not concerned.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod addresses;
mod at_once;
mod buffers;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/h2.rs"]
mod h2;
#[path = "../common/http.rs"]
mod http;
mod over_http;
mod publishing;
#[path = "../common/raw.rs"]
mod raw;
mod reloading;
mod replay;
mod together;
mod websocket;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use weir::Daemon;
use weir::daemon::{Limit, PeerLimits};
use weir::wire::ClientFrame;

pub const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An address of a peer. The system has all of 127.0.0.0/8.
pub fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, n)
}

/// Starts a daemon for which loopback addresses are like any other.
async fn daemon(change: impl FnOnce(&mut PeerLimits)) -> Daemon {
    let mut limits = PeerLimits::default();
    limits.exempt.clear();
    change(&mut limits);
    Daemon::builder().listen(ANY).http(ANY).peers(limits).spawn().await.unwrap()
}

pub fn count(daemon: &Daemon, limit: Limit) -> u64 {
    daemon.limit_counts().get(limit)
}

pub fn publish(alias: u32, number: u64, payload: &[u8]) -> ClientFrame<'_> {
    ClientFrame::Publish { alias, number, stamp: 0, payload }
}
