//! What one subscription knows of the path to its peer: how long it is, whether packets queue up on
//! it, whether it loses any, and what fits a datagram.

use crate::net::quic::congestion::AckStats;
use crate::net::transport::connection::Connection;
use crate::wire::realtime::{Congestion, repeat_after};
use tokio::time::Instant;

/// How often the round-trip time is looked at, 20 ms, in µs.
const SAMPLE: u64 = 20_000;

/// How often a path that seems long is asked how short it can be, 1 s, in µs: that takes a copy of
/// its controller.
const LOOK: u64 = 1_000_000;

/// How long a path that has lost something is not trusted, 10 s in µs.
pub(crate) const DISTRUST: u64 = 10_000_000;

/// What is known of the path. Times are µs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PathEstimate {
    pub(crate) rtt: u64,
    /// The shortest round trip that there has been: without what queues add, or busy programs at
    /// the ends. 0 before one is known.
    pub(crate) shortest: u64,
    /// What was sent up to then has been acknowledged, or was lost before.
    pub(crate) acked_through: Option<u64>,
    /// When something was last found to be lost.
    pub(crate) lost: Option<u64>,
}

impl PathEstimate {
    /// Whether what was sent then is known to have arrived.
    pub(crate) fn has_brought(&self, sent: u64) -> bool {
        self.acked_through >= Some(sent) && self.lost.is_none_or(|lost| lost < sent)
    }

    /// Whether nothing is known to have been lost lately.
    pub(crate) fn is_trusted(&self, now: u64) -> bool {
        self.lost.is_none_or(|lost| now >= lost.saturating_add(DISTRUST))
    }

    /// Whether datagrams are worth repeating: where the path is short, and only those at its ends
    /// are busy, asking is as fast, and repeats make them busier.
    pub(crate) fn is_long(&self) -> bool {
        repeat_after(self.rtt.min(self.shortest)).is_some()
    }
}

/// The path, looked at again from time to time.
#[derive(Debug)]
pub(crate) struct PathMonitor {
    begun: Instant,
    pub(crate) path: PathEstimate,
    congestion: Congestion,
    /// Whether packets queue up.
    pub(crate) congested: bool,
    /// Bytes that a datagram holds.
    pub(crate) size: usize,
    sampled: Option<u64>,
    looked: Option<u64>,
}

impl PathMonitor {
    pub(crate) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            path: PathEstimate::default(),
            congestion: Congestion::default(),
            congested: false,
            size: 0,
            sampled: None,
            looked: None,
        }
    }

    /// µs since it began.
    pub(crate) fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// When that is.
    pub(crate) fn at(&self, now: u64) -> Instant {
        self.begun + std::time::Duration::from_micros(now)
    }

    /// Looks at what changes, unless it was looked at just now.
    pub(crate) fn sample(&mut self, connection: &Connection, now: u64) {
        if self.sampled.is_some_and(|at| now < at + SAMPLE) {
            return;
        }
        self.sampled = Some(now);
        self.path.rtt = connection.rtt().map_or(0, |rtt| rtt.as_micros() as u64);
        if repeat_after(self.path.rtt).is_some() && self.looked.is_none_or(|at| now >= at + LOOK) {
            self.look(connection, now);
        }
        self.congested = self.congestion.sample(now, self.path.rtt);
        self.size = connection.datagram_size().unwrap_or(0);
    }

    /// Looks at what acknowledgements have told.
    pub(crate) fn look(&mut self, connection: &Connection, now: u64) -> PathEstimate {
        let AckStats { acked_through, last_loss, min_rtt } = connection.ack_stats();
        let since = |at| Instant::from_std(at).duration_since(self.begun).as_micros() as u64;
        self.looked = Some(now);
        self.path.shortest = min_rtt.map_or(0, |rtt| rtt.as_micros() as u64);
        self.path.acked_through = acked_through.map(since);
        self.path.lost = last_loss.map(since);
        self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_path_between_busy_hosts_is_not_long() {
        let busy = PathEstimate { rtt: 40_000, shortest: 300, ..PathEstimate::default() };
        assert!(!busy.is_long());
        assert!(
            !PathEstimate { rtt: 40_000, ..PathEstimate::default() }.is_long(),
            "not looked at yet"
        );
        assert!(
            PathEstimate { rtt: 60_000, shortest: 50_000, ..PathEstimate::default() }.is_long()
        );
        // As after a change of networks, before it is looked at again.
        assert!(
            !PathEstimate { rtt: 1_000, shortest: 50_000, ..PathEstimate::default() }.is_long()
        );
    }
}
