//! The rate of HTTP/2 frames that cost work and carry nothing.
//!
//! A peer may send pings, settings, priorities, windows, resets and empty data as fast as its network
//! carries them, and each is handled or answered (RFC 9113, section 10.5). No request counts them. So
//! they are counted here, as messages of the peer's address. A peer that is too fast is not read for
//! a while, and is closed if it stays so.
//!
//! The library answers headers that are too large, and those of streams that were reset, without a request
//! of ours. So headers count too, as far as no request belongs to them.
//!
//! A client widens its windows while it reads. So each KiB that it is sent pays for one such frame.

use super::connection::ConnectionHandle;
use crate::broker::resting::Resting;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first bytes of an HTTP/2 connection (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length of a frame's header, bytes.
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// Bytes sent that pay for one WINDOW_UPDATE: 1 KiB. Clients send two of them for each 16 KiB or more.
const PAYS: usize = 1 << 10;

/// WINDOW_UPDATE frames that a new connection may send: a browser widens its windows at the begin.
const STIPEND: usize = 100;

/// Maximum number of WINDOW_UPDATE frames that are paid for in advance.
const MOST_PAID: usize = 1024;

/// Requests whose headers have come and that have not begun: twice the 100 that a client may have open.
const WAITING: u64 = 200;

/// The place of the next byte.
#[derive(Debug)]
enum Place {
    // So many bytes are those of the preface.
    Preface(usize),
    // So many bytes of a frame's header have come.
    Header([u8; HEADER], usize),
    // So many bytes of a frame are still to come.
    Payload(usize),
    // It is not HTTP/2.
    Other,
}

/// Counts the frames in a stream of bytes.
#[derive(Debug)]
struct Frames {
    place: Place,
    // The number of WINDOW_UPDATE frames that are paid for.
    paid: usize,
    // Bytes sent that do not pay for a frame yet.
    sent: usize,
    // The number of HEADERS frames.
    headers: u64,
}

impl Frames {
    const fn new() -> Self {
        Self { place: Place::Preface(0), paid: STIPEND, sent: 0, headers: 0 }
    }

    /// Counts bytes that were sent to the client.
    fn sent(&mut self, bytes: usize) {
        let sent = self.sent.saturating_add(bytes);
        self.paid = (self.paid + sent / PAYS).min(MOST_PAID);
        self.sent = sent % PAYS;
    }

    // Returns whether a frame counts as a message.
    fn counts(&mut self, kind: u8, flags: u8, length: u32) -> bool {
        if kind == WINDOW_UPDATE && self.paid > 0 {
            self.paid -= 1;
            return false;
        }
        self.headers += u64::from(kind == HEADERS);
        is_bare(kind, flags, length)
    }

    /// Returns the number of frames whose header ends in these bytes, that carry nothing, and that
    /// nothing has paid for.
    fn count(&mut self, mut bytes: &[u8]) -> usize {
        let mut counted = 0;
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.place {
                Place::Other => break,
                Place::Preface(at) if PREFACE[*at] != *first => self.place = Place::Other,
                Place::Preface(at) => {
                    *at += 1;
                    if *at == PREFACE.len() {
                        self.place = Place::Header([0; HEADER], 0);
                    }
                }
                Place::Header(header, at) => {
                    header[*at] = *first;
                    *at += 1;
                    if *at == HEADER {
                        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
                        let (kind, flags) = (header[3], header[4]);
                        self.place = Place::after(length as usize);
                        counted += usize::from(self.counts(kind, flags, length));
                    }
                }
                Place::Payload(left) => {
                    let taken = bytes.len().min(*left);
                    self.place = Place::after(*left - taken);
                    bytes = &bytes[taken..];
                    continue;
                }
            }
            bytes = rest;
        }
        counted
    }
}

impl Place {
    fn after(left: usize) -> Self {
        if left == 0 { Self::Header([0; HEADER], 0) } else { Self::Payload(left) }
    }
}

