//! One session over raw QUIC or WebTransport. Both are quinn streams below; what differs is how
//! they are opened, how datagrams are wrapped, and what a reset code looks like.

use crate::wire::Code;
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
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::WebTransport => "webtransport",
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
}

impl Link {
    fn quic(&self) -> &quinn::Connection {
        match self {
            Self::Quic(connection) => connection,
            Self::WebTransport(connection) => connection.quic_connection(),
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Quic(_) => Transport::Quic,
            Self::WebTransport(_) => Transport::WebTransport,
        }
    }

    pub(crate) fn remote_address(&self) -> std::net::SocketAddr {
        self.quic().remote_address()
    }

    pub(crate) fn rtt(&self) -> std::time::Duration {
        self.quic().rtt()
    }

    // wtransport's errors say little; the connection below knows why.
    fn gone(&self, error: &impl fmt::Display) -> Gone {
        match self.quic().close_reason() {
            Some(reason) => reason.into(),
            None => Gone { code: None, reason: error.to_string() },
        }
    }

    #[cfg(feature = "daemon")]
    pub(crate) async fn accept_bi(&self) -> Result<(Tx, Rx), Gone> {
        match self {
            Self::Quic(connection) => {
                let (tx, rx) = connection.accept_bi().await?;
                Ok((Tx::Quic(tx), Rx::Quic(rx)))
            }
            Self::WebTransport(connection) => {
                let (tx, rx) = connection.accept_bi().await.map_err(|e| self.gone(&e))?;
                Ok((Tx::WebTransport(tx), Rx::WebTransport(rx)))
            }
        }
    }

    pub(crate) async fn open_bi(&self) -> Result<(Tx, Rx), Gone> {
        match self {
            Self::Quic(connection) => {
                let (tx, rx) = connection.open_bi().await?;
                Ok((Tx::Quic(tx), Rx::Quic(rx)))
            }
            Self::WebTransport(connection) => {
                let opening = connection.open_bi().await.map_err(|e| self.gone(&e))?;
                let (tx, rx) = opening.await.map_err(|e| self.gone(&e))?;
                Ok((Tx::WebTransport(tx), Rx::WebTransport(rx)))
            }
        }
    }

    pub(crate) async fn accept_uni(&self) -> Result<Rx, Gone> {
        match self {
            Self::Quic(connection) => Ok(Rx::Quic(connection.accept_uni().await?)),
            Self::WebTransport(connection) => {
                let rx = connection.accept_uni().await.map_err(|e| self.gone(&e))?;
                Ok(Rx::WebTransport(rx))
            }
        }
    }

    pub(crate) async fn open_uni(&self) -> Result<Tx, Gone> {
        match self {
            Self::Quic(connection) => Ok(Tx::Quic(connection.open_uni().await?)),
            Self::WebTransport(connection) => {
                let opening = connection.open_uni().await.map_err(|e| self.gone(&e))?;
                Ok(Tx::WebTransport(opening.await.map_err(|e| self.gone(&e))?))
            }
        }
    }

    pub(crate) async fn read_datagram(&self) -> Result<Bytes, Gone> {
        match self {
            Self::Quic(connection) => Ok(connection.read_datagram().await?),
            Self::WebTransport(connection) => {
                let datagram = connection.receive_datagram().await.map_err(|e| self.gone(&e))?;
                Ok(datagram.payload())
            }
        }
    }

    pub(crate) fn close(&self, code: Code, reason: &str) {
        self.quic().close(VarInt::from_u32(code.0), reason.as_bytes());
    }

    /// Waits until the connection is gone.
    pub(crate) async fn closed(&self) -> Gone {
        self.quic().closed().await.into()
    }
}

/// A stream to write to.
pub(crate) enum Tx {
    Quic(quinn::SendStream),
    WebTransport(wtransport::SendStream),
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
    fn stream(&mut self) -> &mut quinn::SendStream {
        match self {
            Self::Quic(stream) => stream,
            Self::WebTransport(stream) => stream.quic_stream_mut(),
        }
    }

    /// Writes all pieces, in order; they are emptied, not copied.
    pub(crate) async fn write(&mut self, pieces: &mut [Bytes]) -> Result<(), WriteError> {
        Ok(self.stream().write_all_chunks(pieces).await?)
    }

    /// Nothing more will be written. Does not wait for the peer.
    pub(crate) fn finish(&mut self) {
        // Already stopped or reset: just as finished.
        let _ = self.stream().finish();
    }

    /// Gives up what was not sent yet.
    pub(crate) fn reset(&mut self, code: Code) {
        let code = match self {
            Self::Quic(_) => code.0.into(),
            Self::WebTransport(_) => webtransport_code(code.0),
        };
        let code = VarInt::from_u64(code).unwrap_or(VarInt::MAX);
        let _ = self.stream().reset(code);
    }

    /// Waits until the peer has everything, or wants no more.
    #[cfg(feature = "daemon")]
    pub(crate) async fn stopped(&mut self) {
        let _ = self.stream().stopped().await;
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
}

/// A read went wrong.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The peer gave the stream up.
    Reset,
    /// The session is gone.
    Gone(Gone),
}

impl Rx {
    fn stream(&mut self) -> &mut quinn::RecvStream {
        match self {
            Self::Quic(stream) => stream,
            Self::WebTransport(stream) => stream.quic_stream_mut(),
        }
    }

    /// Reads what there is, at least one piece, into the front of `pieces`; none at the end.
    /// Losing the future loses nothing.
    pub(crate) async fn read(&mut self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        self.stream().read_chunks(pieces).await.map_err(|error| match error {
            quinn::ReadError::ConnectionLost(error) => ReadError::Gone(error.into()),
            _ => ReadError::Reset,
        })
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
