//! The rate of frames that carry nothing: pings, settings, empty pieces. Each transport has its own.
//!
//! They count with everything else that the peer sends, but they cannot be refused. A connection that
//! has sent too many is not read for a while. It is closed only if its own frames alone have been above
//! the rate for 10 s: it may share the rate with others, who are told when they publish.

use super::throttle::Throttle;
use crate::access::limit_counts::Limit;
use crate::access::quota::Intake;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Sleep, sleep_until};

/// The debt of a connection for frames that carry nothing.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    // It is not read before that.
    until: Option<Pin<Box<Sleep>>>,
    // Frames and bytes that are to be counted then.
    owed: (usize, u64),
    // Of this connection alone.
    own: Intake,
}

impl Resting {
    /// Counts frames. Returns whether the connection is to be closed, because it has sent too many for too
    /// long.
    pub(crate) fn charge(&mut self, throttle: &Throttle, (frames, bytes): (usize, u64)) -> bool {
        let closes = throttle.is_over(&self.own, frames, bytes);
        if closes {
            throttle.counts().add(Limit::RateLimited);
        }
        self.rest(throttle, (frames, bytes));
        closes
    }

    fn rest(&mut self, throttle: &Throttle, (frames, bytes): (usize, u64)) {
        let received = throttle.receive_untold(frames, bytes);
        self.owed = if received.again { (frames, bytes) } else { (0, 0) };
        self.until = received.resume_at.map(|at| Box::pin(sleep_until(at)));
    }

    /// Ready when the connection may be read.
    pub(crate) fn poll_rested(
        &mut self,
        throttle: &Throttle,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        while let Some(until) = &mut self.until {
            ready!(until.as_mut().poll(context));
            self.until = None;
            let owed = std::mem::take(&mut self.owed);
            if owed != (0, 0) {
                self.rest(throttle, owed);
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::quota::{IntakeRates, Rate};
    use crate::broker::clock::Clock;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::time::{Instant, sleep};

    fn throttle(messages: u64) -> Throttle {
        let rates =
            IntakeRates { messages: Rate::per_second(messages), bytes: Rate::per_second(0) };
        Throttle::new((rates, Arc::default(), None), Clock::start(), Arc::default())
    }

    async fn rested(resting: &mut Resting, throttle: &Throttle) {
        poll_fn(|context| resting.poll_rested(throttle, context)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_sends_too_many_is_read_at_the_rate_and_then_closed() {
        let (throttle, mut resting, begun) = (throttle(100), Resting::default(), Instant::now());
        let mut frames = 0;
        loop {
            rested(&mut resting, &throttle).await;
            frames += 50;
            if resting.charge(&throttle, (50, 0)) {
                break;
            }
        }
        let seconds = begun.elapsed().as_secs();
        assert!((9..12).contains(&seconds), "{seconds} s");
        assert!(frames <= 100 * (seconds + 2), "{frames} in {seconds} s");
    }

    // Once, the connection that asked next was closed, whoever had used up the rate.
    #[tokio::test(start_paused = true)]
    async fn a_connection_is_not_closed_for_what_others_send() {
        let (throttle, mut resting) = (throttle(100), Resting::default());
        let (begun, mut told) = (Instant::now(), 0);
        let flood = async {
            while begun.elapsed() < Duration::from_secs(100) {
                told += u32::from(throttle.receive(1000, 0).tell);
                sleep(Duration::from_millis(100)).await;
            }
        };
        let polite = async {
            while begun.elapsed() < Duration::from_secs(100) {
                rested(&mut resting, &throttle).await;
                assert!(!resting.charge(&throttle, (1, 0)), "after {:?}", begun.elapsed());
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::join!(flood, polite);
        // And those who publish are still told.
        assert!(told >= 8, "{told}");
    }
}
