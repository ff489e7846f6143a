//! The time of day; and the clock of limits: nanoseconds since the daemon began. It never goes back, and
//! a test that pauses the runtime's time pauses it too.

use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The clock. All copies of one agree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// The time of day, µs since 1970, as the engine gets it.
pub(crate) fn time_of_day() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}
