//! The socket below a channel: tungstenite's WebSocket, and its settings at either end.

use futures_util::stream::{SplitSink, SplitStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
#[cfg(feature = "daemon")]
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Bytes read from the socket at once, and joined into one message, 64 KiB: as many as one read of
/// the engine. A single frame may be longer.
pub(super) const BATCH: usize = 64 << 10;

/// Bytes that tungstenite reads at once; each session has such a buffer. At the daemon it reads
/// control frames only, of at most 139 bytes each.
const DIALLED_BUFFER: usize = 64 << 10;
#[cfg(feature = "daemon")]
const SERVED_BUFFER: usize = 256;

/// A bidirectional stream of bytes.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connected WebSocket.
pub(super) type Socket = WebSocketStream<Box<dyn Io>>;

/// Its two halves.
pub(super) type SocketSink = SplitSink<Socket, Message>;
pub(super) type SocketStream = SplitStream<Socket>;

// The write buffer has size 0 at both ends. The writer has already joined what goes out together,
// and has to see at once when the socket takes no more.

/// The settings of a client. It learns the daemon's limit only later, so it allows 4 GiB, the
/// maximum length of a frame of this protocol.
pub(crate) fn dialled_config() -> WebSocketConfig {
    let limit = Some(u32::MAX as usize);
    WebSocketConfig::default()
        .max_message_size(limit)
        .max_frame_size(limit)
        .read_buffer_size(DIALLED_BUFFER)
        .write_buffer_size(0)
}

/// Maximum number of bytes that wait to be sent, 512 KiB. A peer that sends pings and does not read
/// the answers can cause as many; beyond it only the newest ping is answered (RFC 6455, section
/// 5.5.3). The daemon's largest message is smaller. It is a batch and a frame with the 100 highest
/// counts, each with at most 4 KiB of its payload.
#[cfg(feature = "daemon")]
const SERVED_UNSENT: usize = 512 << 10;

/// The daemon's end of an upgraded connection.
#[cfg(feature = "daemon")]
pub(super) async fn served(io: Box<dyn Io>) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(SERVED_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(SERVED_UNSENT);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}
