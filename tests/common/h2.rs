//! A minimal HTTP/2 client (RFC 9113) without TLS. It opens no window, answers no ping, and reads
//! only when a test asks it to.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Returns the status of an answer: the first field of its head.
    pub fn status(&self) -> u16 {
        assert_eq!(self.kind, HEADERS);
        let fields: &[u8] = match self.payload[0] {
            // A change of the table's size precedes the fields.
            0x20..=0x3f => &self.payload[1..],
            _ => &self.payload,
        };
        match fields[0] {
            0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(fields[0] - 0x88)],
            0x08 | 0x18 | 0x48 if fields[1] & 0x80 > 0 => digits(&fields[2..]),
            0x08 | 0x18 | 0x48 => std::str::from_utf8(&fields[2..5]).unwrap().parse().unwrap(),
            other => panic!("a head that begins with {other:#x}"),
        }
    }

    pub fn ends(&self) -> bool {
        self.kind <= HEADERS && self.flags & END_STREAM > 0
    }
}

// Decodes three digits in the Huffman code of RFC 7541, appendix B.
fn digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u16> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |n| u16::from(byte >> n & 1))).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let value = |length| bits[at..at + length].iter().fold(0, |sum, bit| sum * 2 + bit);
        let (digit, length) = match value(5) {
            short @ 0..=2 => (short, 5),
            _ => (value(6) - 0b01_1001 + 3, 6),
        };
        at += length;
        number = number * 10 + digit;
    }
    number
}

pub struct H2 {
    stream: TcpStream,
    buffer: Vec<u8>,
    next: u32,
}

impl H2 {
    /// Connects. Each answer has a window of `window` bytes.
    pub async fn connect(to: SocketAddr, window: u32) -> Self {
        Self::on(TcpStream::connect(to).await.unwrap(), window).await
    }

    /// The same over an open connection.
    pub async fn on(stream: TcpStream, window: u32) -> Self {
        let mut stream = stream;
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut h2 = Self { stream, buffer: Vec::new(), next: 1 };
        // Settings: no table of fields, no pushes, this window.
        let mut settings = Vec::new();
        for (setting, value) in [(1_u16, 0_u32), (2, 0), (4, window)] {
            settings.extend(setting.to_be_bytes());
            settings.extend(value.to_be_bytes());
        }
        h2.send(SETTINGS, 0, 0, &settings).await;
        // The daemon uses the settings once it has acknowledged them.
        while !h2.frame().await.is_some_and(|frame| frame.kind == SETTINGS && frame.flags == 1) {}
        h2
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // Reading reports a connection that the daemon has closed.
        let _ = self.stream.write_all(&frame).await;
    }

    /// Sends the head of a request. Returns the number of its stream.
    pub async fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> u32 {
        let stream = self.next;
        self.next += 2;
        let mut fields = Vec::new();
        let pseudo = [
            (":method", method),
            (":scheme", "http"),
            (":path", target),
            (":authority", "localhost"),
        ];
        for (name, value) in pseudo.iter().chain(headers) {
            fields.push(0);
            for text in [name, value] {
                assert!(text.len() < 127);
                fields.push(text.len() as u8);
                fields.extend(text.bytes());
            }
        }
        let ends = if method == "POST" { 0 } else { END_STREAM };
        self.send(HEADERS, END_HEADERS | ends, stream, &fields).await;
        stream
    }

    pub async fn body(&mut self, stream: u32, bytes: &[u8], ends: bool) {
        self.send(DATA, u8::from(ends), stream, bytes).await;
    }

    /// Widens the window of a stream by this many bytes. Stream 0 is the connection.
    pub async fn widen(&mut self, stream: u32, bytes: u32) {
        self.send(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()).await;
    }

    /// Reads the next frame. Returns `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        while self.buffer.len() < 9 || self.buffer.len() < 9 + self.length() {
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        let (length, rest) = (self.length(), self.buffer.split_off(9 + self.length()));
        let frame = std::mem::replace(&mut self.buffer, rest);
        let stream = u32::from_be_bytes(frame[5..9].try_into().unwrap());
        let payload = frame[9..9 + length].to_vec();
        Some(Frame { kind: frame[3], flags: frame[4], stream, payload })
    }

    fn length(&self) -> usize {
        u32::from_be_bytes([0, self.buffer[0], self.buffer[1], self.buffer[2]]) as usize
    }

    /// Reads up to a frame of this kind. Returns `None` if the connection ends before.
    pub async fn next(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// Reads the next frame, and acknowledges the pings and settings before it.
    pub async fn polite(&mut self) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            match frame.kind {
                PING if frame.flags == 0 => self.send(PING, 1, 0, &frame.payload).await,
                SETTINGS if frame.flags == 0 => self.send(SETTINGS, 1, 0, &[]).await,
                PING | SETTINGS | WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }
}
