//! Ordered delivery of one subscription: read what there is, write it to its stream, again.

use super::marks::Marks;
use super::read::{at_once, read_ended, wanted, woken};
use super::stream::{Stream, append_chunk, append_encoded, frame_of};
use super::{DeliveryContext, DeliveryEnd};
use crate::engine::{Item, LargePayloads, SubscriptionId};
use crate::wire::DaemonFrame;
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

/// Bytes read under one lock and handed to the stream at once, 64 KiB: enough to fill packets,
/// little enough that nobody waits long for the lock.
const BATCH: usize = 64 << 10;

/// Delivers until the subscription or the session ends.
/// Messages older than `deadline` µs are passed over; 0 is none.
pub(crate) async fn deliver(
    context: Arc<DeliveryContext>,
    request: u32,
    id: SubscriptionId,
    deadline: u64,
    mut marks: Marks,
) -> DeliveryEnd {
    let mut stream = Stream::default();
    // Stands before whatever is written; what the peer knows is left out there.
    let whose = DaemonFrame::For { request }.to_bytes();
    let mut pieces = vec![whose.clone()];
    loop {
        let mut items = 0;
        let read = poll_fn(|cx| {
            let wanted = wanted(BATCH, deadline, LargePayloads::InChunks);
            context.broker.poll_read(id, cx, wanted, &mut |item| {
                items += usize::from(matches!(item, Item::Message(_) | Item::Gap { .. }));
                append(&item, &mut pieces);
            })
        });
        let more = match read.await {
            Ok(more) => more,
            Err(refusal) => {
                // What was read before it fell behind is still written.
                if pieces.len() > 1 {
                    let _ = stream.write(&context, &mut pieces).await;
                }
                drop(stream);
                return read_ended(refusal);
            }
        };
        marks.count(items);
        if marks.are_due() {
            pieces.extend(marks.take(&context.broker, id));
        }
        let (written, at_once) = at_once(pin!(stream.write(&context, &mut pieces))).await;
        match written {
            Ok(()) => {
                pieces.clear();
                pieces.push(whose.clone());
                // Written without waiting: nobody can have woken this task for anything but more.
                if !more && at_once {
                    woken().await;
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
