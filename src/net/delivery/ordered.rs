//! Ordered delivery of one subscription: read a batch, write it to the subscription's stream,
//! repeat.

use super::marks::Marks;
use super::read::{read_ended, read_options, send_at_once, until_woken};
use super::stream::{Stream, append_chunk, append_encoded, frame_of};
use super::{DeliveryContext, DeliveryEnd};
use crate::broker::counters::Mode;
use crate::broker::replaying::Replaying;
use crate::engine::{Item, LargePayloads, SubscriptionId};
use crate::wire::DaemonFrame;
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use tokio::time::sleep;

/// Bytes read under one lock and handed to the stream at once, 64 KiB. That fills packets, and
/// holds the lock for a short time only.
const BATCH: usize = 64 << 10;

/// Delivers until the subscription or the session ends. Skips messages older than `max_age` µs;
/// 0 skips none. The subscription began at `position`.
pub(crate) async fn deliver(
    context: Arc<DeliveryContext>,
    request: u32,
    id: SubscriptionId,
    max_age: u64,
    (position, mut marks): (u64, Marks),
) -> DeliveryEnd {
    let mut replaying = Replaying::new(position, Mode::Ordered);
    let mut stream = Stream::default();
    // The first piece of every write. The stream leaves it out where the peer knows the request.
    let for_request = DaemonFrame::For { request }.to_bytes();
    let mut pieces = vec![for_request.clone()];
    loop {
        while let Some(wait) = replaying.wait(&context.replay, &context.broker, id) {
            // Boxed, because most subscriptions never wait here.
            Box::pin(sleep(wait)).await;
        }
        let mut items = 0;
        let read = poll_fn(|cx| {
            let options = read_options(BATCH, max_age, LargePayloads::InChunks);
            context.broker.poll_read(id, cx, options, &mut |item| {
                items += usize::from(matches!(item, Item::Message(_) | Item::Gap { .. }));
                replaying.count(&item);
                append(&item, &mut pieces);
            })
        });
        let more = match read.await {
            Ok(more) => more,
            Err(refusal) => {
                // Items read before the refusal are still written.
                if pieces.len() > 1 {
                    let _ = stream.write(&context, &mut pieces).await;
                }
                drop(stream);
                return read_ended(refusal);
            }
        };
        context.spend(&mut replaying);
        marks.count(items);
        if marks.is_due() {
            pieces.extend(marks.take(&context.broker, id));
        }
        let (written, at_once) =
            send_at_once(&context, pin!(stream.write(&context, &mut pieces))).await;
        match written {
            Ok(()) => {
                replaying.sent(context.broker.counters());
                pieces.clear();
                pieces.push(for_request.clone());
                // The write did not wait, so the next wake can only mean that there is more.
                if !more && at_once {
                    until_woken().await;
                }
            }
            Err(error) => return error.into(),
        }
    }
}

fn append(item: &Item<'_>, pieces: &mut Vec<Bytes>) {
    if let Item::Message(message) = item
        && let Some(encoded) = message.encoded()
    {
        append_encoded(encoded, pieces);
    } else if let Item::Chunk(chunk) = item {
        append_chunk(chunk, pieces);
    } else {
        pieces.push(frame_of(item));
    }
}
