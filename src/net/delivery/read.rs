//! How deliveries read: with which options, and when they wait instead of reading once more.

use super::{DeliveryContext, DeliveryEnd, Sending};
use crate::engine::{LargePayloads, ReadOptions};
use crate::net;
use crate::wire::{Code, Refusal, nonzero};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

/// Sends something. Returns the output, and whether the first poll was ready.
pub(super) async fn send_at_once<F: Future>(
    context: &Arc<DeliveryContext>,
    mut send: Pin<&mut F>,
) -> (F::Output, bool) {
    let mut sending = None;
    let output = poll_fn(|cx| {
        let polled = send.as_mut().poll(cx);
        if polled.is_pending() && sending.is_none() {
            sending = Some(Sending::new(context));
            // It may wait for a window.
            context.windows.raise_send(&context.connection);
        }
        polled
    });
    let output = output.await;
    (output, sending.is_none())
}

// Waits until this task is woken.
pub(super) async fn until_woken() {
    let mut asleep = true;
    poll_fn(|_| if std::mem::take(&mut asleep) { Poll::Pending } else { Poll::Ready(()) }).await;
}

/// The options of a read that skips messages older than `max_age` µs. 0 skips none.
pub(crate) fn read_options(budget: usize, max_age: u64, large: LargePayloads) -> ReadOptions {
    let since = |age| net::now().saturating_sub(age);
    let accepted_since = nonzero(max_age).map_or(0, since);
    ReadOptions { budget, accepted_since, large }
}

/// The end of a delivery whose read was refused.
pub(crate) fn read_ended(refusal: Refusal) -> DeliveryEnd {
    // DONE: the subscription was ended while it was read.
    if refusal.code == Code::DONE { DeliveryEnd::Finished } else { DeliveryEnd::Refused(refusal) }
}
