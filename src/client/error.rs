//! Errors of a client, one type for each operation. Each text is one line that says what to do.

use crate::net::error::ConnectionLost;
use crate::net::transport::Transport;
use crate::tls::TlsError;
use crate::wire::{Code, MAX_ALIASES, NameError, Refusal};
use std::path::PathBuf;
use std::time::Duration;

/// The session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the session is over: {reason}")]
#[non_exhaustive]
pub struct SessionClosed {
    /// The code of the daemon's goodbye, if it sent one.
    pub code: Option<Code>,
    /// The reason in words.
    pub reason: String,
    /// Whether another session may succeed although nothing was changed: the daemon says so, or the
    /// connection was lost.
    pub retry: bool,
}

impl From<ConnectionLost> for SessionClosed {
    fn from(ConnectionLost { code, reason }: ConnectionLost) -> Self {
        let retry = code.is_none_or(Code::retry);
        let reason = match code {
            Some(code) if reason.is_empty() => code.to_string(),
            _ => reason,
        };
        Self { code, reason, retry }
    }
}

impl SessionClosed {
    /// Returns the reason of a failed attempt to open a session.
    pub(super) fn not_connected(error: &ConnectError) -> Self {
        let code = match error {
            ConnectError::Refused { refusal, .. } => Some(refusal.code),
            _ => None,
        };
        Self { code, reason: error.to_string(), retry: error.may_pass() }
    }
}

/// Returns the reason of a session that this program closed.
pub(super) fn closed_here() -> SessionClosed {
    let reason = "closed by this client".into();
    SessionClosed { code: Some(Code::DONE), reason, retry: false }
}

/// Why [`Client::connect`](super::Client::connect) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server's name is malformed, or cannot be resolved.
    #[error("{server}: {reason}: give the daemon's HOST:PORT (--server)")]
    Address {
        /// As given.
        server: String,
        /// The system's error.
        reason: String,
    },
    /// No daemon listens at the address.
    #[error(
        "no daemon at {server}: start one with `weir serve`, or name another (--server HOST:PORT)"
    )]
    NotRunning {
        /// As given.
        server: String,
    },
    /// The daemon did not answer in time.
    #[error(
        "no answer from {server} over {transport} within {:.0} s: is the daemon running there, \
         and may {}",
        after.as_secs_f64(),
        passage(*transport)
    )]
    NoAnswer {
        /// As given.
        server: String,
        /// The transport that was tried.
        transport: Transport,
        /// How long the client waited.
        after: Duration,
    },
    /// The function that fetches the token failed: see
    /// [`Builder::token_from`](super::Builder::token_from).
    #[error("no token: {0}")]
    Token(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Both transports failed.
    #[error("{quic}; and over websocket: {websocket}")]
    Neither {
        /// The error of raw QUIC.
        quic: Box<ConnectError>,
        /// The error of WebSocket.
        websocket: Box<ConnectError>,
    },
    /// The server is on this machine, and no daemon has left a certificate to expect.
    #[error(
        "no daemon has left its certificate in {}: start one here with `weir serve`, or say what \
         to trust (--cert-hash HEX, --ca FILE)",
        list(places)
    )]
    NoCertificate {
        /// The directories that were searched.
        places: Vec<PathBuf>,
    },
    /// The daemon's certificate is not trusted.
    #[error(
        "the certificate of {server} is not trusted: {reason}: give the hash that `weir serve` \
         printed (--cert-hash HEX), or the authority's file (--ca FILE)"
    )]
    Certificate {
        /// As given.
        server: String,
        /// The reason in words.
        reason: String,
    },
    /// The daemon refused the session.
    #[error("{server} refused the session: {refusal}")]
    Refused {
        /// As given.
        server: String,
        /// The reason.
        #[source]
        refusal: Refusal,
    },
    /// The connection failed.
    #[error("{server}: {reason}")]
    Transport {
        /// As given.
        server: String,
        /// The reason in words.
        reason: String,
    },
    /// The client's TLS configuration is wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The client cannot open a socket.
    #[error("opening a UDP socket: {0}")]
    Socket(#[source] std::io::Error),
}

impl ConnectError {
    /// Returns whether the same attempt may succeed later. A name that cannot be resolved may be
    /// known later. A certificate of the daemon, or its refusal, remains the same, unless the daemon says
    /// otherwise.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Address { .. }
            | Self::NotRunning { .. }
            | Self::NoAnswer { .. }
            | Self::NoCertificate { .. }
            | Self::Transport { .. }
            | Self::Token(_)
            | Self::Socket(_)
            // A tool may be replacing the files.
            | Self::Tls(TlsError::Own(_)) => true,
            Self::Neither { quic, websocket } => quic.may_pass() && websocket.may_pass(),
            Self::Refused { refusal, .. } => refusal.code.retry(),
            Self::Certificate { .. } | Self::Tls(_) => false,
        }
    }
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
    let places: Vec<_> = places.iter().map(|progress| progress.display().to_string()).collect();
    places.join(" or ")
}

/// Why a publication was not accepted, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The text is not a topic.
    #[error(transparent)]
    Topic(#[from] NameError),
    /// The payload is larger than the daemon's limit.
    #[error(
        "a payload of {size} bytes is above the daemon's limit of {limit} bytes (limits.payload)"
    )]
    TooLarge {
        /// Size of the payload, bytes.
        size: usize,
        /// The limit, bytes.
        limit: u64,
    },
    /// The client already publishes to as many topics as it may.
    #[error("a client publishes to {MAX_ALIASES} topics at most: connect once more for others")]
    TooManyTopics,
    /// The client has no session at the moment, and as many publications as it may keep wait for the
    /// next one. This publication was not sent, and will not be.
    #[error(
        "there is no session with the daemon at the moment, and {publications} publications of \
         {bytes} bytes wait for the next one: publish again when it is open"
    )]
    Backlog {
        /// Number of publications that wait.
        publications: usize,
        /// Size of their payloads together, bytes.
        bytes: usize,
    },
    /// The lifetime of the publication passed before the daemon acknowledged it. The daemon may have
    /// accepted it or not. It is not sent again.
    #[error(
        "no acknowledgement within {:.1} s: the daemon may have accepted the publication or not",
        .0.as_secs_f64()
    )]
    Expired(Duration),
    /// The daemon rejected it.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The client closed before the receipt arrived. The daemon may have accepted the publication.
    #[error(transparent)]
    Closed(#[from] SessionClosed),
}

/// Why [`Client::subscribe`](super::Client::subscribe) failed, or a subscription ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The text is not a filter.
    #[error(transparent)]
    Filter(#[from] NameError),
    /// The daemon refused or ended the subscription.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The client closed, and does not reconnect.
    #[error(transparent)]
    Closed(#[from] SessionClosed),
    /// The daemon sent a frame that this client does not understand.
    #[error("the daemon broke the protocol: {0}: update the older of the two")]
    Protocol(String),
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The text is not a topic.
    #[error(transparent)]
    Topic(#[from] NameError),
    /// The daemon refused the request; see the code.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The client closed, and does not reconnect.
    #[error(transparent)]
    Closed(#[from] SessionClosed),
    /// The daemon sent a frame that this client does not understand.
    #[error("the daemon broke the protocol: {0}: update the older of the two")]
    Protocol(String),
}
