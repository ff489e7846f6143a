//! The protocol `weir/1`: frames, their bytes, names and codes. Pure code without clock or socket.
//!
//! `docs/protocol.md` describes the protocol for authors of clients in other languages;
//! `tests/vectors/` pins the bytes. Streams, datagrams and WebSocket messages contain sequences of
//! *frames*. A frame is a length (LEB128 varint), then that many bytes of postcard. The daemon
//! receives [`ClientFrame`]s, and the client receives [`DaemonFrame`]s.
//!
//! Postcard has no schema evolution: variants are only appended, fields never change, and
//! [`Hello`](ClientFrame::Hello) carries the version.
//!
//! For that reason frames and their fields are not `#[non_exhaustive]`. A program that handles frames
//! has to handle each. A variant that is appended is a breaking change of this library.

mod client_frame;
mod code;
mod daemon_frame;
mod digest;
mod fields;
mod frame;
mod frame_reader;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gap_cause;
mod message;
mod name;
pub mod realtime;
mod resume;
mod varint;

pub use crate::wire::fields::{
    Delivery, Lag, Limits, Position, ProducerId, Start, TopEntry, TopicCursor, Which,
};
pub use crate::wire::frame_reader::{FrameError, FrameReader, MAX_SMALL_FRAME, frame_span};
pub use client_frame::ClientFrame;
pub use code::{Code, Refusal};
#[cfg(feature = "daemon")]
pub(crate) use daemon_frame::take_receipts;
pub use daemon_frame::{DAEMON_FRAMES, DaemonFrame, FIRST_DAEMON_FRAMES};
pub use digest::{Digest, DigestError};
pub use frame::DecodeError;
pub use gap_cause::GapCause;
pub use message::{Encoded, INLINE, encode_chunk, encode_message, encode_publish};
pub(crate) use name::is_reserved;
pub use name::{Filter, MAX_NAME, MAX_SEGMENTS, NameError, check_readable_topic, check_topic};
pub use resume::{Had, MAX_HAD, MAX_HAD_OF_TOPIC, MAX_RESUMED, Resume};

/// Protocol version in [`ClientFrame::Hello`]. The ALPN contains the major version too.
pub const VERSION: u32 = 1;

/// ALPN protocol name of raw QUIC sessions (RFC 7301).
pub const ALPN: &[u8] = b"weir/1";

/// Path of WebTransport and WebSocket sessions.
pub const PATH: &str = "/weir";

/// Default UDP and TCP port.
pub const PORT: u16 = 4433;

/// Maximum size of a frame that is neither a publication nor a message, 1 MiB.
///
/// Of a client's frames, only a subscription that resumes thousands of topics is as large; see
/// [`MAX_SMALL_FRAME`].
pub const MAX_CONTROL_FRAME: usize = 1 << 20;

/// Maximum number of topics that one session may publish to. Aliases are never released.
pub const MAX_ALIASES: usize = 4096;

/// Maximum size of what a frame adds to its payload, 96 bytes: type, ids, numbers and lengths.
pub const FRAME_OVERHEAD: usize = 96;

/// Maximum size of a small payload, 64 KiB. Larger ones are relayed in chunks, while they arrive.
pub const LARGE: usize = 64 << 10;

/// Maximum number of payload bytes in one chunk, 64 KiB.
pub const CHUNK: usize = 64 << 10;

/// Returns the value of a field in which 0 means none.
#[cfg(feature = "client")]
pub(crate) fn nonzero(value: u64) -> Option<u64> {
    (value > 0).then_some(value)
}
