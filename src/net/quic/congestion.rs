//! CUBIC (RFC 9438, as quinn has it) that never goes below ten packets in flight.
//!
//! A session that sends 60 small messages a second is limited by what there is to say, not by the
//! path. But CUBIC halves its window with every few random losses and, limited by the application,
//! does not grow it again: at 1 % loss it ends at two packets, and a datagram then waits for an
//! acknowledgement to be sent at all. Ten packets are what anybody may send unasked at the start of
//! a connection (RFC 6928, RFC 9002 section 7.2).
//!
//! It also keeps what acknowledgements tell: whoever has sent a datagram can find out whether it
//! has arrived.

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FLOOR: u64 = 10;

/// Makes the controllers.
#[derive(Debug, Default)]
pub(crate) struct MinWindowCubicConfig(Arc<CubicConfig>);

impl ControllerFactory for MinWindowCubicConfig {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(MinWindowCubic {
            cubic: self.0.clone().build(now, mtu),
            mtu: mtu.into(),
            acknowledged: None,
            ack_stats: AckStats::default(),
        })
    }
}

/// What has been heard of what was sent on a path.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AckStats {
    /// What was sent up to then has been acknowledged, or was lost before.
    pub(crate) acked_through: Option<Instant>,
    /// When packets were last found to be lost. What is acknowledged after all remains lost.
    pub(crate) last_loss: Option<Instant>,
    /// The shortest round trip so far.
    pub(crate) min_rtt: Option<Duration>,
}

impl AckStats {
    /// What a connection's controller has heard.
    #[cfg(feature = "daemon")]
    pub(crate) fn of(connection: &quinn::Connection) -> Self {
        let controller = connection.congestion_state().into_any().downcast::<MinWindowCubic>();
        controller.map_or_else(|_| Self::default(), |controller| controller.ack_stats)
    }
}

struct MinWindowCubic {
    cubic: Box<dyn Controller>,
    mtu: u64,
    // When the newest packet that is acknowledged was sent.
    acknowledged: Option<Instant>,
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
        self.acknowledged = self.acknowledged.max(Some(sent));
        self.ack_stats.min_rtt = Some(rtt.min());
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, flight: u64, app_limited: bool, last: Option<u64>) {
        // Comes before packets are found to be lost: these are in flight still.
        if flight == 0 {
            self.ack_stats.acked_through = self.acknowledged;
        }
        self.cubic.on_end_acks(now, flight, app_limited, last);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost: u64) {
        // None was where routers tell of congestion (ECN).
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
        self.cubic.window().max(FLOOR * self.mtu)
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
