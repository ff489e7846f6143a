//! The two libraries' WebSockets as one type: the HTTP server's and the dialled one.

use crate::wire::MAX_CONTROL_FRAME;
#[cfg(feature = "daemon")]
use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Bytes read from the socket at once; there is such a buffer for each session.
#[cfg(feature = "daemon")]
const SERVED_BUFFER: usize = 16 << 10;
const DIALLED_BUFFER: usize = 64 << 10;

// Nothing waits in the write buffer for more to come: what goes out together has been put together,
// and what the socket does not take is to be noticed at once.

/// An upgrade with the bounds of a daemon that takes payloads of `payload` bytes: its largest
/// message holds one of them and what else may be on its way.
#[cfg(feature = "daemon")]
pub(crate) fn bounded<F>(
    upgrade: axum::extract::ws::WebSocketUpgrade<F>,
    payload: usize,
) -> axum::extract::ws::WebSocketUpgrade<F> {
    let most = payload + MAX_CONTROL_FRAME;
    upgrade
        .max_message_size(most)
        .max_frame_size(most)
        .read_buffer_size(SERVED_BUFFER)
        .write_buffer_size(0)
}

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

/// Bytes in both directions.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A WebSocket that is connected.
pub(super) enum Socket {
    #[cfg(feature = "daemon")]
    Served(axum::extract::ws::WebSocket),
    Dialled(WebSocketStream<Box<dyn Io>>),
}

#[cfg(feature = "daemon")]
mod served {
    use super::{Bytes, Error, Message};
    use axum::extract::ws;
    use tokio_tungstenite::tungstenite::Utf8Bytes;
    use tokio_tungstenite::tungstenite::protocol::CloseFrame;

    pub(super) fn from(message: ws::Message) -> Message {
        match message {
            ws::Message::Binary(bytes) => Message::Binary(bytes),
            // What it says is of no interest.
            ws::Message::Text(_) => Message::Text(Utf8Bytes::default()),
            ws::Message::Ping(bytes) => Message::Ping(bytes),
            ws::Message::Pong(bytes) => Message::Pong(bytes),
            ws::Message::Close(close) => Message::Close(close.map(|close| CloseFrame {
                code: close.code.into(),
                reason: close.reason.as_str().into(),
            })),
        }
    }

    pub(super) fn into(message: Message) -> ws::Message {
        match message {
            Message::Binary(bytes) => ws::Message::Binary(bytes),
            Message::Close(close) => ws::Message::Close(close.map(|close| ws::CloseFrame {
                code: close.code.into(),
                reason: close.reason.as_str().into(),
            })),
            // Nothing else is written.
            _ => ws::Message::Ping(Bytes::new()),
        }
    }

    pub(super) fn error(error: axum::Error) -> Error {
        match error.into_inner().downcast() {
            Ok(error) => *error,
            Err(other) => Error::Io(std::io::Error::other(other)),
        }
    }
}

impl Stream for Socket {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            #[cfg(feature = "daemon")]
            Self::Served(socket) => {
                let next = socket.poll_next_unpin(context);
                next.map(|next| next.map(|m| m.map(served::from).map_err(served::error)))
            }
            Self::Dialled(socket) => socket.poll_next_unpin(context),
        }
    }
}

// Each call goes through to the socket that there is.
macro_rules! through {
    ($self:ident, $socket:ident => $call:expr) => {
        match $self.get_mut() {
            #[cfg(feature = "daemon")]
            Self::Served($socket) => $call.map_err(served::error),
            Self::Dialled($socket) => $call,
        }
    };
}

impl Sink<Message> for Socket {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        through!(self, socket => socket.poll_ready_unpin(context))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        match self.get_mut() {
            #[cfg(feature = "daemon")]
            Self::Served(socket) => {
                socket.start_send_unpin(served::into(message)).map_err(served::error)
            }
            Self::Dialled(socket) => socket.start_send_unpin(message),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        through!(self, socket => socket.poll_flush_unpin(context))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        through!(self, socket => socket.poll_close_unpin(context))
    }
}
