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

pub(crate) mod congestion;
pub(crate) mod link;
pub(crate) mod outbox;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod transport;
pub(crate) mod websocket;

#[cfg(feature = "daemon")]
pub(crate) mod apart;
#[cfg(feature = "daemon")]
pub(crate) mod asked;
#[cfg(feature = "daemon")]
pub(crate) mod core;
#[cfg(feature = "daemon")]
pub(crate) mod datagrams;
#[cfg(feature = "daemon")]
pub(crate) mod deliver;
#[cfg(feature = "daemon")]
pub(crate) mod doors;
#[cfg(feature = "daemon")]
pub(crate) mod endpoint;
#[cfg(feature = "daemon")]
pub(crate) mod failure;
#[cfg(feature = "daemon")]
pub(crate) mod follow;
#[cfg(feature = "daemon")]
pub(crate) mod frames;
#[cfg(feature = "daemon")]
pub(crate) mod heads;
#[cfg(feature = "daemon")]
pub(crate) mod hold;
#[cfg(feature = "daemon")]
pub(crate) mod identity;
#[cfg(feature = "daemon")]
pub(crate) mod incoming;
#[cfg(feature = "daemon")]
pub(crate) mod marks;
#[cfg(feature = "daemon")]
pub(crate) mod pace;
#[cfg(feature = "daemon")]
pub(crate) mod path;
#[cfg(feature = "daemon")]
pub(crate) mod piece;
#[cfg(feature = "daemon")]
pub(crate) mod ports;
#[cfg(feature = "daemon")]
pub(crate) mod realtime;
#[cfg(feature = "daemon")]
pub(crate) mod session;
#[cfg(feature = "daemon")]
pub(crate) mod streamed;

/// µs since 1970: the one place where the shell looks at the time of day.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}
