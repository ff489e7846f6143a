//! Weir: a relay that caches, counts and repairs, for raw QUIC, WebTransport, WebSocket and HTTP on
//! one port number.
//!
//! | module | content | feature |
//! |---|---|---|
//! | [`engine`] | the decisions: topics, cache, counts, cursors; no I/O, no clock | always |
//! | [`wire`] | the protocol `weir/1`: frames, names, codes | always |
//! | [`Client`] | a native peer over raw QUIC, WebTransport or WebSocket | `client` |
//! | [`Daemon`] | the relay for your own tokio program, with HTTP and the page | `daemon` |
//! | [`access`] | who may do what: identities, rights, tokens | `daemon` |
//! | binary `weir` | the daemon and its tools on the command line | `cli` (default) |
//! | `weir bench` | the benchmarks of the binary | `bench` (default) |
//!
//! `docs/architecture.md` explains how the parts work together. `docs/protocol.md` specifies the
//! protocol for clients in other languages, and `docs/http.md` the HTTP face. `web/weir/` is the
//! client for browsers.
//!
//! # In a program of your own
//!
//! - **Errors.** Each operation has an error type of its own, whose variants can be matched and whose
//!   text is one line that says what to do. Refusals of the daemon have a [`Code`](wire::Code).
//! - **Nothing is global.** The library installs no subscriber of `tracing`, no cryptography provider of
//!   rustls, no metrics registry and no runtime. It logs through `tracing`, runs on the tokio runtime
//!   that calls it, and gives [metrics](daemon::Daemon::metrics) to a registry of yours. Daemons and
//!   clients in one process share nothing.
//! - **Secrets.** Tokens and keys are not in `Debug` output, nor in the texts of errors. Addresses are there as given,
//!   so that one with a password, which is refused, would be seen.
//! - **Growth.** Errors, options, limits, events and figures may grow, and are `#[non_exhaustive]`. Frames,
//!   and the inputs and outputs of an engine, are not: see [`wire`] and [`engine`].
//! - **Types of other crates** in the API are those of `bytes`, [`Stream`](futures_core::Stream), and
//!   `tokio::sync::watch`. With the feature `daemon` also `axum::Router` for
//!   [routes](daemon::Builder::routes), and `Collector` of `prometheus-client`. Their next major version
//!   is a breaking change here.
#![cfg_attr(
    not(feature = "daemon"),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "the page names parts that other features bring"
    )
)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::too_many_lines, reason = "tests panic, and tell stories")
)]

pub mod engine;
pub mod wire;

#[cfg(feature = "daemon")]
pub mod access;
#[cfg(feature = "bench")]
mod bench;
#[cfg(feature = "daemon")]
mod broker;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "cli")]
mod console;
#[cfg(feature = "daemon")]
pub mod daemon;
// Public for the program in tests/fuzz, and in no other build.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
// For the journal as well.
#[cfg(any(feature = "daemon", test, fuzzing))]
mod histogram;
#[cfg(feature = "daemon")]
mod http;
// Its tests need no daemon, and use a part of it.
#[cfg(any(feature = "daemon", test, fuzzing))]
#[cfg_attr(not(feature = "daemon"), allow(dead_code))]
mod journal;
#[cfg(feature = "daemon")]
mod json;
#[cfg(feature = "client")]
mod message;
#[cfg(feature = "client")]
mod net;
#[cfg(feature = "daemon")]
mod ops;
#[cfg(feature = "client")]
pub mod state;
#[cfg(feature = "client")]
mod tls;
#[cfg(feature = "cli")]
mod units;

#[cfg(feature = "client")]
pub use client::Client;
#[cfg(feature = "daemon")]
pub use daemon::Daemon;
#[cfg(feature = "client")]
pub use message::{
    Event, Gap, Interruption, Message, Ranking, Receipt, ResumePoint, Start, SubscribeOptions,
};
#[cfg(feature = "client")]
pub use net::transport::Transport;
#[cfg(feature = "client")]
pub use tls::{
    CertificateError, CertificateHash, CertificateHashError, CertificateHashes, CertificateProblem,
    TlsError, Trust,
};

#[cfg(all(doctest, feature = "cli"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "cli"))]
#[doc = include_str!("../docs/client.md")]
struct Clients;
