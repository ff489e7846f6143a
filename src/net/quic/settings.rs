//! QUIC's settings (RFC 9000, section 18), each with its reason.

use super::congestion::MinWindowCubicConfig;
use quinn::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};
use std::sync::Arc;
use std::time::Duration;

/// A session that is not heard of for this long is over. Long enough for a phone to change
/// networks, short enough that a daemon forgets the dead.
const IDLE: Duration = Duration::from_secs(30);

/// How often a client says it is there when there is nothing else to say. Two chances within
/// [`IDLE`]; each wakes the daemon.
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(13);

/// The daemon's turn comes only with peers that do not keep themselves alive: browsers.
#[cfg(feature = "daemon")]
const DAEMON_KEEP_ALIVE: Duration = Duration::from_secs(14);

/// Unacknowledged bytes that a session may hold in the daemon, 2 MiB: what a slow subscriber can
/// pin beyond the cache. One stream takes no more than its reader allows, by default
/// [`CLIENT_STREAM_WINDOW`], so that one with a backlog leaves room for the others: who finds none
/// waits until the backlog is through, as whoever is woken first takes all that becomes free. For
/// large payloads there is more: see [`Connection::set_extra_send_window`](crate::net::transport::connection::Connection::set_extra_send_window).
#[cfg(feature = "daemon")]
pub(crate) const DAEMON_SEND_WINDOW: u64 = 2 << 20;

/// Unread bytes that a session may have in the daemon, over all its streams, once it has said hello:
/// 2 MiB. Two streams fill it, which is twice what one path is likely to need.
#[cfg(feature = "daemon")]
pub(crate) const DAEMON_RECEIVE_WINDOW: u32 = 2 << 20;

/// And before that, 256 KiB: a hello, and what may follow it in one breath. A sender that begins
/// slowly (RFC 9002, section 7.3.1) has sent less when the answer comes.
#[cfg(feature = "daemon")]
const FIRST_RECEIVE_WINDOW: u32 = 256 << 10;

/// Unread bytes on one of a session's streams, 1 MiB.
#[cfg(feature = "daemon")]
const DAEMON_STREAM_WINDOW: u32 = 1 << 20;

/// Unread bytes on one of a client's streams, 1 MiB: what a subscriber that does not read makes
/// the daemon send before its cursor begins to fall behind.
const CLIENT_STREAM_WINDOW: u32 = 1 << 20;

/// Streams that a peer may have open in the daemon at once: one for small publications, one for
/// each large one under way.
#[cfg(feature = "daemon")]
pub(crate) const DAEMON_UNI_STREAMS: u32 = 100;

/// Of these, those that it begins with; the others come with its second publishing stream under
/// way, a round trip later. quinn reserves memory for each, eagerly: 3 KiB for all of them, and for
/// these, with the bidirectional ones, half of one. Over WebTransport they all come at once: HTTP/3
/// takes three, and Firefox, once it has had to wait for one, waits for ever.
#[cfg(feature = "daemon")]
const FIRST_UNI_STREAMS: u32 = 6;

/// Streams that the daemon may have open in a client: one for each subscription, of which there
/// may be 256, and for each answer under way.
const CLIENT_UNI_STREAMS: u32 = 320;

/// One control stream; WebTransport needs its CONNECT stream and the browser's own besides.
#[cfg(feature = "daemon")]
const BI_STREAMS: u32 = 8;

/// Datagrams that wait to be sent, 32 KiB: beyond this the sender waits, and a cursor falls behind
/// instead. More would only grow old here.
pub(crate) const DATAGRAM_SEND_BUFFER: usize = 32 << 10;

/// Datagrams that wait to be read, 256 KiB; the oldest are dropped beyond this, as if lost.
const DATAGRAM_RECEIVE_BUFFER: usize = 256 << 10;

/// Packets that a peer may leave unacknowledged, for 25 ms at most, where both speak
/// draft-ietf-quic-ack-frequency: 8 rather than 1. An acknowledgement costs either end about as
/// much as a small message. What comes out of order is acknowledged at once as ever.
const UNACKNOWLEDGED: u32 = 8;

fn base() -> TransportConfig {
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements
        .ack_eliciting_threshold(UNACKNOWLEDGED.into())
        .reordering_threshold(VarInt::from_u32(1));
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .ack_frequency_config(Some(acknowledgements))
        .congestion_controller_factory(Arc::new(MinWindowCubicConfig::default()))
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER));
    config
}

/// The daemon's side.
#[cfg(feature = "daemon")]
pub(crate) fn daemon() -> TransportConfig {
    let mut config = base();
    config
        .max_concurrent_uni_streams(FIRST_UNI_STREAMS.into())
        .max_concurrent_bidi_streams(BI_STREAMS.into())
        .send_window(DAEMON_SEND_WINDOW)
        .receive_window(FIRST_RECEIVE_WINDOW.into())
        .stream_receive_window(DAEMON_STREAM_WINDOW.into())
        .keep_alive_interval(Some(DAEMON_KEEP_ALIVE));
    config
}

/// The client's side.
pub(crate) fn client() -> TransportConfig {
    let mut config = base();
    config
        .max_concurrent_uni_streams(CLIENT_UNI_STREAMS.into())
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .stream_receive_window(CLIENT_STREAM_WINDOW.into())
        .keep_alive_interval(Some(CLIENT_KEEP_ALIVE));
    config
}

#[cfg(all(test, feature = "daemon"))]
mod tests {
    use super::*;

    const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");
    const ARCHITECTURE: &str = include_str!("../../../docs/architecture.md");

    fn said(bytes: u64) -> String {
        match bytes {
            0..1_048_576 => format!("{} KiB", bytes >> 10),
            _ => format!("{} MiB", bytes >> 20),
        }
    }

    // The one row of a table that begins so.
    fn row<'a>(text: &'a str, begins: &str) -> &'a str {
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with(begins)).collect();
        assert_eq!(rows.len(), 1, "{begins}");
        rows[0]
    }

    #[test]
    fn the_windows_are_those_of_the_documents() {
        let send = said(DAEMON_SEND_WINDOW);
        let readme = row(CONFIGURATION, "| unacknowledged bytes held for one session");
        assert!(readme.ends_with(&format!("| {send} |")), "{send}: {readme}");
        let architecture = row(ARCHITECTURE, "| sent to one peer, not acknowledged");
        assert!(architecture.contains(&format!("send window, {send},")), "{send}: {architecture}");

        let first = said(FIRST_RECEIVE_WINDOW.into());
        let (receive, stream) =
            (said(DAEMON_RECEIVE_WINDOW.into()), said(DAEMON_STREAM_WINDOW.into()));
        let readme = row(CONFIGURATION, "| unread bytes of one peer");
        let expected = format!("| QUIC {receive}, {first} before its hello; WebSocket 80 KiB |");
        assert!(readme.ends_with(&expected), "{expected}: {readme}");
        let architecture = row(ARCHITECTURE, "| unread from one peer");
        let expected = format!("QUIC {first} before its hello, then {receive}, {stream} a stream");
        assert!(architecture.contains(&expected), "{expected}: {architecture}");
    }
}
