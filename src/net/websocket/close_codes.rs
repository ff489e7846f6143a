//! Why a channel was closed or lost: close codes (RFC 6455, section 7.4) and tungstenite's errors.

use crate::net::error::{ConnectionLost, ReadError};
use crate::wire::{Code, Refusal};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// The first close code of this protocol. RFC 6455 reserves 4000 to 4999 for private use.
const CODES: u16 = 4000;

/// A close frame with `code` and as much of `reason` as fits.
pub(super) fn close_frame(code: Code, reason: &str) -> CloseFrame {
    let number = match code {
        Code::DONE => 1000,
        Code(code) => CODES + u16::try_from(code).unwrap_or(999).min(999),
    };
    // A control frame holds 125 bytes. The code takes two of them.
    let end = (0..=reason.len().min(123)).rev().find(|end| reason.is_char_boundary(*end));
    CloseFrame { code: number.into(), reason: reason[..end.unwrap_or(0)].into() }
}

/// The reason in the peer's close frame.
pub(super) fn closed(close: Option<CloseFrame>) -> ConnectionLost {
    let Some(CloseFrame { code, reason }) = close else {
        return ConnectionLost {
            code: None,
            reason: "the WebSocket was closed without a reason".into(),
        };
    };
    let number = u16::from(code);
    let code = match number {
        1000 => Some(Code::DONE),
        4000..=4999 => Some(Code(u32::from(number - CODES))),
        _ => None,
    };
    let reason = match (code, reason.is_empty()) {
        (None, true) => format!("the WebSocket was closed with code {number}"),
        _ => reason.as_str().to_owned(),
    };
    ConnectionLost { code, reason }
}

/// The reason when the channel was lost without a close frame.
pub(super) fn connection_lost(error: &Error) -> ConnectionLost {
    ConnectionLost { code: None, reason: format!("the WebSocket was lost: {error}") }
}

/// The peer's violation of the protocol, or the loss of the channel.
pub(super) fn failure(error: &Error) -> ReadError {
    let broken = |code| ReadError::Broken(Refusal::new(code, error.to_string()));
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            ReadError::Broken(Refusal::new(
                Code::FRAME_TOO_LARGE,
                format!("a WebSocket message of {size} bytes is above the limit of {max_size}"),
            ))
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            ReadError::ConnectionLost(connection_lost(error))
        }
        Error::Protocol(_) | Error::Utf8(_) | Error::AttackAttempt | Error::Capacity(_) => {
            broken(Code::MALFORMED)
        }
        _ => ReadError::ConnectionLost(connection_lost(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_as_they_were_sent() {
        for code in Code::ALL {
            let frame = close_frame(*code, "why");
            let number = u16::from(frame.code);
            assert!(if *code == Code::DONE {
                number == 1000
            } else {
                number == 4000 + code.0 as u16
            });
            let lost = closed(Some(frame));
            assert_eq!((lost.code, &*lost.reason), (Some(*code), "why"));
        }
        assert_eq!(u16::from(close_frame(Code(70_000), "").code), 4999);
        let going_away = CloseFrame { code: 1001.into(), reason: "".into() };
        let lost = closed(Some(going_away));
        assert_eq!(lost.code, None);
        assert!(lost.reason.contains("1001"), "{}", lost.reason);
        assert_eq!(closed(None).code, None);
    }

    #[test]
    fn a_reason_is_cut_where_a_character_ends() {
        let reason = format!("{}ü and more", "x".repeat(122));
        assert_eq!(close_frame(Code::MALFORMED, &reason).reason.as_str(), "x".repeat(122));
        let fits = "ü".repeat(61);
        assert_eq!(close_frame(Code::MALFORMED, &fits).reason.as_str(), fits);
    }
}
