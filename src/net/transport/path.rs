//! The measured network path of a session.

use std::net::SocketAddr;
use std::time::Duration;

/// The path to the peer of a session. QUIC measures it; over WebSocket only the address is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathStats {
    /// The peer's address.
    pub address: SocketAddr,
    /// Smoothed round-trip time (RFC 9002, section 5.3).
    pub rtt: Option<Duration>,
    /// Size of the largest UDP payload that is known to pass, bytes. It begins with 1,200 and grows in
    /// the first round trips (RFC 8899).
    pub mtu: Option<u16>,
    /// Packets that were sent.
    pub sent_packets: Option<u64>,
    /// Packets of these that were lost, on the way there.
    pub lost_packets: Option<u64>,
}
