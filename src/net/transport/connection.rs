//! One session, however it is carried. Raw QUIC and WebTransport are quinn streams below; what
//! differs is how they are opened, how datagrams are wrapped, and what a reset code looks like.
//! WebSocket is one channel, and the streams are those that it is taken apart into.

use super::Transport;
use super::stream::Inner;
use super::stream::{RecvStream, SendStream};
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

    /// None where nobody measures it: TCP does, and tells nobody.
    pub(crate) fn rtt(&self) -> Option<std::time::Duration> {
        match self {
            Self::Quic(connection) => Some(connection.rtt()),
            Self::WebTransport(connection) => Some(connection.quic_connection().rtt()),
            Self::WebSocket(_) => None,
        }
    }

    /// What has been heard of what was sent; nothing where nobody tells.
    #[cfg(feature = "daemon")]
    pub(crate) fn ack_stats(&self) -> AckStats {
        match self {
            Self::Quic(connection) => AckStats::of(connection),
            Self::WebTransport(connection) => AckStats::of(connection.quic_connection()),
            Self::WebSocket(_) => AckStats::default(),
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
                let (tx, rx) = connection.accept_bi().await.map_err(|e| gone(connection, &e))?;
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
                let opening = connection.open_bi().await.map_err(|e| gone(connection, &e))?;
                let (tx, rx) = opening.await.map_err(|e| gone(connection, &e))?;
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

    /// A stream that the peer has opened; over WebSocket, towards the daemon, there is none.
    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, ConnectionLost> {
        match self {
            Self::Quic(connection) => Ok(RecvStream::Quic(connection.accept_uni().await?)),
            Self::WebTransport(connection) => {
                let rx = connection.accept_uni().await.map_err(|e| gone(connection, &e))?;
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
                let opening = connection.open_uni().await.map_err(|e| gone(connection, &e))?;
                Ok(SendStream::of(Inner::WebTransport(
                    opening.await.map_err(|e| gone(connection, &e))?,
                )))
            }
            Self::WebSocket(channel) => Ok(SendStream::of(Inner::WebSocket(channel.clone()))),
        }
    }

    /// Lets the peer open as many streams as it may, not only the few that it began with.
    #[cfg(feature = "daemon")]
    pub(crate) fn raise_stream_limit(&self) {
        let most = crate::net::quic::settings::DAEMON_UNI_STREAMS.into();
        match self {
            Self::Quic(connection) => connection.set_max_concurrent_uni_streams(most),
            Self::WebTransport(connection) => {
                connection.quic_connection().set_max_concurrent_uni_streams(most);
            }
            Self::WebSocket(_) => {}
        }
    }

    /// Lets the peer send as much as it may before that is read, not only what a newcomer may.
    #[cfg(feature = "daemon")]
    pub(crate) fn allow_unread(&self) {
        let window = crate::net::quic::settings::DAEMON_RECEIVE_WINDOW.into();
        match self {
            Self::Quic(connection) => connection.set_receive_window(window),
            Self::WebTransport(connection) => {
                connection.quic_connection().set_receive_window(window);
            }
            Self::WebSocket(_) => {}
        }
    }

    /// Lets so much more be sent and not be acknowledged than usual.
    #[cfg(feature = "daemon")]
    pub(crate) fn set_extra_send_window(&self, bytes: u64) {
        let window = crate::net::quic::settings::DAEMON_SEND_WINDOW + bytes;
        match self {
            Self::Quic(connection) => connection.set_send_window(window),
            Self::WebTransport(connection) => connection.quic_connection().set_send_window(window),
            Self::WebSocket(_) => {}
        }
    }

    /// The largest datagram, bytes; none where there are none.
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

    /// Whether datagrams wait to be sent: the path takes less than it is given.
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

    /// Sends a datagram of these pieces, as soon as there is room for it. One that the path turns
    /// out to be too narrow for is as good as lost.
    pub(crate) async fn send_datagram(&self, pieces: &[Bytes]) -> Result<(), ConnectionLost> {
        let Some((connection, datagram)) = self.datagram(pieces) else {
            return Ok(());
        };
        // With room to spare, that of others who send at the same time included, nobody waits: no
        // future, and no look at who does.
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

    /// Sends a datagram at once, if none waits; says whether it did.
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

    /// The next datagram; over WebSocket there is none. To be waited for in any case: this is
    /// also what finds out that a WebSocket's peer is silent.
    pub(crate) async fn read_datagram(&self) -> Result<Bytes, ConnectionLost> {
        match self {
            Self::Quic(connection) => Ok(connection.read_datagram().await?),
            Self::WebTransport(connection) => {
                let datagram =
                    connection.receive_datagram().await.map_err(|e| gone(connection, &e))?;
                Ok(datagram.payload())
            }
            // Waited for once, and in a box: others have no room for it.
            Self::WebSocket(channel) => Err(Box::pin(channel.watch()).await),
        }
    }

    /// A request whose reader has not kept up with the one channel that it shares with others:
    /// the peer is to be told to send no more for it. Streams of their own hold back by themselves.
    pub(crate) async fn cut(&self) -> u32 {
        match self {
            Self::Quic(_) | Self::WebTransport(_) => std::future::pending().await,
            Self::WebSocket(channel) => channel.cut().await,
        }
    }

    /// The daemon has said on the control stream that it sends no more for `request`. Where there
    /// are streams, the stream's own end says when that is.
    pub(crate) fn finish_request(&self, request: u32) {
        if let Self::WebSocket(channel) = self {
            channel.finish_request(request);
        }
    }

    /// Ends the session from this side. Over WebSocket, [`leave`](Self::leave) then says so.
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

    /// After the last frame: gives the peer the time to take leave. Bounded by whoever calls it.
    pub(crate) async fn leave(&self, code: Code, reason: &str) {
        if let Self::WebSocket(channel) = self {
            channel.leave(code, reason).await;
        }
    }

    /// Whether closing is up to the client once it has been told goodbye: a browser forgets what a
    /// page has not read yet when the connection closes.
    #[cfg(feature = "daemon")]
    pub(crate) fn is_closed_by_client(&self) -> bool {
        matches!(self, Self::WebTransport(_))
    }

    /// The peer has said why the session is over; whoever asks later is told this.
    pub(crate) fn end(&self, gone: ConnectionLost) {
        if let Self::WebSocket(channel) = self {
            channel.end(gone);
        }
    }

    /// It has been left, or that was given up.
    pub(crate) fn set_left(&self) {
        if let Self::WebSocket(channel) = self {
            channel.set_left();
        }
    }

    /// Waits until it has been left.
    pub(crate) async fn left(&self) {
        if let Self::WebSocket(channel) = self {
            channel.left().await;
        }
    }

    /// Waits until the connection is gone.
    pub(crate) async fn closed(&self) -> ConnectionLost {
        match self {
            Self::Quic(connection) => connection.closed().await.into(),
            Self::WebTransport(connection) => connection.quic_connection().closed().await.into(),
            Self::WebSocket(channel) => channel.closed().await,
        }
    }
}

// RFC 9297, section 2.1: a datagram begins with the quarter of the session's stream id, as a varint
// of RFC 9000, section 16.
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

// wtransport's errors say little; the connection below knows why.
fn gone(connection: &wtransport::Connection, error: &impl fmt::Display) -> ConnectionLost {
    match connection.quic_connection().close_reason() {
        Some(reason) => reason.into(),
        None => ConnectionLost { code: None, reason: error.to_string() },
    }
}
