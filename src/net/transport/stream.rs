//! The streams of a session, however it is carried: see [`Connection`](super::connection::Connection).

use crate::net::error::{ReadError, WriteError};
use crate::net::websocket::{RequestStream, WebSocket};
use crate::wire::Code;
use bytes::Bytes;
use quinn::VarInt;

/// A stream to write to.
pub(crate) struct SendStream {
    way: Inner,
    // Whose it is has been said.
    #[cfg(feature = "daemon")]
    told: bool,
}

pub(crate) enum Inner {
    Quic(quinn::SendStream),
    WebTransport(wtransport::SendStream),
    WebSocket(WebSocket),
}

impl SendStream {
    pub(crate) fn of(way: Inner) -> Self {
        Self {
            way,
            #[cfg(feature = "daemon")]
            told: false,
        }
    }

    /// Writes all pieces, in order; they are emptied, not copied where the transport can do
    /// without.
    pub(crate) async fn write(&mut self, pieces: &mut [Bytes]) -> Result<(), WriteError> {
        let stream = match &mut self.way {
            Inner::Quic(stream) => stream,
            Inner::WebTransport(stream) => stream.quic_stream_mut(),
            Inner::WebSocket(channel) => return channel.write(pieces, false).await,
        };
        Ok(stream.write_all_chunks(pieces).await?)
    }

    /// As [`write`](Self::write). The first piece says for whom the rest is, and is left out where
    /// the peer knows: on a stream of its own after it was said once, on a shared channel if it
    /// was said last.
    #[cfg(feature = "daemon")]
    pub(crate) async fn write_for(&mut self, pieces: &mut [Bytes]) -> Result<(), WriteError> {
        if let Inner::WebSocket(channel) = &self.way {
            return channel.write(pieces, true).await;
        }
        let known = usize::from(self.told);
        self.write(&mut pieces[known..]).await?;
        self.told = true;
        Ok(())
    }

    /// Streams with a higher priority are sent first; they begin with 0. A shared channel has one.
    pub(crate) fn set_priority(&mut self, priority: i32) {
        // SessionClosed already: nothing is sent on it any more.
        let _ = match &mut self.way {
            Inner::Quic(stream) => stream.set_priority(priority),
            Inner::WebTransport(stream) => stream.quic_stream_mut().set_priority(priority),
            Inner::WebSocket(_) => Ok(()),
        };
    }

    /// Nothing more will be written. Does not wait for the peer.
    pub(crate) fn finish(&mut self) {
        // Already stopped or reset: just as finished. A shared channel goes on.
        let _ = match &mut self.way {
            Inner::Quic(stream) => stream.finish(),
            Inner::WebTransport(stream) => stream.quic_stream_mut().finish(),
            Inner::WebSocket(_) => Ok(()),
        };
    }

    /// Gives up what was not sent yet.
    pub(crate) fn reset(&mut self, code: Code) {
        let number = |code| VarInt::from_u64(code).unwrap_or(VarInt::MAX);
        let _ = match &mut self.way {
            Inner::Quic(stream) => stream.reset(number(code.0.into())),
            Inner::WebTransport(stream) => {
                stream.quic_stream_mut().reset(number(webtransport_code(code.0)))
            }
            Inner::WebSocket(_) => Ok(()),
        };
    }

    /// Waits until the peer has everything, or wants no more.
    #[cfg(feature = "daemon")]
    pub(crate) async fn stopped(&mut self) {
        match &mut self.way {
            Inner::Quic(stream) => drop(stream.stopped().await),
            Inner::WebTransport(stream) => drop(stream.quic_stream_mut().stopped().await),
            // Leaving does that.
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
    /// The whole channel, or what of it is for nobody in particular.
    WebSocket(WebSocket),
    /// What of the channel is for one request.
    RequestStream(RequestStream),
}

impl RecvStream {
    /// Reads what there is, at least one piece, into the front of `pieces`; none at the end.
    /// Losing the future loses nothing.
    pub(crate) async fn read(&mut self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        let read = match self {
            Self::Quic(stream) => stream.read_chunks(pieces).await,
            Self::WebTransport(stream) => stream.quic_stream_mut().read_chunks(pieces).await,
            Self::WebSocket(channel) => return channel.read(pieces).await,
            Self::RequestStream(routed) => return routed.read(pieces).await,
        };
        read.map_err(|error| match error {
            quinn::ReadError::ConnectionLost(error) => ReadError::ConnectionLost(error.into()),
            _ => ReadError::Reset,
        })
    }

    /// Wants no more of it. A shared channel goes on.
    #[cfg(feature = "daemon")]
    pub(crate) fn stop(&mut self, code: Code) {
        let number = |code| VarInt::from_u64(code).unwrap_or(VarInt::MAX);
        // It may have come to its end: there is nothing to stop any more.
        let _ = match self {
            Self::Quic(stream) => stream.stop(number(code.0.into())),
            Self::WebTransport(stream) => {
                stream.quic_stream_mut().stop(number(webtransport_code(code.0)))
            }
            Self::WebSocket(_) | Self::RequestStream(_) => Ok(()),
        };
    }

    /// Whether each piece is a message of its own, which no frame goes beyond, and shares its
    /// memory with others.
    #[cfg(feature = "daemon")]
    pub(crate) fn is_messages(&self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    /// Whether its end is not the peer's: it was not read fast enough.
    pub(crate) fn is_cut_short(&self) -> bool {
        matches!(self, Self::RequestStream(routed) if routed.is_cut())
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
