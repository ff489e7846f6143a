//! How connections and streams fail, whatever carries them.

use crate::wire::{Code, Refusal};

/// The session's connection is gone.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLost {
    /// The code that the peer closed with, if it did.
    pub(crate) code: Option<Code>,
    /// In words.
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

/// A write went nowhere.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The peer wants no more of this stream.
    Stopped,
    /// The session is gone.
    #[cfg_attr(
        not(feature = "daemon"),
        expect(dead_code, reason = "a client asks who reads: that knows why")
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

/// A read went wrong.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The peer gave the stream up.
    Reset,
    /// What came cannot be read.
    Broken(Refusal),
    /// The session is gone.
    ConnectionLost(ConnectionLost),
}
