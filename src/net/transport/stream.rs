//! The streams of a session over any transport: see [`Connection`](super::connection::Connection).

use crate::net::error::{ReadError, WriteError};
use crate::net::websocket::{RequestStream, WebSocket};
use crate::wire::Code;
use bytes::Bytes;
use quinn::VarInt;

/// A stream to write to.
pub(crate) struct SendStream {
    inner: Inner,
    // The frame `For` was written.
    #[cfg(feature = "daemon")]
    for_written: bool,
}

pub(crate) enum Inner {
    Quic(quinn::SendStream),
    WebTransport(wtransport::SendStream),
    WebSocket(WebSocket),
}

impl SendStream {
    pub(crate) fn of(inner: Inner) -> Self {
        Self {
            inner,
            #[cfg(feature = "daemon")]
            for_written: false,
        }
    }

    /// Writes all pieces, in order, and empties them. QUIC does not copy them.
    pub(crate) async fn write(&mut self, pieces: &mut [Bytes]) -> Result<(), WriteError> {
        let stream = match &mut self.inner {
            Inner::Quic(stream) => stream,
            Inner::WebTransport(stream) => stream.quic_stream_mut(),
            Inner::WebSocket(channel) => return channel.write(pieces, false).await,
        };
        Ok(stream.write_all_chunks(pieces).await?)
    }

    /// The same as [`write`](Self::write), with the frame `For` as the first piece. It is left out
    /// where the peer knows the request: on a QUIC stream after the first write, on a WebSocket if
    /// the last `For` was the same.
    #[cfg(feature = "daemon")]
    pub(crate) async fn write_for(&mut self, pieces: &mut [Bytes]) -> Result<(), WriteError> {
        if let Inner::WebSocket(channel) = &self.inner {
            return channel.write(pieces, true).await;
        }
        let skipped = usize::from(self.for_written);
        self.write(&mut pieces[skipped..]).await?;
        self.for_written = true;
        Ok(())
    }

    /// Sets the priority. Streams with a higher priority are sent first; the default is 0. Ignored
    /// over WebSocket.
    pub(crate) fn set_priority(&mut self, priority: i32) {
        // An error means that the stream is closed, and sends nothing more.
        let _ = match &mut self.inner {
            Inner::Quic(stream) => stream.set_priority(priority),
            Inner::WebTransport(stream) => stream.quic_stream_mut().set_priority(priority),
            Inner::WebSocket(_) => Ok(()),
        };
    }

    /// Ends the stream, without waiting for the peer. Ignored over WebSocket.
    pub(crate) fn finish(&mut self) {
        // An error means that the stream was stopped or reset already.
        let _ = match &mut self.inner {
            Inner::Quic(stream) => stream.finish(),
            Inner::WebTransport(stream) => stream.quic_stream_mut().finish(),
            Inner::WebSocket(_) => Ok(()),
        };
    }

    /// Resets the stream: what was not sent is dropped. Ignored over WebSocket.
    pub(crate) fn reset(&mut self, code: Code) {
        let number = |code| VarInt::from_u64(code).unwrap_or(VarInt::MAX);
        let _ = match &mut self.inner {
            Inner::Quic(stream) => stream.reset(number(code.0.into())),
            Inner::WebTransport(stream) => {
                stream.quic_stream_mut().reset(number(webtransport_code(code.0)))
            }
            Inner::WebSocket(_) => Ok(()),
        };
    }

    /// Waits until the peer has received everything, or has stopped the stream.
    #[cfg(feature = "daemon")]
    pub(crate) async fn stopped(&mut self) {
        match &mut self.inner {
            Inner::Quic(stream) => drop(stream.stopped().await),
            Inner::WebTransport(stream) => drop(stream.quic_stream_mut().stopped().await),
            // The closing handshake does that.
            Inner::WebSocket(_) => {}
        }
    }
}

// draft-ietf-webtrans-http3, section 4.4: application codes skip the values that HTTP/3 reserves.
fn webtransport_code(code: u32) -> u64 {
    let code = u64::from(code);
    0x52e4_a40f_a8db + code + code / 0x1e
}

/// A stream to read from.
pub(crate) enum RecvStream {
    Quic(quinn::RecvStream),
    WebTransport(wtransport::RecvStream),
    /// The whole channel, or the frames that belong to no request.
    WebSocket(WebSocket),
    /// The frames of the channel that belong to one request.
    RequestStream(RequestStream),
}

impl RecvStream {
    /// Reads what there is, at least one piece, into the front of `pieces`. Returns the number of
    /// pieces, or `None` at the end. Cancel safe.
    pub(crate) async fn read(&mut self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        let read = match self {
            Self::Quic(stream) => stream.read_chunks(pieces).await,
            Self::WebTransport(stream) => stream.quic_stream_mut().read_chunks(pieces).await,
            Self::WebSocket(channel) => return channel.read(pieces).await,
            Self::RequestStream(stream) => return stream.read(pieces).await,
        };
        read.map_err(|error| match error {
            quinn::ReadError::ConnectionLost(error) => ReadError::ConnectionLost(error.into()),
            _ => ReadError::Reset,
        })
    }

    /// Asks the peer to stop sending (RFC 9000, section 3.5). Ignored over WebSocket.
    #[cfg(feature = "daemon")]
    pub(crate) fn stop(&mut self, code: Code) {
        let number = |code| VarInt::from_u64(code).unwrap_or(VarInt::MAX);
        // An error means that the stream has ended already.
        let _ = match self {
            Self::Quic(stream) => stream.stop(number(code.0.into())),
            Self::WebTransport(stream) => {
                stream.quic_stream_mut().stop(number(webtransport_code(code.0)))
            }
            Self::WebSocket(_) | Self::RequestStream(_) => Ok(()),
        };
    }

    /// Whether an empty piece marks the end of a message. No frame goes beyond a message.
    #[cfg(feature = "daemon")]
    pub(crate) fn is_messages(&self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    /// Whether the stream ended early because it was not read fast enough.
    pub(crate) fn has_overflowed(&self) -> bool {
        matches!(self, Self::RequestStream(stream) if stream.has_overflowed())
    }
}

#[cfg(test)]
mod tests {
    use crate::net::transport::stream::webtransport_code;

    #[test]
    fn reset_codes_are_those_of_the_draft() {
        assert_eq!(webtransport_code(0), 0x52e4_a40f_a8db);
        assert_eq!(webtransport_code(0x1d), 0x52e4_a40f_a8f8);
        assert_eq!(webtransport_code(0x1e), 0x52e4_a40f_a8fa);
        assert_eq!(webtransport_code(u32::MAX), 0x52e5_ac98_3162);
    }
}
