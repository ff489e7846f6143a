//! What a daemon reads of a WebSocket (RFC 6455, section 5): what is in its binary messages, as it
//! comes. The library below would keep a message until it is whole, and tell nobody how much of it
//! there is.

use super::BATCH;
use super::socket::Io;
use crate::wire::{Code, Refusal};
use bytes::{Buf as _, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// Bytes read from the socket at once: 2 KiB of a session that says little, 16 KiB of one that
/// fills them.
const READ: std::ops::RangeInclusive<usize> = (2 << 10)..=(16 << 10);

/// What each piece costs to take, even if it is empty, bytes.
const PIECE: usize = 64;

/// Most bytes that a control frame carries (RFC 6455, section 5.5).
const CONTROL: u64 = 125;

/// What has been read and not taken. Shared between the socket and who reads it.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    // An empty one stands where a message ends.
    pieces: VecDeque<Bytes>,
    cost: usize,
    // Nothing can be read after it.
    failed: Option<Refusal>,
    // What still comes is dropped.
    ended: bool,
}

impl Heard {
    fn with<T>(&self, call: impl FnOnce(&mut Waiting) -> T) -> T {
        call(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Moves everything that waits to `pieces`: says what that costs, and what was wrong after it.
    pub(super) fn take(&self, pieces: &mut VecDeque<Bytes>) -> (usize, Option<Refusal>) {
        self.with(|waiting| {
            pieces.append(&mut waiting.pieces);
            (std::mem::take(&mut waiting.cost), waiting.failed.take())
        })
    }

    /// Nobody takes anything any more.
    pub(super) fn end(&self) {
        self.with(|waiting| {
            waiting.ended = true;
            waiting.pieces.clear();
        });
    }

    fn is_full(&self) -> bool {
        self.with(|waiting| !waiting.ended && waiting.cost >= BATCH)
    }

    fn push(&self, piece: Bytes) {
        self.with(|waiting| {
            if !waiting.ended {
                waiting.cost += PIECE + piece.len();
                waiting.pieces.push_back(piece);
            }
        });
    }
}

/// What comes next.
enum At {
    Head,
    /// Bytes of a message: so many more, masked so, and whether the message ends with them.
    Data {
        left: u64,
        mask: [u8; 4],
        last: bool,
    },
    /// Bytes of a control frame, and whether it closes.
    Control {
        left: u64,
        closes: bool,
    },
    /// After a close, or what cannot be read.
    Nothing,
}

/// A socket of which the library below sees the control frames only.
pub(super) struct Sieve {
    io: Box<dyn Io>,
    heard: Heard,
    // Longest message, bytes.
    most: u64,
    buffer: BytesMut,
    read: usize,
    at: At,
    // Of the message that has begun and has not ended.
    message: Option<u64>,
    // Control frames that have not been read.
    control: BytesMut,
}

impl Sieve {
    pub(super) fn new(io: Box<dyn Io>, most: usize) -> (Self, Heard) {
        let heard = Heard::default();
        let sieve = Self {
            io,
            heard: heard.clone(),
            most: most as u64,
            buffer: BytesMut::new(),
            read: *READ.start(),
            at: At::Head,
            message: None,
            control: BytesMut::new(),
        };
        (sieve, heard)
    }

    /// Takes apart what was read, until that is all, a control frame has come, or enough waits to
    /// be taken.
    fn sift(&mut self) {
        while self.control.is_empty() && !self.heard.is_full() {
            match &mut self.at {
                At::Head => match self.head() {
                    Ok(Some(at)) => self.at = at,
                    Ok(None) => return,
                    Err(refusal) => {
                        self.heard.with(|waiting| waiting.failed = Some(refusal));
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
                        self.heard.push(piece.freeze());
                    }
                    if *left > 0 {
                        return;
                    }
                    if *last {
                        self.heard.push(Bytes::new());
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

    /// The head of the next frame; none if not all of it is there.
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
            (0, None) => return malformed("a WebSocket message that goes on and has not begun"),
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
                return malformed("a control frame of WebSocket that is long, or in parts");
            }
            // Left to the library, mask and all.
            return Ok(Some(At::Control { left: head as u64 + length, closes: opcode == 8 }));
        }
        let size = self.message.unwrap_or(0).saturating_add(length);
        if size > self.most {
            let reason =
                format!("a WebSocket message of {size} bytes is above the limit of {}", self.most);
            return Err(Refusal::new(Code::FRAME_TOO_LARGE, reason));
        }
        let Some(mask) = self.buffer.get(head - 4..head).and_then(|mask| mask.try_into().ok())
        else {
            return Ok(None);
        };
        self.buffer.advance(head);
        self.message = (!last).then_some(size);
        Ok(Some(At::Data { left: length, mask, last }))
    }
}

/// Takes the mask off (RFC 6455, section 5.3).
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
    /// Control frames. Whatever else comes goes where it is taken from; while too much waits there,
    /// nothing is read, and nobody woken: whoever takes it asks again.
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            this.sift();
            if !this.control.is_empty() {
                let take = this.control.len().min(into.remaining());
                into.put_slice(&this.control.split_to(take));
                return Poll::Ready(Ok(()));
            }
            if this.heard.is_full() {
                return Poll::Pending;
            }
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
