//! How much a session has sent and received, for those who watch the daemon.

use crate::net::delivery::delivered::Total;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Minimum time over which rates are computed, 500 ms. Over less than that they say little.
const INTERVAL: Duration = Duration::from_millis(500);

/// The messages of a session in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Flow {
    /// Messages.
    pub messages: u64,
    /// The bytes of their payloads.
    pub bytes: u64,
    /// Messages per second since the last look at the session, or since it began.
    pub messages_per_second: f64,
    /// Bytes per second.
    pub bytes_per_second: f64,
}

/// The last look at a session's totals: received and delivered. A session that nobody looks at takes a
/// pointer for it.
#[derive(Debug, Default)]
pub(super) struct LastLook(Mutex<Option<Box<Look>>>);

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    flows: [Flow; 2],
}

impl LastLook {
    /// Returns the totals with their rates since the last look. `age` is the age of the session.
    #[expect(clippy::cast_precision_loss, reason = "people read a few digits")]
    pub(super) fn flows(&self, now: Instant, age: Duration, totals: [Total; 2]) -> [Flow; 2] {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.as_deref().copied();
        let since = before.map_or(age, |look| now.saturating_duration_since(look.at));
        let mut flows = before.map(|look| look.flows).unwrap_or_default();
        for (flow, total) in flows.iter_mut().zip(totals) {
            if since >= INTERVAL {
                let rate = |more: u64| more as f64 / since.as_secs_f64();
                flow.messages_per_second = rate(total.messages.saturating_sub(flow.messages));
                flow.bytes_per_second = rate(total.bytes.saturating_sub(flow.bytes));
                (flow.messages, flow.bytes) = (total.messages, total.bytes);
            }
        }
        if since >= INTERVAL {
            let look = Look { at: now, flows };
            match last.as_deref_mut() {
                Some(last) => *last = look,
                None => *last = Some(Box::new(look)),
            }
        }
        // Two looks within the interval have the same rates, and the totals of now.
        for (flow, total) in flows.iter_mut().zip(totals) {
            (flow.messages, flow.bytes) = (total.messages, total.bytes);
        }
        flows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_since_the_last_look_that_was_long_enough_ago() {
        let (look, begin) = (LastLook::default(), Instant::now());
        let at = |millis| begin + Duration::from_millis(millis);
        let totals = |messages| [Total { messages, bytes: 10 * messages }, Total::default()];
        let flow =
            |millis, messages| look.flows(at(millis), Duration::from_secs(10), totals(messages))[0];
        let first = flow(0, 100);
        assert_eq!((first.messages_per_second, first.bytes_per_second), (10.0, 100.0));
        let second = flow(1000, 150);
        assert_eq!((second.messages, second.messages_per_second), (150, 50.0));
        // Too soon for new rates.
        let third = flow(1100, 160);
        assert_eq!((third.messages, third.messages_per_second), (160, 50.0));
        let fourth = flow(2000, 160);
        assert_eq!((fourth.messages, fourth.messages_per_second), (160, 10.0));
        assert!(flow(3000, 160).messages_per_second.abs() < 0.01);
    }
}
