//! Why something ended or was refused: one number each, in one place.

use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal, $retry:literal;)*) => {
        /// A close or error code. The same number is in [`DaemonFrame::Goodbye`], in
        /// [`DaemonFrame::Failed`], in stream resets and in the QUIC `CONNECTION_CLOSE`
        /// (RFC 9000, section 19.19).
        ///
        /// [`DaemonFrame::Goodbye`]: super::DaemonFrame::Goodbye
        /// [`DaemonFrame::Failed`]: super::DaemonFrame::Failed
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct Code(pub u32);

        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Every code that this version knows.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// A short name, as in logs and `--json`.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($value => $text,)*
                    _ => "unknown",
                }
            }

            /// Whether trying again, or reconnecting, can help without changing anything.
            pub const fn retry(self) -> bool {
                match self.0 {
                    $($value => $retry,)*
                    _ => false,
                }
            }
        }
    };
}

codes! {
    /// The peer is done; nothing went wrong.
    DONE = 0x00, "done", false;
    /// The daemon stops. Reconnect, to it or to another.
    SHUTTING_DOWN = 0x01, "shutting_down", true;
    /// The daemon cannot take more now.
    OVERLOADED = 0x02, "overloaded", true;
    /// The peer was not heard of in time, or did not say hello in time.
    TIMED_OUT = 0x03, "timed_out", true;

    /// Bytes that are not a frame.
    MALFORMED = 0x10, "malformed", false;
    /// A protocol version that the daemon does not speak.
    VERSION = 0x11, "version", false;
    /// A frame that may not stand here, such as one before the hello.
    UNEXPECTED = 0x12, "unexpected", false;
    /// Well-formed, but not offered by this daemon or on this transport.
    UNSUPPORTED = 0x13, "unsupported", false;
    /// A frame longer than its limit.
    FRAME_TOO_LARGE = 0x14, "frame_too_large", false;

    /// Not a topic.
    BAD_TOPIC = 0x20, "bad_topic", false;
    /// Not a filter.
    BAD_FILTER = 0x21, "bad_filter", false;
    /// A payload above the daemon's limit.
    PAYLOAD_TOO_LARGE = 0x22, "payload_too_large", false;
    /// A topic below `$weir/`, which is the daemon's own.
    RESERVED = 0x23, "reserved", false;
    /// A topic alias that was not declared, or declared twice with different names.
    BAD_ALIAS = 0x24, "bad_alias", false;
    /// A request number already in use, or a subscription that there is not.
    BAD_REQUEST = 0x25, "bad_request", false;
    /// More subscriptions in one session than its limit.
    TOO_MANY_SUBSCRIPTIONS = 0x26, "too_many_subscriptions", false;
    /// A publication whose number fell out of the producer's window: whether it was counted
    /// before can no longer be told, so it was not counted again.
    STALE = 0x28, "stale", false;

    /// Nothing by that sequence or digest, and there never was as far as the daemon knows.
    NOT_FOUND = 0x30, "not_found", false;
    /// It was there, and has left the cache.
    EVICTED = 0x31, "evicted", false;

    /// A token is wanted and none, or a wrong one, was shown.
    UNAUTHORIZED = 0x40, "unauthorized", false;
    /// The token does not allow this.
    FORBIDDEN = 0x41, "forbidden", false;
    /// Too fast for the limits.
    RATE_LIMITED = 0x42, "rate_limited", true;

    /// A subscription that asked to be ended when it falls out of the cache did; or one held up
    /// topics that had to make room.
    LAGGED = 0x50, "lagged", true;
    /// The publisher went away half-way through a payload.
    PUBLISHER_GONE = 0x51, "publisher_gone", true;
    /// A large message that arrives slowly made way for another on its stream: it comes again, from
    /// its beginning, when it is complete.
    OVERTAKEN = 0x52, "overtaken", true;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02x})", self.name(), self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A code with the reason in words: what was wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The number.
    pub code: Code,
    /// One line in English.
    pub reason: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_named() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_ne!(code.name(), "unknown");
            assert!(!Code::ALL[..index].contains(code), "{code} stands twice");
        }
        assert_eq!(Code(0xffff).name(), "unknown");
        assert!(Code::SHUTTING_DOWN.retry() && !Code::MALFORMED.retry());
    }
}
