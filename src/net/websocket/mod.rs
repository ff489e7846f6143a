//! A session over WebSocket (RFC 6455): one channel in each direction, for everything.
//!
//! Tasks write one after the other, through one fair lock, without a task or a queue in between. A
//! cancelled write leaves whole messages behind: what it has begun is in the socket's buffer, and
//! goes out with the next write.

mod activity;
mod channel_state;
mod close_codes;
mod demux;
#[cfg(all(feature = "daemon", any(test, fuzzing)))]
pub(crate) mod fuzz;
mod reader;
#[cfg(feature = "daemon")]
mod sieve;
mod socket;
#[cfg(all(test, feature = "daemon"))]
mod tests;
mod writer;

pub(crate) use socket::{Io, dialled_config};

#[cfg(feature = "daemon")]
use crate::broker::throttle::Throttle;
use crate::net::deadlines::IDLE;
use crate::net::error::{ConnectionLost, ReadError, WriteError};
use crate::wire::Code;
#[cfg(feature = "daemon")]
use crate::wire::MAX_CONTROL_FRAME;
use activity::ActivityMonitor;
use bytes::Bytes;
use channel_state::{ChannelState, locked};
use close_codes::{close_frame, connection_lost};
use demux::Demux;
use futures_util::StreamExt as _;
use reader::Reader;
#[cfg(feature = "daemon")]
use sieve::Sieve;
use std::future::poll_fn;
use std::net::SocketAddr;
#[cfg(feature = "daemon")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use writer::Writer;

/// Time without activity after which this end sends a ping. The client's is shorter, so that the
/// client keeps the path through NATs and proxies open. The daemon pings browsers, which answer
/// pings and cannot send them.
const DIALLED_PING: Duration = Duration::from_secs(9);
#[cfg(feature = "daemon")]
const SERVED_PING: Duration = Duration::from_secs(10);

/// A session's connection. Clones share it.
#[derive(Clone)]
pub(crate) struct WebSocket(Arc<Channel>);

struct Channel {
    remote: SocketAddr,
    ping: Duration,
    writer: tokio::sync::Mutex<Writer>,
    reader: Mutex<Reader>,
    // The control stream has been opened.
    opened: AtomicBool,
    state: ChannelState,
    // The close frame, if this end closes.
    farewell: Mutex<Option<CloseFrame>>,
    // The peer's rate, at the daemon.
    #[cfg(feature = "daemon")]
    throttle: Arc<OnceLock<Throttle>>,
    left: watch::Sender<bool>,
}

impl Channel {
    fn new(
        sink: socket::SocketSink,
        (reader, activity): (Reader, Arc<ActivityMonitor>),
        remote: SocketAddr,
        ping: Duration,
        demux: Option<Mutex<Demux>>,
    ) -> Self {
        Self {
            remote,
            ping,
            writer: tokio::sync::Mutex::new(Writer::new(sink)),
            reader: Mutex::new(reader),
            opened: AtomicBool::new(false),
            state: ChannelState::new(activity, demux),
            farewell: Mutex::new(None),
            #[cfg(feature = "daemon")]
            throttle: Arc::default(),
            left: watch::channel(false).0,
        }
    }
}

/// Takes over a connection that the HTTP server has upgraded. `payload` is the largest payload,
/// bytes. The largest message holds one of them, and other frames.
#[cfg(feature = "daemon")]
pub(crate) async fn served(io: Box<dyn Io>, remote: SocketAddr, payload: usize) -> WebSocket {
    WebSocket::served(io, remote, payload + MAX_CONTROL_FRAME).await
}

/// Takes over a socket that this end has dialled.
pub(crate) fn dialled(socket: WebSocketStream<Box<dyn Io>>, remote: SocketAddr) -> WebSocket {
    let (sink, stream) = socket.split();
    let (activity, demux) = (ActivityMonitor::new(), Some(Mutex::default()));
    let reader = Reader::new(stream, &activity);
    WebSocket(Arc::new(Channel::new(sink, (reader, activity), remote, DIALLED_PING, demux)))
}

impl WebSocket {
    /// The daemon's end. `limit` is the maximum length of a message, bytes.
    #[cfg(feature = "daemon")]
    async fn served(io: Box<dyn Io>, remote: SocketAddr, limit: usize) -> Self {
        let (sieve, received) = Sieve::new(io, limit);
        let throttle = sieve.throttle();
        let (sink, stream) = socket::served(Box::new(sieve)).await.split();
        let activity = ActivityMonitor::new();
        let reader = Reader::of_sieve(stream, &activity, received);
        let channel = Channel::new(sink, (reader, activity), remote, SERVED_PING, None);
        Self(Arc::new(Channel { throttle, ..channel }))
    }

    /// Sets the rate of the peer's frames, once.
    #[cfg(feature = "daemon")]
    pub(super) fn set_throttle(&self, throttle: Throttle) {
        // An error means that it was set before.
        let _ = self.0.throttle.set(throttle);
    }

    /// The peer was not read for a while, because it is too fast. It was not silent.
    #[cfg(feature = "daemon")]
    pub(super) fn note_unread(&self) {
        self.0.state.activity.note();
    }

    pub(super) fn remote_address(&self) -> SocketAddr {
        self.0.remote
    }

    /// Returns the first time, for the one control stream. Later calls wait for the end.
    pub(super) async fn control(&self) -> Result<(), ConnectionLost> {
        if self.0.opened.swap(true, Relaxed) { Err(self.closed().await) } else { Ok(()) }
    }

