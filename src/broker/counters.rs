//! Counters of all faces: what is delivered, and how peers connect. Adding to one is a relaxed atomic
//! addition. Deliveries add once for each read.

use crate::histogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $label:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$each])* $label,)*
        }

        impl $name {
            /// Each of them with its name in metrics.
            pub(crate) const ALL: [(Self, &'static str); [$($text),*].len()] =
                [$((Self::$label, $text)),*];
        }
    };
}

labels! {
    /// How messages are delivered.
    Mode {
        /// In order on one stream; over WebSocket all are.
        Ordered = "ordered",
        /// Each on a stream of its own.
        Unordered = "unordered",
        /// In datagrams, or on streams if they do not fit.
        Realtime = "realtime",
        /// As server-sent events.
        Events = "events",
        /// Within the process.
        Local = "local",
    }
}

labels! {
    /// Why a connection did not become a session, or a TCP connection was not accepted.
    HandshakeFailure {
        /// A limit refuses it.
        Refused = "refused",
        /// It took too long.
        TimedOut = "timed_out",
        /// TLS or QUIC failed, or the peer left.
        Failed = "failed",
        /// The origin or the host is not allowed.
        Origin = "origin",
        /// The path or the request is not that of a session.
        Request = "request",
        /// It had to give way to others.
        Displaced = "displaced",
        /// The daemon drains or stops.
        Stopping = "stopping",
    }
}

/// Counters by a label.
type By<const N: usize> = [AtomicU64; N];

/// The counters of one daemon.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    messages: By<{ Mode::ALL.len() }>,
    bytes: By<{ Mode::ALL.len() }>,
    handshake_failures: By<{ HandshakeFailure::ALL.len() }>,
    /// From the acceptance of a message until a transport has taken it, of some messages.
    pub(crate) publish_to_send: Histogram,
    /// Datagrams with messages that were sent before.
    pub(crate) repeats: Counter,
    /// Ranges of sequences that receivers have missed and requested.
    pub(crate) repair_requests: Counter,
    /// Messages that were sent again for such requests.
    pub(crate) repaired: Counter,
    /// Streams of events that are open.
    pub(crate) event_streams: Counter,
    /// Spans that a collector has taken.
    pub(crate) sent_spans: Counter,
    /// Spans that were dropped.
    pub(crate) dropped_spans: Counter,
}

/// A number that is added to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Takes back what was added, for a number of things that exist.
    pub(crate) fn take(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    /// Counts what was read for a delivery.
    pub(crate) fn deliver(&self, mode: Mode, messages: u64, bytes: u64) {
        self.messages[mode as usize].fetch_add(messages, Relaxed);
        self.bytes[mode as usize].fetch_add(bytes, Relaxed);
    }

    /// Returns the messages and the bytes of their payloads that were delivered in each mode.
    pub(crate) fn delivered(&self) -> [(&'static str, u64, u64); Mode::ALL.len()] {
        Mode::ALL.map(|(mode, name)| {
            let of = |by: &By<{ Mode::ALL.len() }>| by[mode as usize].load(Relaxed);
            (name, of(&self.messages), of(&self.bytes))
        })
    }

    pub(crate) fn handshake_failed(&self, why: HandshakeFailure) {
        self.handshake_failures[why as usize].fetch_add(1, Relaxed);
    }

    /// Returns the number of failures of each class.
    pub(crate) fn handshake_failures(&self) -> [(&'static str, u64); HandshakeFailure::ALL.len()] {
        HandshakeFailure::ALL
            .map(|(why, name)| (name, self.handshake_failures[why as usize].load(Relaxed)))
    }
}
