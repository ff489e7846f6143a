//! How fast messages are published to a topic: a sliding window, computed from two fixed ones.

/// Length of a window, 5 s in µs. People see a change soon, and a few messages a minute do not flicker.
const WINDOW: u64 = 5_000_000;

/// Messages, and the bytes of their payloads.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    messages: u32,
    bytes: u64,
}

/// The messages that were published in the current window and in the one before.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    // The number of the current window, since 1970.
    window: u64,
    current: Sum,
    before: Sum,
}

impl Rate {
    /// Counts a message.
    pub(crate) fn add(&mut self, now: u64, bytes: usize) {
        let window = now / WINDOW;
        if window != self.window {
            // After a clock was set back, it begins anew.
            let follows = window == self.window + 1;
            self.before = if follows { self.current } else { Sum::default() };
            (self.window, self.current) = (window, Sum::default());
        }
        self.current.messages = self.current.messages.saturating_add(1);
        self.current.bytes = self.current.bytes.saturating_add(bytes as u64);
    }

    /// Returns the messages and the bytes per second in the last five seconds. The older part of them is
    /// taken to be spread evenly over its window.
    #[expect(clippy::cast_precision_loss, reason = "people read a few digits")]
    pub(crate) fn per_second(&self, now: u64) -> (f64, f64) {
        let (current, before) = match (now / WINDOW).checked_sub(self.window) {
            Some(0) => (self.current, self.before),
            Some(1) => (Sum::default(), self.current),
            _ => return (0.0, 0.0),
        };
        let older = 1.0 - (now % WINDOW) as f64 / WINDOW as f64;
        let seconds = WINDOW as f64 / 1e6;
        let rate = |current: f64, before: f64| (current + before * older) / seconds;
        (
            rate(current.messages.into(), before.messages.into()),
            rate(current.bytes as f64, before.bytes as f64),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_steady_rate_is_found_at_any_time_and_fades_within_two_windows() {
        let mut rate = Rate::default();
        // 10 messages a second, of 100 bytes.
        let mut now = 1_700_000_000 * SECOND;
        for n in 0..200 {
            now += SECOND / 10;
            rate.add(now, 100);
            if n > 100 {
                let (messages, bytes) = rate.per_second(now);
                assert!((messages - 10.0).abs() < 0.5, "{messages} after {n}");
                assert!((bytes - 1000.0).abs() < 50.0, "{bytes} after {n}");
            }
        }
        assert!(rate.per_second(now + 5 * SECOND).0 < 10.5);
        assert_eq!(rate.per_second(now + 10 * SECOND), (0.0, 0.0));
    }

    #[test]
    fn a_clock_that_is_set_back_gives_no_nonsense() {
        let mut rate = Rate::default();
        rate.add(100 * SECOND, 1);
        assert_eq!(rate.per_second(50 * SECOND), (0.0, 0.0));
        rate.add(50 * SECOND, 1);
        assert!(rate.per_second(51 * SECOND).0 <= 1.0);
        assert!(rate.per_second(u64::MAX).0 <= 1.0);
    }
}
