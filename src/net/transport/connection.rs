//! One session over any transport. Raw QUIC and WebTransport both use quinn's streams. They differ
//! in how streams are opened, how datagrams are wrapped, and how reset codes are written. WebSocket
//! is one channel, which a client splits into a stream for each request.

use super::Transport;
use super::path::PathStats;
use super::stream::{Inner, RecvStream, SendStream};
#[cfg(feature = "daemon")]
use crate::broker::throttle::Throttle;
use crate::net::error::ConnectionLost;
#[cfg(feature = "daemon")]
use crate::net::quic::congestion::AckStats;
use crate::net::quic::settings::DATAGRAM_SEND_BUFFER;
use crate::net::websocket::WebSocket;
use crate::wire::Code;
use bytes::Bytes;
use quinn::VarInt;
use std::fmt;

/// A session's connection.
pub(crate) enum Connection {
    Quic(quinn::Connection),
    WebTransport(wtransport::Connection),
    WebSocket(WebSocket),
}

impl Connection {
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Quic(_) => Transport::Quic,
            Self::WebTransport(_) => Transport::WebTransport,
            Self::WebSocket(_) => Transport::WebSocket,
        }
    }

    pub(crate) fn remote_address(&self) -> std::net::SocketAddr {
        match self {
            Self::Quic(connection) => connection.remote_address(),
            Self::WebTransport(connection) => connection.quic_connection().remote_address(),
            Self::WebSocket(channel) => channel.remote_address(),
        }
    }

    /// The name in the certificate that a native peer has shown.
    #[cfg(feature = "daemon")]
    pub(crate) fn certificate_name(&self) -> Option<String> {
        match self {
            Self::Quic(connection) => crate::tls::client_authorities::peer_name(connection),
            Self::WebTransport(_) | Self::WebSocket(_) => None,
        }
    }

    /// The path to the peer.
    pub(crate) fn path(&self) -> PathStats {
        let quic = match self {
            Self::Quic(connection) => Some(connection),
            Self::WebTransport(connection) => Some(connection.quic_connection()),
            Self::WebSocket(_) => None,
        };
        let stats = quic.map(|connection| connection.stats().path);
        PathStats {
            address: self.remote_address(),
            rtt: stats.map(|path| path.rtt),
            mtu: stats.map(|path| path.current_mtu),
            lost_packets: stats.map(|path| path.lost_packets),
            sent_packets: stats.map(|path| path.sent_packets),
        }
    }

    /// The current estimate of the round-trip time. None over WebSocket, because TCP does not
    /// report its own.
    pub(crate) fn rtt(&self) -> Option<std::time::Duration> {
        match self {
            Self::Quic(connection) => Some(connection.rtt()),
            Self::WebTransport(connection) => Some(connection.quic_connection().rtt()),
            Self::WebSocket(_) => None,
        }
    }

    /// Statistics of the acknowledgements. Empty over WebSocket.
    #[cfg(feature = "daemon")]
    pub(crate) fn ack_stats(&self) -> AckStats {
        match self {
            Self::Quic(connection) => AckStats::of(connection),
            Self::WebTransport(connection) => AckStats::of(connection.quic_connection()),
            Self::WebSocket(_) => AckStats::default(),
        }
    }

    /// Whether the peer has received what was sent until `since`. Always over WebSocket, because TCP
    /// does not tell.
    #[cfg(feature = "daemon")]
    pub(crate) fn has_received(&self, since: std::time::Instant) -> bool {
        match self {
            Self::WebSocket(_) => true,
            _ => self.ack_stats().have_received(since),
        }
    }

    /// Number of UDP packets from the peer. None over WebSocket.
    #[cfg(feature = "daemon")]
    pub(crate) fn packets_received(&self) -> Option<u64> {
        match self {
            Self::Quic(connection) => Some(connection.stats().udp_rx.datagrams),
            Self::WebTransport(connection) => {
                Some(connection.quic_connection().stats().udp_rx.datagrams)
            }
            Self::WebSocket(_) => None,
        }
    }

    /// Number of QUIC packets that were sent, and of those that were lost. None over WebSocket.
    #[cfg(feature = "daemon")]
    pub(crate) fn packets_sent(&self) -> Option<(u64, u64)> {
        let path = match self {
            Self::Quic(connection) => connection.stats().path,
            Self::WebTransport(connection) => connection.quic_connection().stats().path,
            Self::WebSocket(_) => return None,
        };
        Some((path.sent_packets, path.lost_packets))
    }

    /// Sets the rate of what the peer sends beside data. QUIC bounds that by itself.
    #[cfg(feature = "daemon")]
    pub(crate) fn set_throttle(&self, throttle: Throttle) {
        if let Self::WebSocket(channel) = self {
            channel.set_throttle(throttle);
        }
    }

    /// The peer was not read for a while, because it is too fast. It was not silent.
    #[cfg(feature = "daemon")]
    pub(crate) fn note_unread(&self) {
        if let Self::WebSocket(channel) = self {
            channel.note_unread();
        }
    }

    #[cfg(feature = "daemon")]
    pub(crate) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionLost> {
        match self {
            Self::Quic(connection) => {
                let (tx, rx) = connection.accept_bi().await?;
                Ok((SendStream::of(Inner::Quic(tx)), RecvStream::Quic(rx)))
            }
            Self::WebTransport(connection) => {
                let (tx, rx) = connection.accept_bi().await.map_err(|e| lost(connection, &e))?;
                Ok((SendStream::of(Inner::WebTransport(tx)), RecvStream::WebTransport(rx)))
            }
            Self::WebSocket(channel) => {
                channel.control().await?;
                Ok((
                    SendStream::of(Inner::WebSocket(channel.clone())),
                    RecvStream::WebSocket(channel.clone()),
                ))
            }
        }
    }

    pub(crate) async fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionLost> {
        match self {
            Self::Quic(connection) => {
                let (tx, rx) = connection.open_bi().await?;
                Ok((SendStream::of(Inner::Quic(tx)), RecvStream::Quic(rx)))
            }
            Self::WebTransport(connection) => {
                let opening = connection.open_bi().await.map_err(|e| lost(connection, &e))?;
                let (tx, rx) = opening.await.map_err(|e| lost(connection, &e))?;
                Ok((SendStream::of(Inner::WebTransport(tx)), RecvStream::WebTransport(rx)))
            }
            Self::WebSocket(channel) => {
                channel.control().await?;
                Ok((
                    SendStream::of(Inner::WebSocket(channel.clone())),
                    RecvStream::WebSocket(channel.clone()),
                ))
            }
        }
    }

    /// Waits for a stream that the peer opens. Over WebSocket a client opens none.
    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, ConnectionLost> {
        match self {
            Self::Quic(connection) => Ok(RecvStream::Quic(connection.accept_uni().await?)),
            Self::WebTransport(connection) => {
                let rx = connection.accept_uni().await.map_err(|e| lost(connection, &e))?;
                Ok(RecvStream::WebTransport(rx))
            }
            Self::WebSocket(channel) => {
                Ok(RecvStream::RequestStream(Box::pin(channel.accept()).await?))
            }
        }
    }

    pub(crate) async fn open_uni(&self) -> Result<SendStream, ConnectionLost> {
        match self {
            Self::Quic(connection) => Ok(SendStream::of(Inner::Quic(connection.open_uni().await?))),
            Self::WebTransport(connection) => {
                let opening = connection.open_uni().await.map_err(|e| lost(connection, &e))?;
                Ok(SendStream::of(Inner::WebTransport(
                    opening.await.map_err(|e| lost(connection, &e))?,
                )))
            }
            Self::WebSocket(channel) => Ok(SendStream::of(Inner::WebSocket(channel.clone()))),
        }
    }

    /// Raises the limit of concurrent streams from the initial few to the maximum.
    #[cfg(feature = "daemon")]
    pub(crate) fn raise_stream_limit(&self) {
        let limit = crate::net::quic::settings::DAEMON_UNI_STREAMS.into();
        match self {
            Self::Quic(connection) => connection.set_max_concurrent_uni_streams(limit),
            Self::WebTransport(connection) => {
                connection.quic_connection().set_max_concurrent_uni_streams(limit);
            }
            Self::WebSocket(_) => {}
        }
    }

    /// Sets the receive window, bytes.
    #[cfg(feature = "daemon")]
    pub(crate) fn set_receive_window(&self, window: u32) {
        match self {
            Self::Quic(connection) => connection.set_receive_window(window.into()),
            Self::WebTransport(connection) => {
                connection.quic_connection().set_receive_window(window.into());
            }
            Self::WebSocket(_) => {}
        }
    }

    /// Sets the send window, bytes.
    #[cfg(feature = "daemon")]
    pub(crate) fn set_send_window(&self, window: u64) {
        match self {
            Self::Quic(connection) => connection.set_send_window(window),
            Self::WebTransport(connection) => connection.quic_connection().set_send_window(window),
            Self::WebSocket(_) => {}
        }
    }

    /// Maximum size of a datagram, bytes. None if the path or the transport has no datagrams.
    pub(crate) fn datagram_size(&self) -> Option<usize> {
        match self {
            Self::Quic(connection) => connection.max_datagram_size(),
            Self::WebTransport(connection) => {
                let size = connection.quic_connection().max_datagram_size()?;
                size.checked_sub(datagram_prefix(connection).len())
            }
            Self::WebSocket(_) => None,
        }
    }

    /// Whether datagrams wait to be sent, because the path takes fewer than the daemon sends.
    pub(crate) fn datagrams_blocked(&self) -> bool {
        let space = match self {
            Self::Quic(connection) => connection.datagram_send_buffer_space(),
            Self::WebTransport(connection) => {
                connection.quic_connection().datagram_send_buffer_space()
            }
            Self::WebSocket(_) => return false,
        };
        space < DATAGRAM_SEND_BUFFER - (2 << 10)
    }

    /// Sends a datagram of these pieces, as soon as there is room for it. One that turns out to be
    /// too large for the path is dropped, as if lost.
    pub(crate) async fn send_datagram(&self, pieces: &[Bytes]) -> Result<(), ConnectionLost> {
        let Some((connection, datagram)) = self.datagram(pieces) else {
            return Ok(());
        };
        // With half of the buffer free, even concurrent senders need not wait. The fast path needs
        // no future.
        let sent = if connection.datagram_send_buffer_space() > DATAGRAM_SEND_BUFFER / 2 {
            connection.send_datagram(datagram)
        } else {
            Box::pin(connection.send_datagram_wait(datagram)).await
        };
        match sent {
            Err(quinn::SendDatagramError::ConnectionLost(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Sends a datagram if none waits. Returns whether it did.
    pub(crate) fn try_send_datagram(&self, pieces: &[Bytes]) -> bool {
        let datagram = self.datagram(pieces).filter(|_| !self.datagrams_blocked());
        datagram.is_some_and(|(connection, datagram)| connection.send_datagram(datagram).is_ok())
    }

    fn datagram(&self, pieces: &[Bytes]) -> Option<(&quinn::Connection, Bytes)> {
        match (self, pieces) {
            (Self::Quic(connection), [one]) => Some((connection, one.clone())),
            (Self::Quic(connection), pieces) => Some((connection, join(&[], pieces))),
            (Self::WebTransport(connection), pieces) => {
                let prefix = datagram_prefix(connection);
                Some((connection.quic_connection(), join(&prefix, pieces)))
            }
            (Self::WebSocket(_), _) => None,
        }
    }

    /// Waits for the next datagram. Over WebSocket there are none, but the caller has to wait all
    /// the same: this detects that a WebSocket's peer is silent.
    pub(crate) async fn read_datagram(&self) -> Result<Bytes, ConnectionLost> {
        match self {
            Self::Quic(connection) => Ok(connection.read_datagram().await?),
            Self::WebTransport(connection) => {
                let datagram =
                    connection.receive_datagram().await.map_err(|e| lost(connection, &e))?;
                Ok(datagram.payload())
            }
            // Boxed, because it would enlarge the future of the other transports.
            Self::WebSocket(channel) => Err(Box::pin(channel.watch()).await),
        }
    }

    /// Waits for a request whose buffer has overflowed, because its reader is too slow for the
    /// channel that it shares with others. The caller tells the peer to send no more for it. QUIC
    /// streams have flow control instead.
    pub(crate) async fn next_overflowed_request(&self) -> u32 {
        match self {
            Self::Quic(_) | Self::WebTransport(_) => std::future::pending().await,
            Self::WebSocket(channel) => channel.next_overflowed_request().await,
        }
    }

    /// Ends the stream of `request`, after the daemon has said on the control stream that it sends
    /// no more for it. QUIC streams have their own end.
    pub(crate) fn finish_request(&self, request: u32) {
        if let Self::WebSocket(channel) = self {
            channel.finish_request(request);
        }
    }

    /// Closes the session. Over WebSocket, [`leave`](Self::leave) then sends the close frame.
    pub(crate) fn close(&self, code: Code, reason: &str) {
        let number = VarInt::from_u32(code.0);
        match self {
            Self::Quic(connection) => connection.close(number, reason.as_bytes()),
            Self::WebTransport(connection) => {
                connection.quic_connection().close(number, reason.as_bytes());
            }
            Self::WebSocket(channel) => channel.close(code, reason),
        }
    }

    /// Does the closing handshake of a WebSocket, after the last frame. The caller bounds its time.
    pub(crate) async fn leave(&self, code: Code, reason: &str) {
        if let Self::WebSocket(channel) = self {
            channel.leave(code, reason).await;
        }
    }

    /// Whether the client closes the connection after the daemon's goodbye. A browser discards what
    /// the page has not read when the daemon closes it.
    #[cfg(feature = "daemon")]
    pub(crate) fn is_closed_by_client(&self) -> bool {
        matches!(self, Self::WebTransport(_))
    }

    /// Sets the reason why the session has ended, as the peer said. Later errors return it.
    pub(crate) fn end(&self, lost: ConnectionLost) {
        if let Self::WebSocket(channel) = self {
            channel.end(lost);
        }
    }

    /// The closing handshake is done, or has timed out.
    pub(crate) fn set_left(&self) {
        if let Self::WebSocket(channel) = self {
            channel.set_left();
        }
    }

    /// Waits for [`set_left`](Self::set_left).
    pub(crate) async fn left(&self) {
        if let Self::WebSocket(channel) = self {
            channel.left().await;
        }
    }

    /// Waits until the connection is closed or lost.
    pub(crate) async fn closed(&self) -> ConnectionLost {
        match self {
            Self::Quic(connection) => connection.closed().await.into(),
            Self::WebTransport(connection) => connection.quic_connection().closed().await.into(),
            Self::WebSocket(channel) => channel.closed().await,
        }
    }
}

// A datagram begins with a quarter of the session's stream id (RFC 9297, section 2.1), as a varint
// (RFC 9000, section 16).
fn datagram_prefix(connection: &wtransport::Connection) -> Vec<u8> {
    let quarter = connection.session_id().into_u64() / 4;
    match quarter {
        0..0x40 => vec![quarter as u8],
        0x40..0x4000 => (quarter as u16 | 0x4000).to_be_bytes().to_vec(),
        0x4000..0x4000_0000 => (quarter as u32 | 0x8000_0000).to_be_bytes().to_vec(),
        _ => (quarter | 0xc000_0000_0000_0000).to_be_bytes().to_vec(),
    }
}

fn join(prefix: &[u8], pieces: &[Bytes]) -> Bytes {
    let length = prefix.len() + pieces.iter().map(Bytes::len).sum::<usize>();
    let mut joined = Vec::with_capacity(length);
    joined.extend_from_slice(prefix);
    pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
    joined.into()
}

// The QUIC connection knows the reason, which wtransport's errors leave out.
fn lost(connection: &wtransport::Connection, error: &impl fmt::Display) -> ConnectionLost {
    match connection.quic_connection().close_reason() {
        Some(reason) => reason.into(),
        None => ConnectionLost { code: None, reason: error.to_string() },
    }
}