    /// Waits for a new request, and returns its stream.
    pub(super) async fn accept(&self) -> Result<RequestStream, ConnectionLost> {
        let Some(demux) = &self.0.state.demux else {
            return Err(self.closed().await);
        };
        let request = poll_fn(|context| match locked(demux).poll_new_request(context) {
            Poll::Ready(request) => Poll::Ready(Ok(request)),
            Poll::Pending => {
                self.0.state.lost().map_or(Poll::Pending, |lost| Poll::Ready(Err(lost)))
            }
        });
        Ok(RequestStream { channel: self.clone(), request: request.await? })
    }

    /// Waits for a request whose reader is too slow.
    pub(super) async fn next_overflowed_request(&self) -> u32 {
        match &self.0.state.demux {
            Some(demux) => poll_fn(|context| locked(demux).poll_overflowed(context)).await,
            None => std::future::pending().await,
        }
    }

    /// Ends the stream of `request`, for which the daemon sends no more.
    pub(super) fn finish_request(&self, request: u32) {
        let mut wake = Vec::new();
        if let Some(demux) = &self.0.state.demux {
            locked(demux).end(request, &mut wake);
        }
        wake.into_iter().for_each(Waker::wake);
    }

    /// Waits until the connection is closed or lost. Meanwhile it sends pings, and detects a silent
    /// peer.
    pub(super) async fn watch(&self) -> ConnectionLost {
        loop {
            let quiet = self.0.state.activity.quiet();
            if quiet >= IDLE {
                let reason = format!("the peer was silent for {} s", IDLE.as_secs());
                self.0.state.end(ConnectionLost { code: Some(Code::TIMED_OUT), reason });
            } else if quiet >= self.0.ping {
                // While another task writes, no ping is needed.
                if let Ok(mut writer) = self.0.writer.try_lock() {
                    writer.ping();
                }
            }
            let next = if quiet < self.0.ping { self.0.ping } else { IDLE }.saturating_sub(quiet);
            tokio::select! {
                lost = self.0.state.closed() => return lost,
                () = tokio::time::sleep(next.min(self.0.ping)) => {}
            }
        }
    }

    /// Waits until the connection is closed or lost.
    pub(super) async fn closed(&self) -> ConnectionLost {
        self.0.state.closed().await
    }

    /// Ends the session. [`leave`](Self::leave) tells the peer.
    pub(super) fn close(&self, code: Code, reason: &str) {
        locked(&self.0.farewell).get_or_insert_with(|| close_frame(code, reason));
        self.0.state.end(ConnectionLost { code: None, reason: "closed by this end".into() });
    }

    /// Ends the session with the reason that the peer gave.
    pub(super) fn end(&self, lost: ConnectionLost) {
        self.0.state.end(lost);
    }

    /// Sends a close frame, and waits for the peer's (RFC 6455, section 7.1.2). The caller bounds
    /// the time.
    pub(super) async fn leave(&self, code: Code, reason: &str) {
        let close = locked(&self.0.farewell).take();
        let close = close.unwrap_or_else(|| close_frame(code, reason));
        // If the peer closed first, this is the answer.
        let _ = self.0.writer.lock().await.close(close).await;
        poll_fn(|context| locked(&self.0.reader).poll_end(context)).await;
    }

    /// The closing handshake is done, or has timed out.
    pub(super) fn set_left(&self) {
        self.0.state.end(ConnectionLost { code: None, reason: "closed by this end".into() });
        self.0.left.send_replace(true);
    }

    /// Waits for [`set_left`](Self::set_left).
    pub(super) async fn left(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.left.subscribe().wait_for(|left| *left).await;
    }

    /// Writes pieces, which together are whole frames. With `begins_with_for`, the first piece is a
    /// `For` frame, and is left out if the last one was the same.
    pub(super) async fn write(
        &self,
        pieces: &mut [Bytes],
        begins_with_for: bool,
    ) -> Result<(), WriteError> {
        let mut writer = self.0.writer.lock().await;
        let written = writer.write(pieces, begins_with_for).await;
        written.map_err(|error| {
            WriteError::ConnectionLost(
                self.0.state.lost().unwrap_or_else(|| connection_lost(&error)),
            )
        })
    }

    /// Reads what there is for control, at least one piece. At the daemon's end, pieces are parts
    /// of messages, and an empty piece marks the end of a message.
    pub(super) async fn read(&self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        let Channel { state, reader, .. } = &*self.0;
        let read = poll_fn(|context| locked(reader).poll_read(state, pieces, context)).await;
        if let Err(ReadError::ConnectionLost(lost)) = &read {
            state.end(lost.clone());
        }
        read.map(Some)
    }
}

/// The frames of one request.
pub(crate) struct RequestStream {
    channel: WebSocket,
    request: u32,
}

impl RequestStream {
    /// Whether the stream ended early because it was not read fast enough.
    pub(super) fn has_overflowed(&self) -> bool {
        let demux = self.channel.0.state.demux.as_ref();
        demux.is_some_and(|demux| locked(demux).has_overflowed(self.request))
    }

    /// Reads what there is, at least one piece. Returns `None` at the end.
    pub(super) async fn read(&self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        let Some(demux) = &self.channel.0.state.demux else {
            return Ok(None);
        };
        let mut read = |context: &mut Context<'_>| match locked(demux).poll_read(
            self.request,
            pieces,
            context,
        ) {
            Poll::Ready(read) => Poll::Ready(Ok(read)),
            Poll::Pending => {
                let lost = self.channel.0.state.lost();
                lost.map_or(Poll::Pending, |lost| Poll::Ready(Err(ReadError::ConnectionLost(lost))))
            }
        };
        poll_fn(|context| read(context)).await
    }
}

impl Drop for RequestStream {
    fn drop(&mut self) {
        if let Some(demux) = &self.channel.0.state.demux {
            locked(demux).forget(self.request);
        }
    }
}
