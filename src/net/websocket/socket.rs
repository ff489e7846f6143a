//! The library's WebSocket, as it is set up at either end.

use futures_util::stream::{SplitSink, SplitStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
#[cfg(feature = "daemon")]
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Bytes read from the socket at once by a client; there is such a buffer for each session. The
/// daemon's library reads control frames only, of which one has 139 bytes at most.
const DIALLED_BUFFER: usize = 64 << 10;
#[cfg(feature = "daemon")]
const SERVED_BUFFER: usize = 256;

/// Bytes in both directions.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A WebSocket that is connected.
pub(super) type Socket = WebSocketStream<Box<dyn Io>>;

/// Its two halves.
pub(super) type SocketSink = SplitSink<Socket, Message>;
pub(super) type SocketStream = SplitStream<Socket>;

// Nothing waits in the write buffer for more to come: what goes out together has been put together,
// and what the socket does not take is to be noticed at once.

/// What a dialling client lets in: it learns the daemon's limit only later, and a frame's own
/// length ends here.
pub(crate) fn dialled_config() -> WebSocketConfig {
    let most = Some(u32::MAX as usize);
    WebSocketConfig::default()
        .max_message_size(most)
        .max_frame_size(most)
        .read_buffer_size(DIALLED_BUFFER)
        .write_buffer_size(0)
}

/// What may wait to be sent, bytes. Pings that a peer sends and whose answers it does not read add
/// up to so much; of those beyond it only the newest is answered (RFC 6455, 5.5.3). The daemon's
/// largest message is smaller: a batch, and behind it a frame with the 100 highest counts, of which
/// each has at most 4 KiB of its payload.
#[cfg(feature = "daemon")]
const SERVED_UNSENT: usize = 512 << 10;

/// The daemon's end of a connection that has been upgraded.
#[cfg(feature = "daemon")]
pub(super) async fn served(io: Box<dyn Io>) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(SERVED_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(SERVED_UNSENT);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}
