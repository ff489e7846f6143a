//! Sending a large payload to one client. It is read from the cache a batch at a time, as over QUIC.
//! The answer is interrupted if the payload is evicted before its end.

use super::answer_budget;
use crate::broker::Broker;
use crate::broker::owned_item::LargeRef;
use crate::broker::subscription::Subscription;
use crate::broker::throttle::ReplayBudget;
use crate::engine::{Budget, Item};
use crate::json::Payload;
use crate::wire::GapCause;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_util::stream;
use http_body::{Frame, SizeHint};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Bytes read under one lock. One chunk may come on top.
const BATCH: usize = 32 << 10;

/// Maximum size of one read, bytes: half a chunk, and one chunk on top.
pub(super) const MAX_READ: usize = 96 << 10;

/// The batches of a complete large payload, from its beginning.
pub(super) struct Batches(Subscription);

/// The payload left the cache before all of it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message left the cache while it was being sent: request it again, or the newest one")]
pub(super) struct Evicted;

impl Batches {
    /// Begins to read. An error is the reason why the message cannot be read.
    pub(super) fn begin(broker: &Arc<Broker>, large: LargeRef) -> Result<Self, GapCause> {
        Subscription::follow(broker, large.topic, large.sequence).map(Self)
    }

    /// Returns the next batch, or `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Bytes>>, Evicted> {
        let mut chunks = Vec::new();
        loop {
            let (mut ended, mut evicted) = (false, false);
            let read = poll_fn(|context| {
                self.0.poll_read(context, BATCH, &mut |item| match item {
                    Item::Chunk(chunk) => chunks.push(chunk),
                    Item::End { .. } => ended = true,
                    Item::Abort { .. } => evicted = true,
                    _ => {}
                })
            });
            ended |= read.await.is_err();
            match (evicted, chunks.is_empty()) {
                (true, _) => return Err(Evicted),
                (false, false) => return Ok(Some(chunks)),
                (false, true) if ended => return Ok(None),
                (false, true) => {}
            }
        }
    }
}

/// A large payload in an event: text if all of it is UTF-8, else base64.
pub(super) struct LargeText {
    batches: Batches,
    text: bool,
    // A copy of the part that is being written.
    part: Payload,
    // The bytes after it that were read, and belong to the next part.
    rest: Vec<u8>,
    // The number of bytes that were not read yet.
    left: usize,
}

impl LargeText {
    /// Reads the payload once, to find out whether it is UTF-8. An error is the reason why the
    /// message cannot be read.
    pub(super) async fn begin(broker: &Arc<Broker>, large: LargeRef) -> Result<Self, GapCause> {
        let mut batches = Batches::begin(broker, large)?;
        let (mut text, mut rest) = (true, Vec::new());
        while text && let Some(chunks) = batches.next().await.map_err(|_| GapCause::Evicted)? {
            for chunk in chunks {
                rest.extend_from_slice(&chunk);
                let error = std::str::from_utf8(&rest).err();
                text &= error.is_none_or(|error| error.error_len().is_none());
                rest.drain(..error.map_or(rest.len(), |error| error.valid_up_to()));
            }
        }
        let text = text && rest.is_empty();
        let batches = Batches::begin(broker, large)?;
        let part = Payload::part(Bytes::new(), text, large.size == 0);
        Ok(Self { batches, text, part, rest: Vec::new(), left: large.size })
    }

    /// Returns whether the payload is UTF-8.
    pub(super) fn is_text(&self) -> bool {
        self.text
    }

    /// Appends the next piece. Returns whether that was the end.
    pub(super) async fn write(&mut self, out: &mut Vec<u8>) -> Result<bool, Evicted> {
        if !self.part.write(out) {
            return Ok(false);
        }
        if self.left == 0 {
            return Ok(true);
        }
        let chunks = self.batches.next().await?.ok_or(Evicted)?;
        let mut bytes = std::mem::take(&mut self.rest);
        for chunk in chunks {
            self.left = self.left.saturating_sub(chunk.len());
            bytes.extend_from_slice(&chunk);
        }
        if self.left > 0 {
            self.rest = bytes.split_off(Payload::end_of_part(&bytes, self.text));
        }
        self.part = Payload::part(bytes.into(), self.text, self.left == 0);
        Ok(false)
    }
}

/// Returns a body with a large payload. At most one batch is on its way to the client. It is a copy
/// that is charged, because the payload may be evicted in the meantime.
pub(super) fn body(batches: Batches, budget: &Budget, replay: &ReplayBudget, size: usize) -> Body {
    let sending = (batches, budget.clone(), replay.clone());
    let batches = stream::unfold(Some(sending), |sending| async {
        let (mut batches, budget, replay) = sending?;
        replay.ready().await;
        let Some(mut charge) =
            answer_budget::wait(&budget, MAX_READ, answer_budget::PATIENCE).await
        else {
            let error = io::Error::other("no room to send it for too long: try again later");
            return Some((Err(error), None));
        };
        match batches.next().await {
            Ok(chunks) => {
                let bytes = chunks?.concat();
                charge.resize(bytes.len());
                replay.spend(bytes.len() as u64);
                let charged = answer_budget::charged(bytes, charge);
                Some((Ok(charged), Some((batches, budget, replay))))
            }
            Err(evicted) => Some((Err(io::Error::other(evicted)), None)),
        }
    });
    Body::new(Sized { body: Body::from_stream(batches), left: size as u64 })
}

// A body of a known length.
struct Sized {
    body: Body,
    left: u64,
}

impl HttpBody for Sized {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.left -= frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
