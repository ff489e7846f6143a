//! How connections and streams fail, over any transport.

use crate::wire::{Code, Refusal};

/// The session's connection was closed or lost.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLost {
    /// The code with which the peer closed, if it did.
    pub(crate) code: Option<Code>,
    /// For people.
    pub(crate) reason: String,
}

impl From<quinn::ConnectionError> for ConnectionLost {
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

/// A write failed.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The peer stopped the stream.
    Stopped,
    /// The connection was closed or lost.
    #[cfg_attr(
        not(feature = "daemon"),
        expect(dead_code, reason = "a client takes the reason from its reader")
    )]
    ConnectionLost(ConnectionLost),
}

impl From<quinn::WriteError> for WriteError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::ConnectionLost(error) => Self::ConnectionLost(error.into()),
            _ => Self::Stopped,
        }
    }
}

/// A read failed.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The peer reset the stream.
    Reset,
    /// The peer violated the protocol.
    Broken(Refusal),
    /// The connection was closed or lost.
    ConnectionLost(ConnectionLost),
}
