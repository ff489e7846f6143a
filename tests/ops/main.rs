//! Metrics and health: what they answer, when, and that every metric moves.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/http.rs"]
mod http;
#[path = "../common/lossy.rs"]
mod lossy;
#[path = "../common/raw.rs"]
mod raw;

mod files;
mod health;
mod listener;
mod lists;
mod moves;
mod stats;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
