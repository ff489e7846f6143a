//! Why a session ends.

use crate::net::error::ConnectionLost;
use crate::wire::{Code, FrameError, Refusal};

/// Why a session ends.
pub(crate) enum SessionEnd {
    /// The peer said goodbye, or its connection is gone.
    Left(String),
    /// The daemon says goodbye.
    Refused(Refusal),
}

impl From<ConnectionLost> for SessionEnd {
    fn from(ConnectionLost { code, reason }: ConnectionLost) -> Self {
        match code {
            // It may be there and unheard, as behind a network that comes back: it is to be told
            // that connecting again can help.
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
