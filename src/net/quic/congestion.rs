//! quinn's CUBIC (RFC 9438) with a minimum window of ten packets.
//!
//! A session that sends 60 small messages a second is limited by the application, not by the path.
//! CUBIC halves its window with every few random losses. It does not grow the window again while
//! the application limits it. With 1 % loss the window ends at two packets, and a datagram then
//! waits for an acknowledgement before it is sent. Ten packets is the initial window of any
//! connection (RFC 6928; RFC 9002, section 7.2).
//!
//! It also keeps statistics of acknowledgements, from which the sender of a datagram can find out
//! whether it arrived.

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
            newest_acked: None,
            ack_stats: AckStats::default(),
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
}

impl AckStats {
    /// The statistics of a connection's controller.
    #[cfg(feature = "daemon")]
    pub(crate) fn of(connection: &quinn::Connection) -> Self {
        let controller = connection.congestion_state().into_any().downcast::<MinWindowCubic>();
        controller.map_or_else(|_| Self::default(), |controller| controller.ack_stats)
    }
}

struct MinWindowCubic {
    cubic: Box<dyn Controller>,
    mtu: u64,
    // When the newest acknowledged packet was sent.
    newest_acked: Option<Instant>,
    ack_stats: AckStats,
}

impl Controller for MinWindowCubic {
    fn on_sent(&mut self, now: Instant, bytes: u64, last: u64) {
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
        self.newest_acked = self.newest_acked.max(Some(sent));
        self.ack_stats.min_rtt = Some(rtt.min());
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, flight: u64, app_limited: bool, last: Option<u64>) {
        // quinn calls this before it detects losses. Lost packets still count as in flight.
        if flight == 0 {
            self.ack_stats.acked_through = self.newest_acked;
        }
        self.cubic.on_end_acks(now, flight, app_limited, last);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost: u64) {
        // ECN reports congestion without a loss.
        if lost > 0 {
            self.ack_stats.last_loss = Some(now);
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
        Box::new(Self { cubic: self.cubic.clone_box(), ..*self })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
