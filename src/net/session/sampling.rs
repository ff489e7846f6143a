//! Looks at the paths of sessions, for metrics.

use super::list::Sessions;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// The path of each session is looked at once in so many seconds.
const ROUNDS: usize = 10;

impl Sessions {
    /// Looks at the paths of all sessions, a tenth of them each second. Does not return.
    pub(crate) async fn sample(&self) {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in (0..ROUNDS).cycle() {
            tick.tick().await;
            for peer in self.some_peers(round, ROUNDS) {
                self.traffic.look_at(&peer.context.connection, &peer.counted_packets);
            }
        }
    }
}
