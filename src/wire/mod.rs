//! The protocol `weir/1`: frames, their bytes, names and codes. Pure: no clock, no socket.
//!
//! `docs/protocol.md` describes the same for someone who writes a client in another language;
//! `tests/vectors/` pins the bytes. Everything on a stream, in a datagram or in a WebSocket
//! message is a sequence of *frames*: a length (LEB128 varint), then that many bytes of postcard,
//! a [`ClientFrame`] towards the daemon or a [`DaemonFrame`] towards the client.
//!
//! Postcard has no schema evolution: variants are only appended, fields never change, and
//! [`Hello`](ClientFrame::Hello) carries the version.

mod code;
mod digest;
mod fields;
mod frame;
mod frame_reader;
mod message;
mod name;
pub mod realtime;
mod varint;

pub use crate::wire::fields::{
    Delivery, GapCause, Lag, Limits, MAX_RESUMED, Position, ProducerId, Resume, Start, TopEntry,
    TopicCursor, Which,
};
pub use crate::wire::frame_reader::{FrameError, FrameReader, MAX_SMALL_FRAME, frame_span};
pub use code::{Code, Refusal};
pub use digest::Digest;
pub use frame::{ClientFrame, DaemonFrame, DecodeError};
pub use message::{Encoded, INLINE, encode_chunk, encode_message, encode_publish};
pub use name::{Filter, MAX_NAME, MAX_SEGMENTS, NameError, check_topic};

/// Protocol version in [`ClientFrame::Hello`]; the major version also stands in the ALPN.
pub const VERSION: u32 = 1;

/// ALPN protocol name of raw QUIC sessions (RFC 7301).
pub const ALPN: &[u8] = b"weir/1";

/// Path of the WebTransport (and WebSocket) session.
pub const PATH: &str = "/weir";

/// Default UDP and TCP port.
pub const PORT: u16 = 4433;

/// Largest frame that is not a publication or a message: 1 MiB. Of a client's only a subscription is
/// as large, one that resumes thousands of topics; see [`MAX_SMALL_FRAME`].
pub const MAX_CONTROL_FRAME: usize = 1 << 20;

/// Most topics that one session may publish to: aliases are not given back.
pub const MAX_ALIASES: usize = 4096;

/// What a frame may add to its payload: type, ids, numbers and lengths. 96 bytes.
pub const FRAME_OVERHEAD: usize = 96;

/// Payloads above this are large: they are relayed while they arrive, and in chunks. 64 KiB.
pub const LARGE: usize = 64 << 10;

/// Most bytes of a payload in one chunk, 64 KiB.
pub const CHUNK: usize = 64 << 10;
