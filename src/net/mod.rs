//! Sockets, streams and tasks. This room moves bytes between peers and the
//! [broker](crate::broker), which calls the [engine](crate::engine). Only this room and the part of
//! the client that dials know quinn, wtransport and tungstenite.
//!
//! | room | what is in it |
//! |---|---|
//! | `error` | how connections and streams fail |
//! | `quic` | QUIC's settings with their reasons, congestion control, the UDP socket |
//! | `websocket` | a session on one channel: written by turns, taken apart, watched |
//! | `transport` | one session over any of the three, its streams, and what waits to be written |
//! | `delivery` | one subscription, out: in order, a stream for each message, in datagrams |
//! | `session` | one peer: its control stream, its publications, its datagrams |
//! | `bind` | one number for the UDP and the TCP port |
//! | `endpoint` | the UDP side: accepting, and the split by ALPN |

#[cfg(feature = "daemon")]
pub(crate) mod bind;
#[cfg(feature = "daemon")]
pub(crate) mod delivery;
#[cfg(feature = "daemon")]
pub(crate) mod endpoint;
pub(crate) mod error;
pub(crate) mod quic;
#[cfg(feature = "daemon")]
pub(crate) mod session;
pub(crate) mod transport;
pub(crate) mod websocket;

/// µs since 1970: the one place where the shell looks at the time of day.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}
