//! A large payload on its way to one client: read from the cache a batch at a time, as over QUIC.
//! What the cache gives up meanwhile breaks off.

use super::answer_budget;
use crate::broker::Broker;
use crate::broker::subscription::Subscription;
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

/// Bytes read under one lock; a chunk may come on top.
const BATCH: usize = 32 << 10;

/// The most that one read gives, bytes: half a chunk, and then a whole one.
pub(super) const MOST: usize = 96 << 10;

/// A large payload that is complete, from its beginning.
pub(super) struct Batches(Subscription);

/// The payload left the cache before all of it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message has left the cache while it was sent: ask again, for the newest perhaps")]
pub(super) struct Evicted;

impl Batches {
    /// Begins; or says why the message will not come.
    pub(super) fn begin(broker: &Arc<Broker>, topic: u64, sequence: u64) -> Result<Self, GapCause> {
        Subscription::follow(broker, topic, sequence).map(Self)
    }

    /// The next batch; none at the end.
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

/// A large payload in an event: as text if all of it is UTF-8, else as base64.
pub(super) struct LargeText {
    batches: Batches,
    text: bool,
    // The part that is being written, a copy; what of its bytes belongs to the next; and how much of
    // the payload comes after both.
    part: Payload,
    rest: Vec<u8>,
    left: usize,
}

impl LargeText {
    /// Reads all of it once, to see what it is. Says why it will not come, if it will not.
    pub(super) async fn begin(
        broker: &Arc<Broker>,
        topic: u64,
        sequence: u64,
        size: usize,
    ) -> Result<Self, GapCause> {
        let mut batches = Batches::begin(broker, topic, sequence)?;
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
        let batches = Batches::begin(broker, topic, sequence)?;
        let part = Payload::part(Bytes::new(), text, size == 0);
        Ok(Self { batches, text, part, rest: Vec::new(), left: size })
    }

    /// Whether it is UTF-8.
    pub(super) fn is_text(&self) -> bool {
        self.text
    }

    /// Appends the next of it; says whether that was the end.
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

/// A body that is a large payload. The client has at most one batch of it under way, a copy that is
/// charged, because the cache may give the payload up meanwhile.
pub(super) fn body(batches: Batches, budget: &Budget, size: usize) -> Body {
    let sending = (batches, budget.clone());
    let batches = stream::unfold(Some(sending), |sending| async {
        let (mut batches, budget) = sending?;
        let Some(mut charge) = answer_budget::wait(&budget, MOST, answer_budget::PATIENCE).await
        else {
            let error = io::Error::other("no room to send it for too long: ask again later");
            return Some((Err(error), None));
        };
        match batches.next().await {
            Ok(chunks) => {
                let bytes = chunks?.concat();
                charge.resize(bytes.len());
                Some((Ok(answer_budget::charged(bytes, charge)), Some((batches, budget))))
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
