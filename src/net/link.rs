//! One session, however it is carried. Raw QUIC and WebTransport are quinn streams below; what
//! differs is how they are opened, how datagrams are wrapped, and what a reset code looks like.
//! WebSocket is one channel, and the streams are those that it is taken apart into.

use super::websocket::{Routed, WebSocket};
use crate::wire::{Code, Refusal};
use bytes::Bytes;
use quinn::VarInt;
use std::fmt;

/// How a session is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// QUIC streams, ALPN `weir/1`.
    Quic,
    /// WebTransport over HTTP/3, path `/weir`.
    WebTransport,
    /// WebSocket over TLS and TCP, path `/weir`: one channel for everything.
    WebSocket,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::WebTransport => "webtransport",
            Self::WebSocket => "websocket",
        })
    }
}

/// The session's connection is gone.
#[derive(Debug, Clone)]
pub(crate) struct Gone {
    /// The code that the peer closed with, if it did.
    pub(crate) code: Option<Code>,
    /// In words.
    pub(crate) reason: String,
}

impl From<quinn::ConnectionError> for Gone {
    fn from(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => Self {
                code: u32::try_from(close.error_code.into_inner()).ok().map(Code),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            other => Self { code: None, reason: other.to_string() },
        }
    }
}

/// A session's connection.
pub(crate) enum Link {
    Quic(quinn::Connection),
    WebTransport(wtransport::Connection),
    WebSocket(WebSocket),
}

impl Link {
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

    #[cfg(feature = "daemon")]
    pub(crate) async fn accept_bi(&self) -> Result<(Tx, Rx), Gone> {
        match self {
            Self::Quic(connection) => {
                let (tx, rx) = connection.accept_bi().await?;
                Ok((Tx::quic(tx), Rx::Quic(rx)))
            }
            Self::WebTransport(connection) => {
                let (tx, rx) = connection.accept_bi().await.map_err(|e| gone(connection, &e))?;
                Ok((Tx::web_transport(tx), Rx::WebTransport(rx)))
            }
            Self::WebSocket(channel) => {
                channel.control().await?;
                Ok((Tx::web_socket(channel), Rx::WebSocket(channel.clone())))
            }
        }
    }

    pub(crate) async fn open_bi(&self) -> Result<(Tx, Rx), Gone> {
        match self {
            Self::Quic(connection) => {
                let (tx, rx) = connection.open_bi().await?;
                Ok((Tx::quic(tx), Rx::Quic(rx)))
            }
            Self::WebTransport(connection) => {
                let opening = connection.open_bi().await.map_err(|e| gone(connection, &e))?;
                let (tx, rx) = opening.await.map_err(|e| gone(connection, &e))?;
                Ok((Tx::web_transport(tx), Rx::WebTransport(rx)))
            }
            Self::WebSocket(channel) => {
                channel.control().await?;
                Ok((Tx::web_socket(channel), Rx::WebSocket(channel.clone())))
            }
        }
    }

    /// A stream that the peer has opened; over WebSocket, towards the daemon, there is none.
    pub(crate) async fn accept_uni(&self) -> Result<Rx, Gone> {
        match self {
            Self::Quic(connection) => Ok(Rx::Quic(connection.accept_uni().await?)),
            Self::WebTransport(connection) => {
                let rx = connection.accept_uni().await.map_err(|e| gone(connection, &e))?;
                Ok(Rx::WebTransport(rx))
            }
            Self::WebSocket(channel) => Ok(Rx::Routed(channel.accept().await?)),
        }
    }

    pub(crate) async fn open_uni(&self) -> Result<Tx, Gone> {
        match self {
            Self::Quic(connection) => Ok(Tx::quic(connection.open_uni().await?)),
            Self::WebTransport(connection) => {
                let opening = connection.open_uni().await.map_err(|e| gone(connection, &e))?;
                Ok(Tx::web_transport(opening.await.map_err(|e| gone(connection, &e))?))
            }
            Self::WebSocket(channel) => Ok(Tx::web_socket(channel)),
        }
    }

    /// The next datagram; over WebSocket there is none. To be waited for in any case: this is
    /// also what finds out that a WebSocket's peer is silent.
    pub(crate) async fn read_datagram(&self) -> Result<Bytes, Gone> {
        match self {
            Self::Quic(connection) => Ok(connection.read_datagram().await?),
            Self::WebTransport(connection) => {
                let datagram =
                    connection.receive_datagram().await.map_err(|e| gone(connection, &e))?;
                Ok(datagram.payload())
            }
            Self::WebSocket(channel) => Err(channel.watch().await),
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
    pub(crate) fn end_of(&self, request: u32) {
        if let Self::WebSocket(channel) = self {
            channel.end_of(request);
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
    pub(crate) fn end(&self, gone: Gone) {
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
    pub(crate) async fn closed(&self) -> Gone {
        match self {
            Self::Quic(connection) => connection.closed().await.into(),
            Self::WebTransport(connection) => connection.quic_connection().closed().await.into(),
            Self::WebSocket(channel) => channel.closed().await,
        }
    }
}

// wtransport's errors say little; the connection below knows why.
fn gone(connection: &wtransport::Connection, error: &impl fmt::Display) -> Gone {
    match connection.quic_connection().close_reason() {
        Some(reason) => reason.into(),
        None => Gone { code: None, reason: error.to_string() },
    }
}

/// A stream to write to.
pub(crate) struct Tx {
    way: Way,
    // Whose it is has been said.
    told: bool,
}

enum Way {
    Quic(quinn::SendStream),
    WebTransport(wtransport::SendStream),
    WebSocket(WebSocket),
}

/// A write went nowhere.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The peer wants no more of this stream.
    Stopped,
    /// The session is gone.
    Gone(Gone),
}

impl From<quinn::WriteError> for WriteError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::ConnectionLost(error) => Self::Gone(error.into()),
            _ => Self::Stopped,
        }
    }
}

impl Tx {
    fn quic(stream: quinn::SendStream) -> Self {
        Self { way: Way::Quic(stream), told: false }
    }

