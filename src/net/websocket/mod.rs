//! A session over WebSocket (RFC 6455): one channel in each direction, for everything.
//!
//! Whoever has something to send writes it, one after the other, through one fair lock; there is
//! no task and no queue between. A write that is given up half-way leaves a whole message behind:
//! what has been begun stands in the socket's buffer, and goes out with whatever is written next.

mod close_codes;
mod demux;
mod reader;
#[cfg(feature = "daemon")]
mod sieve;
mod socket;
#[cfg(all(test, feature = "daemon"))]
mod tests;
mod writer;

pub(crate) use socket::{Io, dialled_config};

use crate::net::error::{ConnectionLost, ReadError, WriteError};
use crate::wire::Code;
#[cfg(feature = "daemon")]
use crate::wire::MAX_CONTROL_FRAME;
use bytes::Bytes;
use close_codes::{close_frame, lost};
use demux::Demux;
use futures_util::StreamExt as _;
use reader::{ActivityMonitor, Reader};
#[cfg(feature = "daemon")]
use sieve::Sieve;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use writer::Writer;

/// A session that is not heard of for this long is over, as with QUIC.
const IDLE: Duration = Duration::from_secs(30);

/// After this long without hearing anything a ping asks for something to hear. The client's turn
/// comes first, which keeps what stands between awake; the daemon's comes with browsers, which
/// cannot ping and do answer.
const DIALLED_PING: Duration = Duration::from_secs(9);
#[cfg(feature = "daemon")]
const SERVED_PING: Duration = Duration::from_secs(10);

/// Bytes taken from the socket at once, and put into one message together, 64 KiB: what one read
/// of the engine gives. A single frame may be longer.
const BATCH: usize = 64 << 10;

/// A session's connection. Clones are the same one.
#[derive(Clone)]
pub(crate) struct WebSocket(Arc<Channel>);

struct Channel {
    remote: SocketAddr,
    ping: Duration,
    writer: tokio::sync::Mutex<Writer>,
    reader: Mutex<Reader>,
    // A client's only: the daemon's peers say nothing that would have to be taken apart.
    demux: Option<Mutex<Demux>>,
    // The one control channel has been taken.
    opened: AtomicBool,
    activity: Arc<ActivityMonitor>,
    gone: watch::Sender<Option<ConnectionLost>>,
    // What to close with, if this end closes.
    farewell: Mutex<Option<CloseFrame>>,
    left: watch::Sender<bool>,
}

/// A connection that the HTTP server has upgraded, of a daemon that takes payloads of `payload`
/// bytes: the largest message holds one of them and what else may be on its way.
#[cfg(feature = "daemon")]
pub(crate) async fn served(io: Box<dyn Io>, remote: SocketAddr, payload: usize) -> WebSocket {
    WebSocket::served(io, remote, payload + MAX_CONTROL_FRAME).await
}

