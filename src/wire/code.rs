//! The codes of errors and endings. This is the only place that gives them numbers.

use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal, $retry:literal;)*) => {
        /// A close or error code. [`DaemonFrame::Goodbye`], [`DaemonFrame::Failed`], stream resets
        /// and the QUIC `CONNECTION_CLOSE` (RFC 9000, section 19.19) use the same numbers.
        ///
        /// [`DaemonFrame::Goodbye`]: super::DaemonFrame::Goodbye
        /// [`DaemonFrame::Failed`]: super::DaemonFrame::Failed
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct Code(pub u32);

        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// All codes of this version.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the short name that logs and `--json` print.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($value => $text,)*
                    _ => "unknown",
                }
            }

            /// Returns whether a retry or a reconnect may succeed although nothing was changed.
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
    /// The peer has finished, without an error.
    DONE = 0x00, "done", false;
    /// The daemon stops. The client may reconnect, to it or to another daemon.
    SHUTTING_DOWN = 0x01, "shutting_down", true;
    /// The daemon has no capacity for this at the moment.
    OVERLOADED = 0x02, "overloaded", true;
    /// The peer was silent for too long, or sent its hello too late.
    TIMED_OUT = 0x03, "timed_out", true;
    /// The daemon cannot keep publications at the moment, because its journal cannot be written.
    UNAVAILABLE = 0x04, "unavailable", true;
    /// The daemon accepts publications and does not keep them, because its journal cannot be
    /// written. They are lost if it ends before the journal can be written again.
    UNKEPT = 0x05, "unkept", true;

    /// The bytes are not a frame.
    MALFORMED = 0x10, "malformed", false;
    /// The daemon does not support the protocol version.
    VERSION = 0x11, "version", false;
    /// The frame is not allowed in this state, such as one before the hello.
    UNEXPECTED = 0x12, "unexpected", false;
    /// The frame is well-formed, but this daemon or this transport does not support it.
    UNSUPPORTED = 0x13, "unsupported", false;
    /// The frame is longer than its limit.
    FRAME_TOO_LARGE = 0x14, "frame_too_large", false;

    /// The text is not a topic.
    BAD_TOPIC = 0x20, "bad_topic", false;
    /// The text is not a filter.
    BAD_FILTER = 0x21, "bad_filter", false;
    /// The payload is larger than the daemon's limit.
    PAYLOAD_TOO_LARGE = 0x22, "payload_too_large", false;
    /// The topic is below `$weir/`, which is reserved for the daemon.
    RESERVED = 0x23, "reserved", false;
    /// The topic alias was not declared, or was declared twice with different names.
    BAD_ALIAS = 0x24, "bad_alias", false;
    /// The request number is in use already, or names a subscription that does not exist.
    BAD_REQUEST = 0x25, "bad_request", false;
    /// The session has as many subscriptions as it may have.
    TOO_MANY_SUBSCRIPTIONS = 0x26, "too_many_subscriptions", false;
    /// The publication's number has left the producer's window. The daemon cannot tell whether it
    /// counted the publication before, and did not count it again.
    STALE = 0x28, "stale", false;

    /// The daemon has no message with that sequence or digest, and knows of none that it had.
    NOT_FOUND = 0x30, "not_found", false;
    /// The message has left the cache.
    EVICTED = 0x31, "evicted", false;

    /// The daemon requires a token, and the peer sent none or a wrong one.
    UNAUTHORIZED = 0x40, "unauthorized", false;
    /// The token does not allow this.
    FORBIDDEN = 0x41, "forbidden", false;
    /// The peer exceeds a rate limit.
    RATE_LIMITED = 0x42, "rate_limited", true;
    /// The rights of the session have ended with its token. The client may connect again with a new
    /// one.
    TOKEN_EXPIRED = 0x43, "token_expired", true;

    /// Messages that the subscription needed were evicted, and it had asked to be ended then. Or
    /// the subscription blocked the eviction of topics that had to make room.
    LAGGED = 0x50, "lagged", true;
    /// The publisher left before its payload was complete.
    PUBLISHER_GONE = 0x51, "publisher_gone", true;
    /// A large message that arrives slowly was interrupted by another one on its stream. The daemon
    /// sends it again, from its beginning, when it is complete.
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

/// A code, and the reason in words: what was wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// One line in English.
    pub reason: Cow<'static, str>,
}

impl Refusal {
    /// Creates a refusal.
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
