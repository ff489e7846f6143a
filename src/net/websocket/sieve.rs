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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::task::Waker;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketContext};

    // Everything that comes through, read as it is and taken when it is: data, control.
    fn through(bytes: &[u8], cuts: &[usize], most: usize) -> (Vec<Vec<u8>>, Vec<u8>, Heard) {
        let (mut theirs, ours) = tokio::io::duplex(1 << 24);
        let (mut sieve, heard) = Sieve::new(Box::new(ours), most);
        let mut context = Context::from_waker(Waker::noop());
        let (mut messages, mut control) = (vec![Vec::new()], Vec::new());
        let (mut rest, mut cuts) = (bytes, cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            rest = later;
            assert!(Pin::new(&mut theirs).poll_write(&mut context, now).is_ready());
            loop {
                let mut buffer = [0; 100];
                let mut buffer = ReadBuf::new(&mut buffer);
                let read = Pin::new(&mut sieve).poll_read(&mut context, &mut buffer);
                control.extend_from_slice(buffer.filled());
                let mut pieces = VecDeque::new();
                let any = heard.with(|waiting| {
                    assert!(waiting.cost < BATCH + PIECE + READ.end());
                    waiting.cost = 0;
                    pieces.append(&mut waiting.pieces);
                    !pieces.is_empty()
                });
                for piece in pieces {
                    if piece.is_empty() {
                        messages.push(Vec::new());
                    } else {
                        messages.last_mut().unwrap().extend_from_slice(&piece);
                    }
                }
                if read.is_pending() && !any {
                    break;
                }
            }
        }
        (messages, control, heard)
    }

    // A frame of a client's, masked.
    fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            length @ 0..126 => out.push(0x80 | length as u8),
            length @ 126..0x1_0000 => {
                out.push(0xfe);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                out.push(0xff);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_and_pings_beside_them(
            frames in proptest::collection::vec(
                (0_usize..3, prop_oneof![0_usize..300, 60_000_usize..140_000], any::<[u8; 4]>()), 0..12),
            cuts in proptest::collection::vec(prop_oneof![1_usize..40, 1000_usize..100_000], 1..20),
        ) {
            let (mut bytes, mut pings) = (Vec::new(), Vec::new());
            let (mut expected, mut goes_on) = (vec![Vec::new()], false);
            for (n, (kind, size, mask)) in frames.into_iter().enumerate() {
                let payload: Vec<u8> = (0..size).map(|at| (at * 7 + n) as u8).collect();
                if kind == 0 {
                    let ping = frame(0x89, &payload[..size.min(125)], mask);
                    bytes.extend_from_slice(&ping);
                    pings.extend_from_slice(&ping);
                    continue;
                }
                let last = kind == 1;
                let first = if goes_on { 0 } else { 2 } | if last { 0x80 } else { 0 };
                bytes.extend_from_slice(&frame(first, &payload, mask));
                expected.last_mut().unwrap().extend_from_slice(&payload);
                if last {
                    expected.push(Vec::new());
                }
                goes_on = !last;
            }
            let (messages, control, heard) = through(&bytes, &cuts, 1 << 24);
            prop_assert_eq!(heard.with(|waiting| waiting.failed.take()), None);
            prop_assert!(messages == expected);
            prop_assert_eq!(control, pings);
        }

        #[test]
        fn damaged_bytes_never_panic(bytes: Vec<u8>, cuts in proptest::collection::vec(1_usize..9, 1..9)) {
            through(&bytes, &cuts, 1000);
        }
    }

    #[test]
    fn what_the_library_writes_is_what_is_heard() {
        let mut wire = io::Cursor::new(Vec::new());
        let mut client = WebSocketContext::new(Role::Client, None);
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            client.write(&mut wire, Message::Binary(vec![size as u8; size].into())).unwrap();
        }
        client.flush(&mut wire).unwrap();
        let (messages, _, _) = through(&wire.into_inner(), &[1 << 16], 1 << 20);
        let lengths: Vec<_> = messages.iter().map(Vec::len).collect();
        assert_eq!(lengths, [0, 1, 125, 126, 65_535, 65_536, 0]);
    }

    #[test]
    fn what_is_wrong_is_told_after_what_came_before_it() {
        let good = frame(0x82, b"good", [1, 2, 3, 4]);
        for (bad, code, words) in [
            (frame(0x81, b"text", [0; 4]), Code::MALFORMED, "text"),
            (frame(0xc2, b"", [0; 4]), Code::MALFORMED, "reserved bit"),
            (frame(0x83, b"", [0; 4]), Code::MALFORMED, "reserved kind"),
            (frame(0x8b, b"", [0; 4]), Code::MALFORMED, "reserved kind"),
            (frame(0x80, b"", [0; 4]), Code::MALFORMED, "has not begun"),
            (vec![0x82, 0], Code::MALFORMED, "masked"),
            (frame(0x09, b"", [0; 4]), Code::MALFORMED, "in parts"),
            (frame(0x89, &[0; 126], [0; 4]), Code::MALFORMED, "long"),
            ([frame(2, b"", [0; 4]), frame(2, b"", [0; 4])].concat(), Code::MALFORMED, "another"),
            (frame(0x82, &[0; 101], [0; 4]), Code::FRAME_TOO_LARGE, "101"),
            (
                [frame(2, &[0; 60], [0; 4]), frame(0x80, &[0; 41], [0; 4])].concat(),
                Code::FRAME_TOO_LARGE,
                "limit of 100",
            ),
            (
                vec![0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255],
                Code::FRAME_TOO_LARGE,
                "limit",
            ),
        ] {
            let bytes = [&good[..], &bad, &good].concat();
            let (messages, control, heard) = through(&bytes, &[3], 100);
            assert!(messages[0] == b"good" && control.is_empty());
            let refusal = heard.with(|waiting| waiting.failed.take()).unwrap();
            assert_eq!(refusal.code, code, "{refusal}");
            assert!(refusal.reason.contains(words), "{refusal}");
        }
    }
}