/// A socket that this end has dialled.
pub(crate) fn dialled(socket: WebSocketStream<Box<dyn Io>>, remote: SocketAddr) -> WebSocket {
    let (sink, stream) = socket.split();
    let (activity, demux) = (ActivityMonitor::new(), Some(Mutex::default()));
    let reader = Reader::new(stream, &activity);
    WebSocket::new(sink, (reader, activity), remote, DIALLED_PING, demux)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WebSocket {
    /// A daemon's, which takes messages of `most` bytes.
    #[cfg(feature = "daemon")]
    async fn served(io: Box<dyn Io>, remote: SocketAddr, most: usize) -> Self {
        let (sieve, heard) = Sieve::new(io, most);
        let (sink, stream) = socket::served(Box::new(sieve)).await.split();
        let activity = ActivityMonitor::new();
        let reader = Reader::of_sieve(stream, &activity, heard);
        Self::new(sink, (reader, activity), remote, SERVED_PING, None)
    }

    fn new(
        sink: socket::SocketSink,
        (reader, activity): (Reader, Arc<ActivityMonitor>),
        remote: SocketAddr,
        ping: Duration,
        demux: Option<Mutex<Demux>>,
    ) -> Self {
        Self(Arc::new(Channel {
            remote,
            ping,
            writer: tokio::sync::Mutex::new(Writer::new(sink)),
            reader: Mutex::new(reader),
            demux,
            opened: AtomicBool::new(false),
            activity,
            gone: watch::channel(None).0,
            farewell: Mutex::new(None),
            left: watch::channel(false).0,
        }))
    }

    pub(super) fn remote_address(&self) -> SocketAddr {
        self.0.remote
    }

    /// The channel itself; the first time only, after that none will ever come.
    pub(super) async fn control(&self) -> Result<(), ConnectionLost> {
        if self.0.opened.swap(true, Relaxed) { Err(self.closed().await) } else { Ok(()) }
    }

    /// Something of a request that was not heard of before.
    pub(super) async fn accept(&self) -> Result<RequestStream, ConnectionLost> {
        let Some(demux) = &self.0.demux else {
            return Err(self.closed().await);
        };
        let request = poll_fn(|context| match locked(demux).poll_begun(context) {
            Poll::Ready(request) => Poll::Ready(Ok(request)),
            Poll::Pending => self.0.gone().map_or(Poll::Pending, |gone| Poll::Ready(Err(gone))),
        });
        Ok(RequestStream { channel: self.clone(), request: request.await? })
    }

    /// A request that its reader has not kept up with.
    pub(super) async fn cut(&self) -> u32 {
        match &self.0.demux {
            Some(demux) => poll_fn(|context| locked(demux).poll_cut(context)).await,
            None => std::future::pending().await,
        }
    }

    /// The daemon has said that it sends no more for `request`.
    pub(super) fn finish_request(&self, request: u32) {
        let mut wake = Vec::new();
        if let Some(demux) = &self.0.demux {
            locked(demux).end(request, &mut wake);
        }
        wake.into_iter().for_each(Waker::wake);
    }

    /// Waits until the connection is gone; while waiting, finds out whether it is.
    pub(super) async fn watch(&self) -> ConnectionLost {
        let mut gone = self.0.gone.subscribe();
        loop {
            let quiet = self.0.activity.quiet();
            if quiet >= IDLE {
                let reason = format!("nothing was heard for {} s", IDLE.as_secs());
                self.0.end(ConnectionLost { code: Some(Code::TIMED_OUT), reason });
            } else if quiet >= self.0.ping {
                // While somebody writes there is no need to ask.
                if let Ok(mut writer) = self.0.writer.try_lock() {
                    writer.ping();
                }
            }
            let next = if quiet < self.0.ping { self.0.ping } else { IDLE }.saturating_sub(quiet);
            tokio::select! {
                gone = wait(&mut gone) => return gone,
                () = tokio::time::sleep(next.min(self.0.ping)) => {}
            }
        }
    }

    /// Waits until the connection is gone.
    pub(super) async fn closed(&self) -> ConnectionLost {
        wait(&mut self.0.gone.subscribe()).await
    }

    /// The session is over; [`leave`](Self::leave) says so to the peer.
    pub(super) fn close(&self, code: Code, reason: &str) {
        locked(&self.0.farewell).get_or_insert_with(|| close_frame(code, reason));
        self.0.end(ConnectionLost { code: None, reason: "closed by this end".into() });
    }

    /// The session is over, as the peer said.
    pub(super) fn end(&self, gone: ConnectionLost) {
        self.0.end(gone);
    }

    /// Closes in good order: says so, and waits for the peer to say it too. Whoever calls this
    /// does not wait for ever.
    pub(super) async fn leave(&self, code: Code, reason: &str) {
        let close = locked(&self.0.farewell).take();
        let close = close.unwrap_or_else(|| close_frame(code, reason));
        // If the peer was first, this sends the answer to it.
        let _ = self.0.writer.lock().await.close(close).await;
        poll_fn(|context| locked(&self.0.reader).poll_end(context)).await;
    }

    /// It has been left, or given up.
    pub(super) fn set_left(&self) {
        self.0.end(ConnectionLost { code: None, reason: "closed by this end".into() });
        self.0.left.send_replace(true);
    }

    /// Waits for that.
    pub(super) async fn left(&self) {
        // The sender lives as long as this.
        let _ = self.0.left.subscribe().wait_for(|left| *left).await;
    }

    /// Writes pieces, all of them whole frames together. With `whose`, the first piece says for
    /// whom the rest is, and is left out where that was said last.
    pub(super) async fn write(&self, pieces: &mut [Bytes], whose: bool) -> Result<(), WriteError> {
        let mut writer = self.0.writer.lock().await;
        let written = writer.write(pieces, whose).await;
        written.map_err(|error| {
            WriteError::ConnectionLost(self.0.gone().unwrap_or_else(|| lost(&error)))
        })
    }

    /// Reads what there is for control, at least one piece. At the daemon's end pieces are parts of
    /// messages, and an empty one stands where a message ends.
    pub(super) async fn read(&self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        let shared = &*self.0;
        let read = poll_fn(|context| locked(&shared.reader).poll_read(shared, pieces, context));
        let read = read.await;
        if let Err(ReadError::ConnectionLost(gone)) = &read {
            shared.end(gone.clone());
        }
        read.map(Some)
    }
}

async fn wait(gone: &mut watch::Receiver<Option<ConnectionLost>>) -> ConnectionLost {
    let gone = gone.wait_for(Option::is_some).await.ok().and_then(|gone| gone.clone());
    gone.unwrap_or_else(|| lost(&Error::AlreadyClosed))
}

impl Channel {
    fn gone(&self) -> Option<ConnectionLost> {
        self.gone.borrow().clone()
    }

    // The first reason stands.
    fn end(&self, gone: ConnectionLost) {
        let first = self.gone.send_if_modified(|was| {
            let first = was.is_none();
            was.get_or_insert(gone);
            first
        });
        if first {
            self.activity.wake_reader();
            let mut wake = Vec::new();
            if let Some(demux) = &self.demux {
                locked(demux).everybody(&mut wake);
            }
            wake.into_iter().for_each(Waker::wake);
        }
    }
}

/// What comes for one request.
pub(crate) struct RequestStream {
    channel: WebSocket,
    request: u32,
}

impl RequestStream {
    /// Whether it was not read fast enough, and so ends before its end.
    pub(super) fn is_cut(&self) -> bool {
        self.channel.0.demux.as_ref().is_some_and(|demux| locked(demux).is_cut(self.request))
    }

    /// Reads what there is, at least one piece; none at the end.
    pub(super) async fn read(&self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        let Channel { demux: Some(demux), .. } = &*self.channel.0 else {
            return Ok(None);
        };
        let mut read = |context: &mut Context<'_>| match locked(demux).poll_read(
            self.request,
            pieces,
            context,
        ) {
            Poll::Ready(read) => Poll::Ready(Ok(read)),
            Poll::Pending => {
                let gone = self.channel.0.gone();
                gone.map_or(Poll::Pending, |gone| Poll::Ready(Err(ReadError::ConnectionLost(gone))))
            }
        };
        poll_fn(|context| read(context)).await
    }
}

impl Drop for RequestStream {
    fn drop(&mut self) {
        if let Some(demux) = &self.channel.0.demux {
            locked(demux).forget(self.request);
        }
    }
}
