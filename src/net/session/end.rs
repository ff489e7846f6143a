//! Why a session ends.

use crate::net::error::ConnectionLost;
use crate::wire::{Code, FrameError, Refusal};

/// Why a session ends.
pub(crate) enum SessionEnd {
    /// The peer said goodbye, or its connection was lost.
    Left(String),
    /// The daemon says goodbye.
    Refused(Refusal),
}

impl From<ConnectionLost> for SessionEnd {
    fn from(ConnectionLost { code, reason }: ConnectionLost) -> Self {
        match code {
            // The peer may still be there, behind a network that recovers. The goodbye says that
            // it can connect again.
            Some(code @ Code::TIMED_OUT) => Self::Refused(Refusal::new(code, reason)),
            _ => Self::Left(reason),
        }
    }
}

impl From<Refusal> for SessionEnd {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<FrameError> for SessionEnd {
    fn from(error: FrameError) -> Self {
        let code = match error {
            FrameError::TooLarge { .. } => Code::FRAME_TOO_LARGE,
            _ => Code::MALFORMED,
        };
        Self::Refused(Refusal::new(code, error.to_string()))
    }
}
