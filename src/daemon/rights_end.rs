//! The end of the rights of a peer within the process, and the places of its subscriptions.

use crate::net::now;
use crate::wire::{Code, Refusal};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// The longest wait for the end of the rights before the clock is looked at again, one minute. The
/// clock of the machine may be set.
const LOOK: Duration = Duration::from_secs(60);

/// The refusal of everything when the rights have ended.
pub(super) fn rights_ended() -> Refusal {
    Refusal::new(Code::TOKEN_EXPIRED, "the time of these rights has passed: take a new identity")
}

/// A place among the subscriptions of a peer. Dropping it releases the place.
#[derive(Debug)]
pub(super) struct SubscriptionPlace(Arc<AtomicU32>);

impl SubscriptionPlace {
    pub(super) fn take(count: &Arc<AtomicU32>, most: u32) -> Result<Self, Refusal> {
        let more = |now: u32| (now < most).then(|| now + 1);
        match count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self(count.clone())),
            Err(_) => {
                let reason = "this identity has as many subscriptions as it may have: drop one";
                Err(Refusal::new(Code::TOO_MANY_SUBSCRIPTIONS, reason))
            }
        }
    }
}

impl Drop for SubscriptionPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The end of rights, as a timer that follows the clock of the machine.
#[derive(Debug)]
pub(super) struct RightsEnd {
    at: u64,
    // None until it is polled.
    timer: Option<Pin<Box<Sleep>>>,
}

impl RightsEnd {
    pub(super) fn new(at: u64) -> Self {
        Self { at, timer: None }
    }

    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let left = Duration::from_micros(self.at.saturating_sub(now()));
            if left.is_zero() {
                return Poll::Ready(());
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(left.min(LOOK))));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }
}
