//! Ordered delivery of one subscription: read what there is, write it to its stream, again.

use super::large::{Follow, append_chunk};
use super::marks::Marks;
use super::unordered::priority;
use crate::engine::{Answer, Item, Large, SubscriptionId, Wanted, encode_item};
use crate::net::error::WriteError;
use crate::net::session::Peer;
use crate::net::transport::stream::Tx;
use crate::wire::{Code, DaemonFrame, Encoded, LARGE, Refusal};
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

/// Bytes read under one lock and handed to the stream at once, 64 KiB: enough to fill packets,
/// little enough that nobody waits long for the lock.
const BATCH: usize = 64 << 10;

/// A subscription's stream, opened when there is something to write. It is finished however its
/// delivery ends: what was written before still arrives, perhaps with a frame cut short at its end.
#[derive(Default)]
pub(crate) struct Stream(Option<Tx>);

impl Stream {
    /// Writes pieces, of which the first says whose they are; what the peer knows is left out.
    pub(crate) async fn write(
        &mut self,
        peer: &Peer,
        pieces: &mut [Bytes],
    ) -> Result<(), WriteError> {
        let tx = match &mut self.0 {
            Some(tx) => tx,
            None => self.0.insert(peer.link.open_uni().await.map_err(WriteError::Gone)?),
        };
        tx.write_for(pieces).await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tx) = &mut self.0 {
            tx.finish();
        }
    }
}

/// Delivers until the subscription or the session ends.
/// Messages older than `deadline` µs are passed over; 0 is none.
pub(crate) async fn deliver(
    peer: Arc<Peer>,
    request: u32,
    id: SubscriptionId,
    deadline: u64,
    mut marks: Marks,
) {
    let mut stream = Stream::default();
    // Stands before whatever is written; what the peer knows is left out there.
    let whose = DaemonFrame::For { request }.to_bytes();
    let mut pieces = vec![whose.clone()];
    loop {
        let mut items = 0;
        let read = poll_fn(|context| {
            let wanted = wanted(BATCH, deadline, Large::Pieces);
            peer.core.poll_read(id, context, wanted, &mut |item| {
                items += usize::from(matches!(item, Item::Message(_) | Item::Gap { .. }));
                append(&item, &mut pieces);
            })
        });
        let more = match read.await {
            Ok(more) => more,
            Err(refusal) => {
                // What was read before it fell behind is still written.
                if pieces.len() > 1 {
                    let _ = stream.write(&peer, &mut pieces).await;
                }
                drop(stream);
                return fell_behind(&peer, request, &refusal);
            }
        };
        marks.count(items);
        if marks.are_due() {
            pieces.extend(marks.take(&peer, id));
        }
        let (written, at_once) = at_once(pin!(stream.write(&peer, &mut pieces))).await;
        match written {
            Ok(()) => {
                pieces.clear();
                pieces.push(whose.clone());
                // Written without waiting: nobody can have woken this task for anything but more.
                if !more && at_once {
                    woken().await;
                }
            }
            Err(WriteError::Stopped) => {
                return peer
                    .end(request, &Refusal::new(Code::DONE, "the client stopped the stream"));
            }
            // The session sees it too, and ends.
            Err(WriteError::Gone(_)) => return,
        }
    }
}

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
async fn woken() {
    let mut asleep = true;
    poll_fn(|_| if std::mem::take(&mut asleep) { Poll::Pending } else { Poll::Ready(()) }).await;
}

/// Tells the peer that a subscription has ended.
pub(crate) fn fell_behind(peer: &Peer, request: u32, refusal: &Refusal) {
    // DONE: it was ended while it was read.
    if refusal.code != Code::DONE {
        peer.end(request, refusal);
    }
}

/// What to read when what is older than `deadline` µs is to be passed over; 0 is none.
pub(crate) fn wanted(budget: usize, deadline: u64, large: Large) -> Wanted {
    let since = |deadline| crate::net::now().saturating_sub(deadline);
    let accepted_since = Some(deadline).filter(|d| *d > 0).map_or(0, since);
    Wanted { budget, accepted_since, large }
}

fn append(item: &Item<'_>, pieces: &mut Vec<Bytes>) {
    if let Item::Message(message) = item
        && let Some(encoded) = message.encoded()
    {
        append_encoded(encoded, pieces);
    } else if let Item::Chunk(chunk) = item {
        append_chunk(chunk, pieces);
    } else {
        let mut frame = Vec::with_capacity(64);
        encode_item(item, &mut frame);
        pieces.push(frame.into());
    }
}

/// Appends a message's bytes.
pub(crate) fn append_encoded(message: &Encoded, pieces: &mut Vec<Bytes>) {
    let (head, body) = message.pieces();
    pieces.push(head.clone());
    if !body.is_empty() {
        pieces.push(body.clone());
    }
}

/// Sends the answer to a get, on a stream of its own where there are streams. `head` says whom it
/// is for, and then the topic.
pub(crate) async fn answer(peer: Arc<Peer>, request: u32, head: [Bytes; 2], message: Answer) {
    let [whose, topic] = head;
    match message {
        Answer::Small(message) => {
            let Ok(mut tx) = peer.link.open_uni().await else {
                return;
            };
            let (first, rest) = message.pieces();
            tx.set_priority(priority(message.size()));
            let mut pieces = [whose, topic, first.clone(), rest.clone()];
            if tx.write_for(&mut pieces).await.is_ok() {
                tx.finish();
            }
        }
        Answer::Large { topic: id, sequence } => {
            let Ok(follow) = Follow::begin(&peer, id, sequence) else {
                return peer.fail(request, Code::EVICTED, "the message has just left the cache");
            };
            let Ok(mut tx) = peer.link.open_uni().await else {
                return;
            };
            tx.set_priority(priority(LARGE + 1));
            if follow.send(&mut tx, &whose, topic, false).await.is_ok() {
                tx.finish();
            }
        }
    }
}
