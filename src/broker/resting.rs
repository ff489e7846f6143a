//! The rate of frames that carry nothing: pings, settings, empty pieces. Each transport has its own.
//!
//! A connection has a few of them free. Beyond these they count with everything else that the peer sends, but
//! they cannot be refused. A connection that has sent too many is not read for a while. It is closed only if
//! its own frames alone have been above the rate for 10 s: it may share the rate with others, who are told
//! when they publish.

use super::throttle::Throttle;
use crate::access::limit_counts::Limit;
use crate::access::quota::{Bucket, Intake, Rate};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Frames that each connection has free: 4 a second, and 64 saved up. Peers that share a rate do not wait
/// for each other's pings, by which each finds out whether the other side is there.
const FREE_FRAMES: Rate = Rate::new(4, 64);

/// Bytes of heads that each connection has free: 4 KiB a second, and 64 KiB saved up.
const FREE_BYTES: Rate = Rate::new(4 << 10, 64 << 10);

/// The longest wait for what others have sent, 2.5 s. A peer that is not read for longer may be taken for
/// one that is gone, and takes the daemon for gone.
const LONGEST: Duration = Duration::from_millis(2500);

/// The debt of a connection for frames that carry nothing.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    // It is not read before that.
    until: Option<Pin<Box<Sleep>>>,
    free: (Bucket, Bucket),
    // Of this connection alone.
    own: Intake,
}

impl Resting {
    /// Counts frames, and bytes of their heads. Returns whether the connection is to be closed, because it
    /// has sent too many for too long.
    pub(crate) fn charge(&mut self, throttle: &Throttle, (frames, bytes): (usize, u64)) -> bool {
        let now = throttle.now();
        let frames = frames - self.free.0.take(FREE_FRAMES, now, frames as u64) as usize;
        let bytes = bytes - self.free.1.take(FREE_BYTES, now, bytes);
        if (frames, bytes) == (0, 0) {
            return false;
        }
        let (alone, is_over) = throttle.receive_own(&self.own, now, (frames, bytes));
        if is_over {
            throttle.counts().add(Limit::RateLimited);
        }
        let others = throttle.receive_bare(now, frames, bytes).min(LONGEST);
        let wait = alone.max(others);
        if !wait.is_zero() {
            let until = Instant::now() + wait;
            let until = self.until.as_ref().map_or(until, |before| before.deadline().max(until));
            self.until = Some(Box::pin(sleep_until(until)));
        }
        is_over
    }

    /// Ready when the connection may be read.
    pub(crate) fn poll_rested(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(until) = &mut self.until {
            ready!(until.as_mut().poll(context));
            self.until = None;
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::quota::IntakeRates;
    use crate::broker::clock::Clock;
    use std::future::poll_fn;
    use std::sync::Arc;
    use tokio::time::sleep;

    fn throttle(messages: u64) -> Throttle {
        let rates =
            IntakeRates { messages: Rate::per_second(messages), bytes: Rate::per_second(0) };
        Throttle::new((rates, Arc::default(), None), Clock::start(), Arc::default())
    }

    async fn rested(resting: &mut Resting) {
        poll_fn(|context| resting.poll_rested(context)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_sends_too_many_is_read_at_the_rate_and_then_closed() {
        let (throttle, mut resting, begun) = (throttle(100), Resting::default(), Instant::now());
        let mut frames = 0;
        loop {
            rested(&mut resting).await;
            frames += 50;
            if resting.charge(&throttle, (50, 0)) {
                break;
            }
        }
        let seconds = begun.elapsed().as_secs();
        assert!((9..12).contains(&seconds), "{seconds} s");
        // The first 64 are free, and 4 a second.
        assert!(frames <= 100 * (seconds + 2) + 64 + 48, "{frames} in {seconds} s");
    }

    // Once, it was not read until there was room for it, and was taken for one that is gone.
    #[tokio::test(start_paused = true)]
    async fn a_connection_does_not_wait_long_for_what_others_send() {
        let (throttle, mut resting) = (throttle(100), Resting::default());
        let (begun, mut waited) = (Instant::now(), Duration::ZERO);
        let flood = async {
            while begun.elapsed() < Duration::from_secs(100) {
                throttle.receive(1000, 0);
                sleep(Duration::from_millis(100)).await;
            }
        };
        let busy = async {
            while begun.elapsed() < Duration::from_secs(100) {
                assert!(!resting.charge(&throttle, (20, 0)), "after {:?}", begun.elapsed());
                let asked = Instant::now();
                rested(&mut resting).await;
                waited = waited.max(asked.elapsed());
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::join!(flood, busy);
        assert!(Duration::ZERO < waited && waited <= LONGEST, "{waited:?}");
    }

    // Pings in bursts above the rate of one second ended a connection, although it sent five a second.
    #[tokio::test(start_paused = true)]
    async fn a_burst_now_and_then_is_not_too_much() {
        let (throttle, mut resting) = (throttle(50), Resting::default());
        for _ in 0..10 {
            assert!(!resting.charge(&throttle, (150, 0)));
            sleep(Duration::from_secs(15)).await;
            rested(&mut resting).await;
        }
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
                rested(&mut resting).await;
                assert!(!resting.charge(&throttle, (1, 0)), "after {:?}", begun.elapsed());
                // It has these free. Once, it was not read for half a minute.
                let asked = Instant::now();
                rested(&mut resting).await;
                assert_eq!(asked.elapsed(), Duration::ZERO);
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::join!(flood, polite);
        // And those who publish are still told.
        assert!(told >= 8, "{told}");
    }
}
