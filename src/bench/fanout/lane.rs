//! A lane: a server that relays messages, with a transport, a delivery mode and a number of cores.

use crate::Transport;
use crate::wire::Delivery;
use clap::ValueEnum;

/// A delivery mode, as it is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// One stream for each subscriber.
    Ordered,
    /// A stream for each message.
    Unordered,
    /// Datagrams, repaired from the cache; published in datagrams too.
    Realtime,
}

impl From<Mode> for Delivery {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Ordered => Self::Ordered,
            Mode::Unordered => Self::Unordered,
            Mode::Realtime => Self::Realtime,
        }
    }
}

/// The server that relays the messages of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Weir(Transport, Mode),
    Nats { tls: bool },
}

impl Subject {
    pub(super) const WEBSOCKET: Self = Self::Weir(Transport::WebSocket, Mode::Ordered);
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Weir(Transport::WebSocket, _) => f.write_str("websocket"),
            Self::Weir(transport, Mode::Ordered) => write!(f, "{transport} ordered"),
            Self::Weir(transport, Mode::Unordered) => write!(f, "{transport} unordered"),
            Self::Weir(transport, Mode::Realtime) => write!(f, "{transport} realtime"),
            Self::Nats { tls: false } => f.write_str("nats, plain"),
            Self::Nats { tls: true } => f.write_str("nats, TLS"),
        }
    }
}

/// A server on a number of cores. Lanes take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) subject: Subject,
    pub(super) cores: Option<usize>,
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.subject.fmt(f)?;
        match self.cores {
            None => Ok(()),
            Some(1) => f.write_str(", 1 core"),
            Some(cores) => write!(f, ", {cores} cores"),
        }
    }
}