// Whether a frame carries no part of a request. Requests have limits of their own.
fn is_bare(kind: u8, flags: u8, length: u32) -> bool {
    match kind {
        DATA => length == 0 && flags & END_STREAM == 0,
        HEADERS | CONTINUATION => false,
        _ => true,
    }
}

/// A connection whose frames are counted.
pub(super) struct Paced<S> {
    stream: S,
    frames: Frames,
    handle: Arc<ConnectionHandle>,
    resting: Resting,
    // Headers of requests that did not become one, and are counted.
    stray: u64,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, handle: Arc<ConnectionHandle>) -> Self {
        Self { stream, frames: Frames::new(), handle, resting: Resting::default(), stray: 0 }
    }

    fn charge(&mut self, frames: usize) {
        if self.resting.charge(&self.handle.budgets().throttle, (frames, 0)) {
            self.handle.close();
        }
    }

    // Returns how many headers have come, since the last call, to which no request belongs: those that
    // are too large, of streams that were reset, and trailers. The library answers them by itself.
    fn stray(&mut self) -> usize {
        let requests = self.handle.begun() + self.stray;
        let stray = self.frames.headers.saturating_sub(requests + WAITING);
        self.stray += stray;
        stray as usize
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.resting.poll_rested(context));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let counted = self.frames.count(&buffer.filled()[before..]) + self.stray();
        if counted > 0 {
            self.charge(counted);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.frames.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, bytes))?;
        self.frames.sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [_, a, b, c] = (length as u32).to_be_bytes();
        // A payload whose bytes look like headers of pings.
        [&[a, b, c, kind, flags, 0, 0, 0, 1][..], &[6].repeat(length)].concat()
    }

    #[test]
    fn frames_that_carry_nothing_are_counted_wherever_reads_end() {
        let frames = [
            (4, 0, 0, true),
            (6, 0, 8, true),
            (1, 4, 30, false),
            (0, 0, 100, false),
            (0, 0, 0, true),
            (0, 1, 0, false),
            (9, 4, 5, false),
            (8, 0, 4, true),
            (3, 0, 4, true),
            (0x42, 0, 20_000, true),
            (6, 1, 8, true),
        ];
        let mut bytes = PREFACE.to_vec();
        let sent = |(kind, flags, length, _): &(u8, u8, usize, bool)| frame(*kind, *flags, *length);
        bytes.extend(frames.iter().flat_map(sent));
        let bare = frames.iter().filter(|(.., bare)| *bare).count();
        for size in [1, 2, 7, 9, 24, 100, 4096, bytes.len()] {
            let mut counter = Frames { paid: 0, ..Frames::new() };
            let counted: usize = bytes.chunks(size).map(|part| counter.count(part)).sum();
            assert_eq!(counted, bare, "{size}");
        }
    }

    #[test]
    fn a_kib_sent_pays_for_one_window_update_and_for_no_other_frame() {
        let mut counter = Frames::new();
        assert_eq!(counter.count(PREFACE), 0);
        let windows = |count| frame(WINDOW_UPDATE, 0, 4).repeat(count);
        assert_eq!(counter.count(&windows(STIPEND + 3)), 3);
        counter.sent(5 * PAYS - 1);
        assert_eq!(counter.count(&frame(6, 0, 8).repeat(7)), 7);
        assert_eq!(counter.count(&windows(5)), 1);
        counter.sent(1);
        assert_eq!(counter.count(&windows(2)), 1);
        counter.sent(usize::MAX);
        assert_eq!(counter.count(&windows(MOST_PAID + 9)), 9);
    }

    #[test]
    fn other_protocols_have_no_frames() {
        let mut counter = Frames::new();
        assert_eq!(counter.count(b"PRI * HTTP/1.1\r\n\r\n"), 0);
        assert_eq!(counter.count(&frame(6, 0, 8).repeat(100)), 0);
    }
}
