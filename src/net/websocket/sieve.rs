//! Reads the data of binary messages (RFC 6455, section 5) as it arrives, at the daemon's end.
//! The tungstenite crate would keep a message until it is complete, without reporting how much it
//! holds. It therefore sees the control frames only.

use super::socket::{BATCH, Io};
use crate::broker::resting::Resting;
use crate::broker::throttle::Throttle;
use crate::wire::{Code, Refusal};
use bytes::{Buf as _, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::task::coop;

/// Bytes read from the socket at once. It begins with 2 KiB, and doubles with each full read up to
/// 16 KiB.
const READ: std::ops::RangeInclusive<usize> = (2 << 10)..=(16 << 10);

/// The cost of each piece beside its bytes, even if it is empty, bytes.
const PIECE: usize = 64;

/// Maximum payload of a control frame, bytes (RFC 6455, section 5.5).
const CONTROL: u64 = 125;

/// Bytes of data frames that were counted for their heads and not charged yet. Asking for the time each
/// time would cost as much as a frame.
const UNCHARGED: u64 = 64 * PIECE as u64;

/// Data that has been received and not taken. The sieve fills it, and the reader takes from it.
#[derive(Clone, Default)]
pub(super) struct ReceiveQueue(Arc<Mutex<Received>>);

#[derive(Default)]
struct Received {
    // An empty piece marks the end of a message.
    pieces: VecDeque<Bytes>,
    cost: usize,
    // The last event: nothing can be read after it.
    failed: Option<Refusal>,
    // Further data is dropped.
    ended: bool,
}

impl ReceiveQueue {
    fn with<T>(&self, call: impl FnOnce(&mut Received) -> T) -> T {
        call(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Moves everything to `pieces`. Returns its cost, and the error after it.
    pub(super) fn take(&self, pieces: &mut VecDeque<Bytes>) -> (usize, Option<Refusal>) {
        self.with(|received| {
            pieces.append(&mut received.pieces);
            (std::mem::take(&mut received.cost), received.failed.take())
        })
    }

    /// Drops everything from now on.
    pub(super) fn end(&self) {
        self.with(|received| {
            received.ended = true;
            received.pieces.clear();
        });
    }

    fn is_full(&self) -> bool {
        self.with(|received| !received.ended && received.cost >= BATCH)
    }

    fn push(&self, piece: Bytes) {
        self.with(|received| {
            if !received.ended {
                received.cost += PIECE + piece.len();
                received.pieces.push_back(piece);
            }
        });
    }
}

/// Bytes below which a part of a message is short, 1 KiB. No client has reason to send many.
const SHORT: u64 = 1 << 10;

/// Frames that are as much work as one read, by which tokio decides when a task has worked enough.
const WORK: usize = 64;

/// The part of the stream that is read next.
enum At {
    Head,
    /// The rest of a frame's data: its length, its mask, and whether the message ends with it.
    Data {
        left: u64,
        mask: [u8; 4],
        last: bool,
    },
    /// The rest of a control frame, and whether it is a close frame.
    Control {
        left: u64,
        closes: bool,
    },
    /// Nothing more is read, after a close frame or an error.
    Nothing,
}

/// A socket of which tungstenite sees the control frames only.
pub(super) struct Sieve {
    io: Box<dyn Io>,
    received: ReceiveQueue,
    // Maximum length of a message, bytes.
    limit: u64,
    buffer: BytesMut,
    read: usize,
    at: At,
    // Bytes so far of the message that has not ended.
    message: Option<u64>,
    // Control frames that tungstenite has not read.
    control: BytesMut,
    // The peer's rate, once it has a session. Control frames, empty messages and short parts of messages
    // count as messages, and data frames as so many bytes beside their data.
    throttle: Arc<OnceLock<Throttle>>,
    counted: (usize, u64),
    resting: Resting,
    // Frames since the task has last been asked whether it has worked enough.
    work: usize,
}

impl Sieve {
    pub(super) fn new(io: Box<dyn Io>, limit: usize) -> (Self, ReceiveQueue) {
        let received = ReceiveQueue::default();
        let sieve = Self {
            io,
            received: received.clone(),
            limit: limit as u64,
            buffer: BytesMut::new(),
            read: *READ.start(),
            at: At::Head,
            message: None,
            control: BytesMut::new(),
            throttle: Arc::default(),
            counted: (0, 0),
            resting: Resting::default(),
            work: 0,
        };
        (sieve, received)
    }

    /// The place where the peer's rate is set.
    pub(super) fn throttle(&self) -> Arc<OnceLock<Throttle>> {
        self.throttle.clone()
    }

    // Counts the frames since the last call.
    fn charge(&mut self) {
        let (frames, bytes) = self.counted;
        if frames == 0 && bytes < UNCHARGED {
            return;
        }
        self.counted = (0, 0);
        if self.throttle.get().is_some_and(|of| self.resting.charge(of, (frames, bytes))) {
            let reason = "too many pings, pongs, or short pieces of messages for limits.messages or \
                          limits.bytes: send fewer";
            let refusal = Refusal::new(Code::RATE_LIMITED, reason);
            self.received.with(|received| received.failed = Some(refusal));
            self.at = At::Nothing;
        }
    }

    /// Parses what was read, until all is parsed, there is a control frame, or the queue is full.
    fn sift(&mut self) {
        while self.control.is_empty() && !self.received.is_full() {
            match &mut self.at {
                At::Head => match self.head() {
                    Ok(Some(at)) => self.at = at,
                    Ok(None) => return,
                    Err(refusal) => {
                        self.received.with(|received| received.failed = Some(refusal));
                        self.at = At::Nothing;
                    }
                },
                At::Data { left, mask, last } => {
                    let take = self.buffer.len().min((*left).try_into().unwrap_or(usize::MAX));
                    if take > 0 {
                        let mut piece = self.buffer.split_to(take);
                        unmask(&mut piece, *mask);
                        mask.rotate_left(take % 4);
                        *left -= take as u64;
                        self.received.push(piece.freeze());
                    }
                    if *left > 0 {
                        return;
                    }
                    if *last {
                        self.received.push(Bytes::new());
                    }
                    self.at = At::Head;
                }
                At::Control { left, closes } => {
                    if (self.buffer.len() as u64) < *left {
                        return;
                    }
                    self.control.unsplit(self.buffer.split_to(*left as usize));
                    self.at = if *closes { At::Nothing } else { At::Head };
                }
                At::Nothing => {
                    self.buffer.clear();
                    return;
                }
            }
        }
    }

    /// Parses the head of the next frame. Returns `None` if it is incomplete.
    fn head(&mut self) -> Result<Option<At>, Refusal> {
        let malformed = |reason| Err(Refusal::new(Code::MALFORMED, reason));
        let [first, second, rest @ ..] = &self.buffer[..] else {
            return Ok(None);
        };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        let is_control = opcode & 0x08 != 0;
        match (opcode, self.message) {
            _ if first & 0x70 != 0 => {
                return malformed("a reserved bit of a WebSocket frame is set");
            }
            _ if second & 0x80 == 0 => return malformed("a WebSocket frame that is not masked"),
            (0, None) => return malformed("a WebSocket message continues that has not begun"),
            (2, Some(_)) => return malformed("a WebSocket message before the end of another"),
            (1, _) => return malformed("a text message: frames come in binary messages"),
            (0 | 2 | 8..=10, _) => {}
            _ => return malformed("a WebSocket frame of a reserved kind"),
        }
        let (length, wide) = match second & 0x7f {
            126 => (rest.first_chunk().map(|wide| u64::from(u16::from_be_bytes(*wide))), 2),
            127 => (rest.first_chunk().map(|wide| u64::from_be_bytes(*wide)), 8),
            length => (Some(u64::from(length)), 0),
        };
        let Some(length) = length else {
            return Ok(None);
        };
        let head = 2 + wide + 4;
        if is_control {
            if length > CONTROL || !last {
                return malformed("a WebSocket control frame that is too long, or in parts");
            }
            self.counted.0 += 1;
            self.work += 1;
            // tungstenite gets the whole frame, with its mask.
            return Ok(Some(At::Control { left: head as u64 + length, closes: opcode == 8 }));
        }
        let size = self.message.unwrap_or(0).saturating_add(length);
        if size > self.limit {
            let reason =
                format!("a WebSocket message of {size} bytes is above the limit of {}", self.limit);
            return Err(Refusal::new(Code::FRAME_TOO_LARGE, reason));
        }
        let Some(mask) = self.buffer.get(head - 4..head).and_then(|mask| mask.try_into().ok())
        else {
            return Ok(None);
        };
        self.counted.1 += PIECE as u64;
        let is_part = !last || self.message.is_some();
        self.counted.0 += usize::from(length == 0 || (is_part && length < SHORT));
        self.work += 1;
        self.buffer.advance(head);
        self.message = (!last).then_some(size);
        Ok(Some(At::Data { left: length, mask, last }))
    }
}

/// Removes the mask (RFC 6455, section 5.3).
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(word) = <[u8; 8]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
        }
    }
    let rest = chunks.into_remainder();
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

impl AsyncRead for Sieve {
    /// Reads control frames, and moves data to the queue. While the queue is full it reads nothing,
    /// and no wake follows: the task that takes from the queue polls again.
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.work >= WORK {
                ready!(coop::poll_proceed(context)).made_progress();
                this.work = 0;
            }
            this.sift();
            this.charge();
            if !this.control.is_empty() {
                let take = this.control.len().min(into.remaining());
                into.put_slice(&this.control.split_to(take));
                return Poll::Ready(Ok(()));
            }
            if this.received.is_full() {
                return Poll::Pending;
            }
            ready!(this.resting.poll_rested(context));
            if this.buffer.capacity() - this.buffer.len() < this.read / 2 {
                this.buffer.reserve(this.read);
            }
            let room = this.buffer.capacity() - this.buffer.len();
            let read = ready!(pin!(this.io.read_buf(&mut this.buffer)).poll(context))?;
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            if read == room {
                this.read = (2 * this.read).min(*READ.end());
            }
        }
    }
}

impl AsyncWrite for Sieve {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
