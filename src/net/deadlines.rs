//! Default times that several transports and faces share. `docs/protocol.md` promises them to clients.

use std::time::Duration;

/// A session without any activity of its peer for this long ends, 30 s. A phone can change networks
/// in that time, and a daemon forgets dead sessions soon enough.
pub(crate) const IDLE: Duration = Duration::from_secs(30);

/// Maximum time for which a peer may leave what was sent to it unread, 30 s: as long as it may be
/// silent.
#[cfg(feature = "daemon")]
pub(crate) const UNREAD: Duration = IDLE;

/// Maximum time for each step before a session begins, 10 s: the handshake of QUIC or TLS, and then
/// the wait for the peer's hello.
#[cfg(feature = "daemon")]
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Maximum time for a goodbye to reach the peer, 1 s.
#[cfg(feature = "daemon")]
pub(crate) const LINGER: Duration = Duration::from_secs(1);
