//! The shell: sockets, TLS, streams and tasks. It moves bytes between peers and the
//! [engine](crate::engine), which decides. Nothing outside knows quinn, wtransport or tungstenite.
//!
//! | file | what |
//! |---|---|
//! | `link`, `stream` | one session over any transport, and its streams: the only files that know them all |
//! | `websocket` | a session on one channel: written by turns, taken apart, watched |
//! | `outbox` | what waits to be written to a stream, bounded |
//! | `socket` | the UDP socket and its buffers |
//! | `tls` | configurations, and how a peer's certificate is checked |
//! | `transport` | QUIC's settings, each with its reason |
//! | `congestion` | how much may be in flight |
//! | `core` | the engine behind its lock, and who to wake |
//! | `identity` | the daemon's certificates: made, kept, renewed while it runs |
//! | `ports` | one number for UDP and TCP |
//! | `doors` | what every way in shares: the engine, places for sessions, the stop |
//! | `endpoint` | the UDP side: accepting, and the split by ALPN |
//! | `session`, `frames` | one peer; its streams and datagrams, in |
//! | `incoming` | what has begun to come on a stream: its deadline, and its digest so far |
//! | `hold` | how much of frames that are not complete a session holds |
//! | `pace` | how fast something has to come that has begun to, over HTTP too |
//! | `follow` | a large message on its way to one peer |
//! | `deliver`, `apart`, `realtime` | one subscription, out: in order, a stream for each message, in datagrams |
//! | `marks` | how far a subscription has come, told from time to time |
//! | `piece`, `heads`, `streamed`, `path` | of the last: what was read; the end of a burst; what needs no repair; how long the way is |
//! | `datagrams`, `asked` | what comes in datagrams; the repairs among it |

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
