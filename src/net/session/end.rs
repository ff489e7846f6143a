//! Why a session ends.

use crate::net::error::Gone;
use crate::wire::{Code, FrameError, Refusal};

/// Why a session ends.
pub(crate) enum End {
    /// The peer said goodbye, or its connection is gone.
    Left(String),
    /// The daemon says goodbye.
    Refused(Refusal),
}

impl From<Gone> for End {
    fn from(Gone { code, reason }: Gone) -> Self {
        match code {
            // It may be there and unheard, as behind a network that comes back: it is to be told
            // that connecting again can help.
            Some(code @ Code::TIMED_OUT) => Self::Refused(Refusal::new(code, reason)),
            _ => Self::Left(reason),
        }
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        let code = match error {
            FrameError::TooLarge { .. } => Code::FRAME_TOO_LARGE,
            _ => Code::MALFORMED,
        };
        Self::Refused(Refusal::new(code, error.to_string()))
    }
}
