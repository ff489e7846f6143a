//! quinn's CUBIC (RFC 9438) with a minimum window of ten packets.
//!
//! A session that sends 60 small messages a second is limited by the application, not by the path.
//! CUBIC halves its window with every few random losses. It does not grow the window again while
//! the application limits it. With 1 % loss the window ends at two packets, and a datagram then
//! waits for an acknowledgement before it is sent. Ten packets is the initial window of any
//! connection (RFC 6928; RFC 9002, section 7.2).
//!
//! It also keeps statistics of acknowledgements, from which the sender of a datagram can find out
//! whether it arrived. They are those of one path. When a peer's address changes, quinn copies the
//! controller for the new path, or builds another one (RFC 9000, section 9.4).

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The minimum window, packets.
const MIN_WINDOW: u64 = 10;

/// Builds the controllers.
#[derive(Debug, Default)]
pub(crate) struct MinWindowCubicConfig(Arc<CubicConfig>);

impl ControllerFactory for MinWindowCubicConfig {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(MinWindowCubic {
            cubic: self.0.clone().build(now, mtu),
            mtu: mtu.into(),
            ack_stats: AckStats::default(),
            copies: 0,
        })
    }
}

/// Statistics of the acknowledgements on a path.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AckStats {
    /// Everything sent up to this time was acknowledged, or was lost before.
    pub(crate) acked_through: Option<Instant>,
    /// When a loss was last detected. A late acknowledgement does not undo it.
    pub(crate) last_loss: Option<Instant>,
    /// The shortest round trip so far.
    pub(crate) min_rtt: Option<Duration>,
    // When the newest acknowledged packet was sent.
    newest_acked: Option<Instant>,
    // Packets were sent since nothing was last in flight.
    in_flight: bool,
    // Nothing waited to be sent when the newest acknowledgement arrived.
    all_sent: bool,
}

impl AckStats {
    /// Whether everything that was handed to the connection until `since` was acknowledged, or was
    /// lost and sent again.
    #[cfg(feature = "daemon")]
    pub(crate) fn have_received(&self, since: Instant) -> bool {
        !self.in_flight || (self.all_sent && self.newest_acked >= Some(since))
    }

    /// The statistics of a connection's controller.
    #[cfg(feature = "daemon")]
    pub(crate) fn of(connection: &quinn::Connection) -> Self {
        Self::of_copy(connection.congestion_state())
    }

    // `copy` is a copy of a connection's controller.
    #[cfg(feature = "daemon")]
    fn of_copy(copy: Box<dyn Controller>) -> Self {
        let copy = copy.into_any().downcast::<MinWindowCubic>();
        // A controller that is a copy itself has not been used on its path.
        let copy = copy.ok().filter(|copy| copy.copies == 1);
        copy.map_or_else(Self::default, |copy| copy.ack_stats)
    }
}

struct MinWindowCubic {
    cubic: Box<dyn Controller>,
    mtu: u64,
    ack_stats: AckStats,
    // How often it was copied since it was last used on a path.
    copies: u8,
}

impl MinWindowCubic {
    // The statistics of the path that the controller is used on.
    fn ack_stats(&mut self) -> &mut AckStats {
        if std::mem::take(&mut self.copies) > 0 {
            self.ack_stats = AckStats::default();
        }
        &mut self.ack_stats
    }
}

impl Controller for MinWindowCubic {
    fn on_sent(&mut self, now: Instant, bytes: u64, last: u64) {
        self.ack_stats().in_flight = true;
        self.cubic.on_sent(now, bytes, last);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &quinn_proto::RttEstimator,
    ) {
        let stats = self.ack_stats();
        stats.newest_acked = stats.newest_acked.max(Some(sent));
        stats.all_sent = app_limited;
        stats.min_rtt = Some(rtt.min());
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, flight: u64, app_limited: bool, last: Option<u64>) {
        // quinn calls this before it detects losses. Lost packets still count as in flight.
        if flight == 0 {
            let stats = self.ack_stats();
            stats.acked_through = stats.newest_acked;
            stats.in_flight = false;
        }
        self.cubic.on_end_acks(now, flight, app_limited, last);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost: u64) {
        // ECN reports congestion without a loss.
        if lost > 0 {
            self.ack_stats().last_loss = Some(now);
        }
        self.cubic.on_congestion_event(now, sent, persistent, lost);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = mtu.into();
        self.cubic.on_mtu_update(mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().max(MIN_WINDOW * self.mtu)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let copies = self.copies.saturating_add(1);
        Box::new(Self { cubic: self.cubic.clone_box(), copies, ..*self })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(all(test, feature = "daemon"))]
mod tests {
    use super::*;

    fn controller(now: Instant) -> Box<dyn Controller> {
        Arc::new(MinWindowCubicConfig::default()).build(now, 1200)
    }

    #[test]
    fn the_statistics_of_a_path_start_afresh() {
        let now = Instant::now();
        let mut controller = controller(now);
        controller.on_sent(now, 1200, 1);
        controller.on_congestion_event(now, now, false, 1200);
        let stats = |controller: &dyn Controller| AckStats::of_copy(controller.clone_box());
        for _ in 0..2 {
            let stats = stats(&*controller);
            assert_eq!((stats.last_loss, stats.in_flight), (Some(now), true));
        }
        // Reading it has not changed the controller, but a new path has a copy.
        let mut next = controller.clone_box();
        assert!(stats(&*next).last_loss.is_none() && !stats(&*next).in_flight);
        next.on_sent(now, 1200, 2);
        assert!(stats(&*next).last_loss.is_none() && stats(&*next).in_flight);
        next.on_congestion_event(now, now, false, 1200);
        assert_eq!(stats(&*next).last_loss, Some(now));
    }

    #[test]
    fn the_window_is_never_below_ten_packets() {
        let now = Instant::now();
        let mut controller = controller(now);
        for _ in 0..20 {
            controller.on_congestion_event(now, now, true, 1200);
        }
        assert_eq!(controller.window(), 10 * 1200);
        let mut next = controller.clone_box();
        next.on_mtu_update(1400);
        assert_eq!(next.window(), 10 * 1400);
    }
}
