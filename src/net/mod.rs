//! Sockets, streams and tasks. This room moves bytes between peers and the
//! [broker](crate::broker), which calls the [engine](crate::engine). Only this room and the part of
//! the client that dials know quinn, wtransport and tungstenite.
//!
//! | room | what is in it |
//! |---|---|
//! | `error` | how connections and streams fail |
//! | `deadlines` | times that several transports and faces share |
//! | `quic` | QUIC's settings with their reasons, congestion control, the UDP socket |
//! | `websocket` | a session on one channel: written in turn, split into streams, watched |
//! | `transport` | one session over any of the three, its streams, and its outbox |
//! | `delivery` | sends one subscription: in order, a stream for each message, in datagrams |
//! | `session` | one peer: its control stream, its publications, its datagrams |
//! | `qlog` | records one connection, for an operator |
//! | `bind` | one number for the UDP and the TCP port |
//! | `endpoint` | the UDP endpoint: accepts connections, and tells protocols apart by ALPN |

#[cfg(feature = "daemon")]
pub(crate) mod bind;
pub(crate) mod deadlines;
#[cfg(feature = "daemon")]
pub(crate) mod delivery;
#[cfg(feature = "daemon")]
pub(crate) mod endpoint;
pub(crate) mod error;
#[cfg(feature = "daemon")]
pub(crate) mod qlog;
pub(crate) mod quic;
#[cfg(feature = "daemon")]
pub(crate) mod session;
pub(crate) mod transport;
pub(crate) mod websocket;

/// The time of day, µs since 1970, as the engine gets it.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}
