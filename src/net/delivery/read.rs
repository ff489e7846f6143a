//! How the deliveries read: what is wanted, and when to wait instead of reading once more.

use super::DeliveryEnd;
use crate::engine::{LargePayloads, ReadOptions};
use crate::net;
use crate::wire::{Code, Refusal};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// What a future gives, and whether it did so without waiting.
pub(crate) async fn at_once<F: Future>(mut future: Pin<&mut F>) -> (F::Output, bool) {
    let mut polls = 0;
    let output = poll_fn(|context| {
        polls += 1;
        future.as_mut().poll(context)
    });
    let output = output.await;
    (output, polls == 1)
}

// Waits until this task is woken.
pub(super) async fn woken() {
    let mut asleep = true;
    poll_fn(|_| if std::mem::take(&mut asleep) { Poll::Pending } else { Poll::Ready(()) }).await;
}

/// What to read when what is older than `deadline` µs is to be passed over; 0 is none.
pub(crate) fn wanted(budget: usize, deadline: u64, large: LargePayloads) -> ReadOptions {
    let since = |deadline| net::now().saturating_sub(deadline);
    let accepted_since = Some(deadline).filter(|d| *d > 0).map_or(0, since);
    ReadOptions { budget, accepted_since, large }
}

/// The end of a delivery whose subscription could not be read any more.
pub(crate) fn read_ended(refusal: Refusal) -> DeliveryEnd {
    // DONE: the subscription was ended while it was read.
    if refusal.code == Code::DONE { DeliveryEnd::Finished } else { DeliveryEnd::Refused(refusal) }
}
