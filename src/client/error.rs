//! What can go wrong for a client, by operation. Each message is one line that says what to do.

use crate::net::error::ConnectionLost;
use crate::net::transport::Transport;
use crate::tls::TlsError;
use crate::wire::{Code, MAX_ALIASES, NameError, Refusal};
use std::path::PathBuf;
use std::time::Duration;

/// The session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the session is over: {reason}")]
pub struct SessionClosed {
    /// The code that the daemon gave, if it said goodbye.
    pub code: Option<Code>,
    /// In words.
    pub reason: String,
}

impl From<ConnectionLost> for SessionClosed {
    fn from(ConnectionLost { code, reason }: ConnectionLost) -> Self {
        match (code, reason.is_empty()) {
            (Some(code), true) => Self { code: Some(code), reason: code.to_string() },
            (code, _) => Self { code, reason },
        }
    }
}

/// Why [`Client::connect`](super::Client::connect) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name is not known.
    #[error("{server}: {reason}: give the daemon's HOST:PORT (--server)")]
    Address {
        /// As given.
        server: String,
        /// What the system says.
        reason: String,
    },
    /// Nothing listens there.
    #[error(
        "no daemon at {server}: start one with `weir serve`, or name another (--server HOST:PORT)"
    )]
    NotRunning {
        /// As given.
        server: String,
    },
    /// No answer.
    #[error(
        "no answer from {server} over {transport} within {:.0} s: is the daemon running there, \
         and may {}",
        after.as_secs_f64(),
        passage(*transport)
    )]
    NoAnswer {
        /// As given.
        server: String,
        /// What was tried.
        transport: Transport,
        /// How long it was waited for.
        after: Duration,
    },
    /// Neither transport that was tried.
    #[error("{quic}; and over websocket: {websocket}")]
    Neither {
        /// What became of raw QUIC.
        quic: Box<ConnectError>,
        /// What became of WebSocket.
        websocket: Box<ConnectError>,
    },
    /// On loopback, and no certificate to expect.
    #[error(
        "no daemon has left its certificate in {}: start one here with `weir serve`, or say what \
         to trust (--cert-hash HEX, --ca FILE)",
        list(places)
    )]
    NoCertificate {
        /// Where it was looked for.
        places: Vec<PathBuf>,
    },
    /// The daemon's certificate is not the right one.
    #[error(
        "the certificate of {server} is not trusted: {reason}: give the hash that `weir serve` \
         printed (--cert-hash HEX), or the authority's file (--ca FILE)"
    )]
    Certificate {
        /// As given.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The daemon said goodbye at once.
    #[error("{server} refused the session: {refusal}")]
    Refused {
        /// As given.
        server: String,
        /// Why.
        refusal: Refusal,
    },
    /// The connection failed.
    #[error("{server}: {reason}")]
    Transport {
        /// As given.
        server: String,
        /// How.
        reason: String,
    },
    /// The configuration.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The local socket.
    #[error("opening a UDP socket: {0}")]
    Socket(#[from] std::io::Error),
}

fn passage(transport: Transport) -> &'static str {
    match transport {
        Transport::Quic | Transport::WebTransport => {
            "UDP pass to it? (--transport auto tries TCP as well)"
        }
        Transport::WebSocket => "TCP pass to it?",
    }
}

fn list(places: &[PathBuf]) -> String {
    let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    places.join(" or ")
}

/// Why a publication was not accepted, or not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Not a topic.
    #[error(transparent)]
    Topic(#[from] NameError),
    /// Above the daemon's limit.
    #[error(
        "a payload of {size} bytes is above the daemon's limit of {limit} bytes (limits.payload)"
    )]
    TooLarge {
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: u64,
    },
    /// One more topic than a session may publish to.
    #[error("a session publishes to {MAX_ALIASES} topics at most: connect once more for others")]
    TooManyTopics,
    /// The daemon refused it.
    #[error("{0}")]
    Refused(Refusal),
    /// The session ended before the receipt came: it may have been accepted or not.
    #[error(transparent)]
    Closed(#[from] SessionClosed),
}

/// Why [`Client::subscribe`](super::Client::subscribe) failed, or a subscription ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// Not a filter.
    #[error(transparent)]
    Filter(#[from] NameError),
    /// The daemon refused or ended it.
    #[error("{0}")]
    Refused(Refusal),
    /// The session ended.
    #[error(transparent)]
    Closed(#[from] SessionClosed),
    /// The daemon sent what this client does not understand.
    #[error("the daemon broke the protocol: {0}: update the older of the two")]
    Protocol(String),
}

/// Why a question was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not a topic.
    #[error(transparent)]
    Topic(#[from] NameError),
    /// The daemon has no answer; see the code.
    #[error("{0}")]
    Refused(Refusal),
    /// The session ended.
    #[error(transparent)]
    Closed(#[from] SessionClosed),
    /// The daemon sent what this client does not understand.
    #[error("the daemon broke the protocol: {0}: update the older of the two")]
    Protocol(String),
}
