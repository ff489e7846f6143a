//! How often each limit has taken effect.

use crate::wire::Code;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A limit whose effects are counted. `docs/limits.md` describes each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Limit {
            $($(#[$doc])* $name,)*
        }

        impl Limit {
            /// All limits that are counted.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the name that `docs/limits.md` and metrics use.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

limits! {
    /// Sessions that were refused because the daemon had as many as it may have.
    Sessions = "sessions";
    /// Sessions that were refused because their address had as many as it may have.
    SessionsPerAddress = "sessions_per_address";
    /// Sessions that were refused because their identity had as many as it may have.
    SessionsPerIdentity = "sessions_per_identity";
    /// TCP connections that were closed because there were as many as there may be.
    Connections = "connections";
    /// TCP connections that were closed because their address had as many as it may have.
    ConnectionsPerAddress = "connections_per_address";
    /// Streams of events that were refused because there were as many as there may be.
    EventStreams = "event_streams";
    /// Streams of events that were refused because their address had as many as it may have.
    EventStreamsPerAddress = "event_streams_per_address";
    /// Handshakes that were refused because their address began too many.
    HandshakesPerAddress = "handshakes_per_address";
    /// Tokens and certificates that were refused without a look, because too many of their address had
    /// proven no identity.
    FailuresPerAddress = "failures_per_address";
    /// Peers that were refused or displaced because too many had not said what they want.
    Newcomers = "newcomers";
    /// First packets over QUIC that were answered with a Retry, because the address was unproven.
    Unproven = "unproven";
    /// Handshakes that took too long.
    HandshakeTime = "handshake_time";
    /// Sessions that ended because their hello did not arrive in time.
    HelloTime = "hello_time";
    /// Batches of frames, and pieces of bodies, after which a publisher was slowed.
    Slowed = "slowed";
    /// Publications that were refused because their publisher was above its rate.
    RateLimited = "rate_limited";
    /// Reads of subscriptions and answers that waited, because their peer had been sent too much.
    Replay = "replay";
    /// Subscriptions that were refused because their session had as many as it may have.
    Subscriptions = "subscriptions";
    /// Publications that were refused because their payload was too large.
    Payload = "payload";
    /// Sessions that ended because of a frame that was too long.
    Frame = "frame";
    /// Requests, publications and sessions that were refused for lack of memory.
    Memory = "memory";
    /// Windows of QUIC that stayed small, because the buffers of all sessions had no room.
    Buffers = "buffers";
    /// Frames, bodies and answers that made no progress, and sessions whose peer was silent.
    Time = "time";
}

/// A counter for each [`Limit`], and for the refusals of each [`Code`], since the daemon began.
#[derive(Debug)]
pub struct LimitCounts {
    limits: [AtomicU64; Limit::ALL.len()],
    refusals: [AtomicU64; Code::ALL.len()],
}

impl Default for LimitCounts {
    fn default() -> Self {
        Self {
            limits: [const { AtomicU64::new(0) }; Limit::ALL.len()],
            refusals: [const { AtomicU64::new(0) }; Code::ALL.len()],
        }
    }
}

impl LimitCounts {
    /// Returns how often a limit has taken effect.
    pub fn get(&self, limit: Limit) -> u64 {
        self.limits[limit as usize].load(Relaxed)
    }

    /// Returns every limit with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::ALL.iter().map(|limit| (*limit, self.get(*limit)))
    }

    pub(crate) fn add(&self, limit: Limit) {
        self.limits[limit as usize].fetch_add(1, Relaxed);
    }

    /// Returns how often peers were refused something, for each code.
    pub fn refusals(&self) -> impl Iterator<Item = (Code, u64)> {
        let counts = self.refusals.iter().map(|count| count.load(Relaxed));
        Code::ALL.iter().copied().zip(counts)
    }

    /// Counts a refusal that a peer gets.
    pub(crate) fn add_refusal(&self, code: Code) {
        if let Some(at) = Code::ALL.iter().position(|other| *other == code) {
            self.refusals[at].fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_counter_and_a_name_of_its_own() {
        let counts = LimitCounts::default();
        for (n, limit) in Limit::ALL.iter().enumerate() {
            assert_eq!(*limit as usize, n);
            assert!(Limit::ALL[..n].iter().all(|other| other.name() != limit.name()));
            for _ in 0..=n {
                counts.add(*limit);
            }
        }
        let all: Vec<_> = counts.iter().map(|(_, count)| count).collect();
        assert_eq!(all, (1..=Limit::ALL.len() as u64).collect::<Vec<_>>());
    }
}
