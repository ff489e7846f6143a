//! The cases of `weir bench latency`.

use crate::Transport;
use crate::wire::Delivery;

/// A transport and a delivery mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) transport: Transport,
    pub(super) delivery: Delivery,
}

/// The others are compared with the last one.
pub(super) const CASES: [Case; 7] = {
    const fn case(transport: Transport, delivery: Delivery) -> Case {
        Case { transport, delivery }
    }
    [
        case(Transport::Quic, Delivery::Ordered),
        case(Transport::Quic, Delivery::Unordered),
        case(Transport::Quic, Delivery::Realtime),
        case(Transport::WebTransport, Delivery::Ordered),
        case(Transport::WebTransport, Delivery::Unordered),
        case(Transport::WebTransport, Delivery::Realtime),
        case(Transport::WebSocket, Delivery::Ordered),
    ]
};

pub(super) const YARDSTICK: usize = CASES.len() - 1;

impl Case {
    pub(super) fn mode(self) -> &'static str {
        match self.delivery {
            Delivery::Unordered => "unordered",
            Delivery::Realtime => "realtime",
            Delivery::Ordered => "ordered",
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.transport {
            Transport::WebSocket => f.write_str("websocket"),
            transport => write!(f, "{transport} {}", self.mode()),
        }
    }
}
