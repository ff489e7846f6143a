//! One delivery's view of the path to its peer: the round-trip time, whether packets queue
//! up on it, its losses, and the size of a datagram.

use crate::net::quic::congestion::AckStats;
use crate::net::transport::connection::Connection;
use crate::wire::realtime::{Congestion, repeat_after};
use std::net::SocketAddr;
use tokio::time::Instant;

/// Interval between samples of the round-trip time, 20 ms in µs.
const SAMPLE: u64 = 20_000;

/// Interval between reads of the acknowledgements while the round trip seems long, 1 s in µs. Each
/// read copies the connection's congestion controller.
const READ_ACKS: u64 = 1_000_000;

/// For this long after a loss the path is not trusted, 10 s in µs.
pub(crate) const DISTRUST: u64 = 10_000_000;

/// Estimates of the path. Times are µs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PathEstimate {
    pub(crate) rtt: u64,
    /// The shortest round trip so far: without queues on the path, or busy programs at its ends.
    /// 0 until one is known.
    pub(crate) min_rtt: u64,
    /// Everything sent up to this time was acknowledged, or was lost before.
    pub(crate) acked_through: Option<u64>,
    /// When a loss was last detected.
    pub(crate) last_loss: Option<u64>,
}

impl PathEstimate {
    /// Whether everything sent at `sent` is known to have arrived.
    pub(crate) fn has_delivered(&self, sent: u64) -> bool {
        self.acked_through >= Some(sent) && self.last_loss.is_none_or(|lost| lost < sent)
    }

    /// Whether no loss was detected recently.
    pub(crate) fn is_trusted(&self, now: u64) -> bool {
        self.last_loss.is_none_or(|lost| now >= lost.saturating_add(DISTRUST))
    }

    /// Whether datagrams are worth repeating. On a short path between busy hosts a repair request
    /// is as fast, and repeats would make the hosts busier.
    pub(crate) fn is_long(&self) -> bool {
        repeat_after(self.rtt.min(self.min_rtt)).is_some()
    }
}

/// The path, sampled from time to time.
#[derive(Debug)]
pub(crate) struct PathMonitor {
    begun: Instant,
    pub(crate) path: PathEstimate,
    congestion: Congestion,
    /// Whether packets queue up.
    pub(crate) congested: bool,
    /// Maximum size of a datagram, bytes.
    pub(crate) datagram_size: usize,
    sampled: Option<u64>,
    acks_read: Option<u64>,
    // The peer's address, and when it was found to have changed.
    remote: Option<SocketAddr>,
    changed: Option<u64>,
}

impl PathMonitor {
    pub(crate) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            remote: None,
            changed: None,
            path: PathEstimate::default(),
            congestion: Congestion::default(),
            congested: false,
            datagram_size: 0,
            sampled: None,
            acks_read: None,
        }
    }

    /// µs since the monitor began.
    pub(crate) fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// The instant `now` µs after the monitor began.
    pub(crate) fn at(&self, now: u64) -> Instant {
        self.begun + std::time::Duration::from_micros(now)
    }

    /// Samples the connection, unless the last sample is recent.
    pub(crate) fn sample(&mut self, connection: &Connection, now: u64) {
        if self.sampled.is_some_and(|at| now < at + SAMPLE) {
            return;
        }
        self.follow(connection.remote_address(), now);
        self.sampled = Some(now);
        self.path.rtt = connection.rtt().map_or(0, |rtt| rtt.as_micros() as u64);
        // A new path has no shortest round trip until something was acknowledged.
        let unknown = self.path.min_rtt == 0;
        let acks_are_old = unknown || self.acks_read.is_none_or(|at| now >= at + READ_ACKS);
        if repeat_after(self.path.rtt).is_some() && acks_are_old {
            self.read_acks(connection, now);
        }
        self.congested = self.congestion.sample(now, self.path.rtt);
        self.datagram_size = connection.datagram_size().unwrap_or(0);
    }

    // Begins afresh if the peer has another address. Messages that were sent to the one before may be
    // lost, and no loss is reported for them.
    fn follow(&mut self, remote: SocketAddr, now: u64) {
        if self.remote.is_some_and(|before| before != remote) {
            let path = PathEstimate { last_loss: Some(now), ..PathEstimate::default() };
            let changed = Some(now);
            *self = Self { begun: self.begun, path, changed, ..Self::begin() };
        }
        self.remote = Some(remote);
    }

    /// Reads what the acknowledgements say about the path.
    pub(crate) fn read_acks(&mut self, connection: &Connection, now: u64) -> PathEstimate {
        self.follow(connection.remote_address(), now);
        let AckStats { acked_through, last_loss, min_rtt, .. } = connection.ack_stats();
        let since = |at| Instant::from_std(at).duration_since(self.begun).as_micros() as u64;
        self.acks_read = Some(now);
        self.path.min_rtt = min_rtt.map_or(0, |rtt| rtt.as_micros() as u64);
        self.path.acked_through = acked_through.map(since);
        self.path.last_loss = last_loss.map(since).max(self.changed);
        self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_new_path_is_not_trusted_with_what_was_sent_before() {
        let remote = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let path = PathEstimate {
            rtt: 60_000,
            min_rtt: 50_000,
            acked_through: Some(900),
            last_loss: Some(100),
        };
        let mut monitor = PathMonitor { path, ..PathMonitor::begin() };
        // The round trip was 1 ms, so that 60 ms show a queue.
        monitor.congestion.sample(0, 1_000);
        monitor.congested = monitor.congestion.sample(1, 60_000);
        assert!(monitor.congested);
        let begun = monitor.begun;
        for at in [1_000, 2_000] {
            monitor.follow(remote(1), at);
            assert!(monitor.path.is_long() && monitor.path.has_delivered(900));
        }
        monitor.follow(remote(2), 3_000);
        let path = monitor.path;
        assert!(!path.has_delivered(900) && !path.has_delivered(3_000) && !path.is_long());
        assert!(!path.is_trusted(3_000 + DISTRUST - 1) && path.is_trusted(3_000 + DISTRUST));
        assert!(!monitor.congested && !monitor.congestion.sample(3_001, 60_000));
        assert_eq!((monitor.begun, monitor.sampled, monitor.acks_read), (begun, None, None));
        // The same address again is the same path.
        monitor.path.last_loss = None;
        monitor.follow(remote(2), 4_000);
        assert_eq!(monitor.path.last_loss, None);
    }

    #[test]
    fn a_short_path_between_busy_hosts_is_not_long() {
        let busy = PathEstimate { rtt: 40_000, min_rtt: 300, ..PathEstimate::default() };
        assert!(!busy.is_long());
        assert!(
            !PathEstimate { rtt: 40_000, ..PathEstimate::default() }.is_long(),
            "not known yet"
        );
        assert!(PathEstimate { rtt: 60_000, min_rtt: 50_000, ..PathEstimate::default() }.is_long());
        // After a change of networks, until the acknowledgements are read again.
        assert!(!PathEstimate { rtt: 1_000, min_rtt: 50_000, ..PathEstimate::default() }.is_long());
    }
}
