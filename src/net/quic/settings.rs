//! QUIC's settings (RFC 9000, section 18), each with its reason.

use super::congestion::MinWindowCubicConfig;
use crate::net::deadlines::IDLE;
use quinn::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};
use std::sync::Arc;
use std::time::Duration;

/// Interval of a client's keep-alive packets while nothing else is sent. Two fit into [`IDLE`].
/// Each wakes the daemon.
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(13);

/// Interval of the daemon's keep-alive packets. Longer than the client's, so that the daemon sends
/// them to browsers only, which send none.
#[cfg(feature = "daemon")]
const DAEMON_KEEP_ALIVE: Duration = Duration::from_secs(14);

/// Maximum number of unacknowledged bytes of a session that has never waited for its window, 256 KiB.
#[cfg(feature = "daemon")]
pub(crate) const FIRST_SEND_WINDOW: u64 = 256 << 10;

/// The same of one that has, 2 MiB: what a slow subscriber can pin beyond the cache. One stream takes as much as its reader allows, by default
/// [`CLIENT_STREAM_WINDOW`]. This keeps one backlogged stream from using the whole window.
/// Otherwise other streams would starve until it drains, because the first writer woken takes all
/// newly freed window. Large payloads get more: see
/// [`Windows`](crate::net::delivery::windows::Windows).
#[cfg(feature = "daemon")]
pub(crate) const DAEMON_SEND_WINDOW: u64 = 2 << 20;

/// Maximum number of unread bytes from a session that has filled its first window, over all its
/// streams: 2 MiB. Two streams fill it, which is twice what one path is likely to need.
#[cfg(feature = "daemon")]
pub(crate) const DAEMON_RECEIVE_WINDOW: u32 = 2 << 20;

/// The same before that, 256 KiB: a hello, and the frames that follow it immediately. A sender in slow
/// start (RFC 9002, section 7.3.1) has sent less when the answer arrives.
#[cfg(feature = "daemon")]
pub(crate) const FIRST_RECEIVE_WINDOW: u32 = 256 << 10;

/// Maximum number of unread bytes on one of a session's streams, 1 MiB.
#[cfg(feature = "daemon")]
const DAEMON_STREAM_WINDOW: u32 = 1 << 20;

/// Maximum number of unread bytes on one of a client's streams, 1 MiB. The daemon sends as much to
/// a subscriber that does not read before its cursor falls behind.
const CLIENT_STREAM_WINDOW: u32 = 1 << 20;

/// Maximum number of streams that a peer may have open: one for small publications, one for each
/// large publication.
#[cfg(feature = "daemon")]
pub(crate) const DAEMON_UNI_STREAMS: u32 = 100;

/// The initial limit of these streams. The second concurrent publishing stream raises it, a round
/// trip later. For each stream quinn reserves memory in advance: 3 KiB for all of them, and half a
/// KiB for these with the bidirectional ones. Over WebTransport the limit is raised at once. HTTP/3
/// uses three streams, and Firefox, once it has had to wait for a stream, waits for ever.
#[cfg(feature = "daemon")]
const FIRST_UNI_STREAMS: u32 = 6;

/// Maximum number of streams that the daemon may have open in a client: one for each of 256
/// subscriptions, and one for each answer.
const CLIENT_UNI_STREAMS: u32 = 320;

/// Maximum number of bidirectional streams: the control stream, and over WebTransport also the
/// CONNECT stream and the browser's own.
#[cfg(feature = "daemon")]
const BI_STREAMS: u32 = 8;

/// Maximum size of the datagrams that wait to be sent, 32 KiB. Beyond it the sender waits, and its
/// cursor falls behind. In a larger buffer datagrams would only get old.
pub(crate) const DATAGRAM_SEND_BUFFER: usize = 32 << 10;

/// Maximum size of the datagrams that wait to be read, 256 KiB. Beyond it the oldest are dropped,
/// as if lost.
const DATAGRAM_RECEIVE_BUFFER: usize = 256 << 10;

/// Packets that a peer may leave unacknowledged, for at most 25 ms: 8 instead of 1. Both ends have
/// to support draft-ietf-quic-ack-frequency. An acknowledgement costs either end about as much as a
/// small message. Packets out of order are still acknowledged immediately.
const UNACKNOWLEDGED: u32 = 8;

/// The round trip that a client assumes before it has measured one, 100 ms. It repeats a first packet
/// after three of them, such as one that came before the daemon was up again. RFC 9002 section 6.2.2
/// recommends 333 ms: on a path that is slower than 300 ms the first packet is sent twice in vain.
const CLIENT_FIRST_RTT: Duration = Duration::from_millis(100);

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

/// The daemon's settings.
#[cfg(feature = "daemon")]
pub(crate) fn daemon() -> TransportConfig {
    let mut config = base();
    config
        .max_concurrent_uni_streams(FIRST_UNI_STREAMS.into())
        .max_concurrent_bidi_streams(BI_STREAMS.into())
        .send_window(FIRST_SEND_WINDOW)
        .receive_window(FIRST_RECEIVE_WINDOW.into())
        .stream_receive_window(DAEMON_STREAM_WINDOW.into())
        .keep_alive_interval(Some(DAEMON_KEEP_ALIVE));
    config
}

/// A client's settings.
pub(crate) fn client() -> TransportConfig {
    let mut config = base();
    config
        .max_concurrent_uni_streams(CLIENT_UNI_STREAMS.into())
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .stream_receive_window(CLIENT_STREAM_WINDOW.into())
        .initial_rtt(CLIENT_FIRST_RTT)
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

    // The only row of a table that begins with `begins`.
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
        let architecture = row(ARCHITECTURE, "| bytes sent to one peer and not acknowledged");
        assert!(architecture.contains(&format!("send window, {send},")), "{send}: {architecture}");

        let first = said(FIRST_RECEIVE_WINDOW.into());
        let (receive, stream) =
            (said(DAEMON_RECEIVE_WINDOW.into()), said(DAEMON_STREAM_WINDOW.into()));
        let readme = row(CONFIGURATION, "| unread bytes of one peer");
        let expected = format!("| QUIC {receive}, {first} before its hello; WebSocket 80 KiB |");
        assert!(readme.ends_with(&expected), "{expected}: {readme}");
        let architecture = row(ARCHITECTURE, "| bytes from one peer that are not read");
        let expected = format!("QUIC {first} before its hello, then {receive}, {stream} a stream");
        assert!(architecture.contains(&expected), "{expected}: {architecture}");
    }
}