    fn web_transport(stream: wtransport::SendStream) -> Self {
        Self { way: Way::WebTransport(stream), told: false }
    }

    fn web_socket(channel: &WebSocket) -> Self {
        Self { way: Way::WebSocket(channel.clone()), told: false }
    }

    /// Writes all pieces, in order; they are emptied, not copied where the transport can do
    /// without.
    pub(crate) async fn write(&mut self, pieces: &mut [Bytes]) -> Result<(), WriteError> {
        match &mut self.way {
            Way::Quic(stream) => stream.write_all_chunks(pieces).await?,
            Way::WebTransport(stream) => stream.quic_stream_mut().write_all_chunks(pieces).await?,
            Way::WebSocket(channel) => channel.write(pieces, false).await?,
        }
        Ok(())
    }

    /// As [`write`](Self::write). The first piece says for whom the rest is, and is left out where
    /// the peer knows: on a stream of its own after it was said once, on a shared channel if it
    /// was said last.
    #[cfg(feature = "daemon")]
    pub(crate) async fn write_for(&mut self, pieces: &mut [Bytes]) -> Result<(), WriteError> {
        if let Way::WebSocket(channel) = &self.way {
            return channel.write(pieces, true).await;
        }
        let known = usize::from(self.told);
        self.write(&mut pieces[known..]).await?;
        self.told = true;
        Ok(())
    }

    /// Nothing more will be written. Does not wait for the peer.
    pub(crate) fn finish(&mut self) {
        // Already stopped or reset: just as finished. A shared channel goes on.
        let _ = match &mut self.way {
            Way::Quic(stream) => stream.finish(),
            Way::WebTransport(stream) => stream.quic_stream_mut().finish(),
            Way::WebSocket(_) => Ok(()),
        };
    }

    /// Gives up what was not sent yet.
    pub(crate) fn reset(&mut self, code: Code) {
        let number = |code| VarInt::from_u64(code).unwrap_or(VarInt::MAX);
        let _ = match &mut self.way {
            Way::Quic(stream) => stream.reset(number(code.0.into())),
            Way::WebTransport(stream) => {
                stream.quic_stream_mut().reset(number(webtransport_code(code.0)))
            }
            Way::WebSocket(_) => Ok(()),
        };
    }

    /// Waits until the peer has everything, or wants no more.
    #[cfg(feature = "daemon")]
    pub(crate) async fn stopped(&mut self) {
        match &mut self.way {
            Way::Quic(stream) => drop(stream.stopped().await),
            Way::WebTransport(stream) => drop(stream.quic_stream_mut().stopped().await),
            // Leaving does that.
            Way::WebSocket(_) => {}
        }
    }
}

// draft-ietf-webtrans-http3, section 4.4: application codes skip the values that HTTP/3 reserves.
fn webtransport_code(code: u32) -> u64 {
    let code = u64::from(code);
    0x52e4_a40f_a8db + code + code / 0x1e
}

/// A stream to read from.
pub(crate) enum Rx {
    Quic(quinn::RecvStream),
    WebTransport(wtransport::RecvStream),
    /// The whole channel, or what of it is for nobody in particular.
    WebSocket(WebSocket),
    /// What of the channel is for one request.
    Routed(Routed),
}

/// A read went wrong.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The peer gave the stream up.
    Reset,
    /// What came cannot be read.
    Broken(Refusal),
    /// The session is gone.
    Gone(Gone),
}

impl Rx {
    /// Reads what there is, at least one piece, into the front of `pieces`; none at the end.
    /// Losing the future loses nothing.
    pub(crate) async fn read(&mut self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        let read = match self {
            Self::Quic(stream) => stream.read_chunks(pieces).await,
            Self::WebTransport(stream) => stream.quic_stream_mut().read_chunks(pieces).await,
            Self::WebSocket(channel) => return channel.read(pieces).await,
            Self::Routed(routed) => return routed.read(pieces).await,
        };
        read.map_err(|error| match error {
            quinn::ReadError::ConnectionLost(error) => ReadError::Gone(error.into()),
            _ => ReadError::Reset,
        })
    }

    /// Whether each piece is a message of its own, which no frame goes beyond, and shares its
    /// memory with others.
    #[cfg(feature = "daemon")]
    pub(crate) fn is_messages(&self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    /// Whether its end is not the peer's: it was not read fast enough.
    pub(crate) fn is_cut_short(&self) -> bool {
        matches!(self, Self::Routed(routed) if routed.is_cut())
    }
}

#[cfg(test)]
mod tests {
    use super::webtransport_code;

    #[test]
    fn reset_codes_are_those_of_the_draft() {
        assert_eq!(webtransport_code(0), 0x52e4_a40f_a8db);
        assert_eq!(webtransport_code(0x1d), 0x52e4_a40f_a8f8);
        assert_eq!(webtransport_code(0x1e), 0x52e4_a40f_a8fa);
        assert_eq!(webtransport_code(u32::MAX), 0x52e5_ac98_3162);
    }
}
