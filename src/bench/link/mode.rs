//! The modes that `weir bench link` compares.

use crate::wire::Delivery;
use clap::ValueEnum;

/// A delivery mode, or WebSocket with a congestion control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Datagrams, repaired from the cache.
    Realtime,
    /// A stream for each message.
    Unordered,
    /// One stream.
    Ordered,
    /// WebSocket over TLS; CUBIC is what most servers run.
    WebsocketCubic,
    /// WebSocket over TLS; BBR.
    WebsocketBbr,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Unordered => "unordered",
            Self::Ordered => "ordered",
            Self::WebsocketCubic => "websocket-cubic",
            Self::WebsocketBbr => "websocket-bbr",
        }
    }

    /// The congestion control of TCP at both ends.
    pub(super) fn congestion(self) -> Option<&'static str> {
        match self {
            Self::WebsocketCubic => Some("cubic"),
            Self::WebsocketBbr => Some("bbr"),
            _ => None,
        }
    }

    pub(super) fn delivery(self) -> Delivery {
        match self {
            Self::Realtime => Delivery::Realtime,
            Self::Unordered => Delivery::Unordered,
            Self::Ordered | Self::WebsocketCubic | Self::WebsocketBbr => Delivery::Ordered,
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
