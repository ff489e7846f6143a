//! One session over any transport, and its streams.

pub(crate) mod connection;
pub(crate) mod outbox;
pub(crate) mod path;
pub(crate) mod stream;

use std::fmt;

/// How a session is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// QUIC streams, ALPN `weir/1`.
    Quic,
    /// WebTransport over HTTP/3, path `/weir`.
    WebTransport,
    /// WebSocket over TLS and TCP, path `/weir`. One channel carries everything.
    WebSocket,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::WebTransport => "webtransport",
            Self::WebSocket => "websocket",
        })
    }
}
