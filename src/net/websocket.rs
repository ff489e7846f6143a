//! A session over WebSocket (RFC 6455): one channel in each direction, for everything.
//!
//! Whoever has something to send writes it, one after the other, through one fair lock; there is
//! no task and no queue between. A write that is given up half-way leaves a whole message behind:
//! what has been begun stands in the socket's buffer, and goes out with whatever is written next.

use super::demux::Demux;
use super::link::{Gone, ReadError, WriteError};
use super::upgraded::Socket;
use crate::wire::{Code, Refusal, frame_span};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::task::AtomicWaker;
use futures_util::{SinkExt as _, StreamExt as _};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

pub(crate) use super::upgraded::{Io, dialled_config};
#[cfg(feature = "daemon")]
pub(crate) use super::upgraded::{bounded, largest_message};

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
pub(crate) struct WebSocket(Arc<Shared>);

struct Shared {
    remote: SocketAddr,
    ping: Duration,
    writer: tokio::sync::Mutex<Writer>,
    reader: Mutex<Reader>,
    // A client's only: the daemon's peers say nothing that would have to be taken apart.
    demux: Option<Mutex<Demux>>,
    // The one control channel has been taken.
    opened: AtomicBool,
    ear: Arc<Ear>,
    gone: watch::Sender<Option<Gone>>,
    // What to close with, if this end closes.
    farewell: Mutex<Option<CloseFrame>>,
    left: watch::Sender<bool>,
}

struct Writer {
    sink: SplitSink<Socket, Message>,
    // The `For` frame that was said last.
    whose: Bytes,
    joined: BytesMut,
}

struct Reader {
    stream: SplitStream<Socket>,
    waker: Waker,
    // For control, and what is said after it.
    read: VecDeque<Bytes>,
    failed: Option<ReadError>,
    // The socket can be read no further, although the peer may still be there.
    damaged: bool,
}

/// Stands between the socket and the task that reads it, and notes when the socket has anything to
/// say: bytes of a long message that is not whole yet, or room to write, show as well as a whole
/// message does that the peer is there.
struct Ear {
    task: AtomicWaker,
    since: Instant,
    // Milliseconds after that.
    heard: AtomicU64,
}

impl Ear {
    fn hear(&self) {
        self.heard.store(self.since.elapsed().as_millis() as u64, Relaxed);
    }

    fn quiet(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Relaxed)))
    }
}

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.hear();
        self.task.wake();
    }
}

/// A socket that the HTTP server has upgraded.
#[cfg(feature = "daemon")]
pub(crate) fn served(
    socket: axum::extract::ws::WebSocket,
    remote: SocketAddr,
) -> super::link::Link {
    super::link::Link::WebSocket(WebSocket::new(Socket::Served(socket), remote, SERVED_PING, None))
}

/// A socket that this end has dialled.
pub(crate) fn dialled(
    socket: tokio_tungstenite::WebSocketStream<Box<dyn Io>>,
    remote: SocketAddr,
) -> super::link::Link {
    let socket = Socket::Dialled(Box::new(socket));
    let demux = Some(Mutex::default());
    super::link::Link::WebSocket(WebSocket::new(socket, remote, DIALLED_PING, demux))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WebSocket {
    fn new(
        socket: Socket,
        remote: SocketAddr,
        ping: Duration,
        demux: Option<Mutex<Demux>>,
    ) -> Self {
        let (sink, stream) = socket.split();
        let ear = Arc::new(Ear {
            task: AtomicWaker::new(),
            since: Instant::now(),
            heard: AtomicU64::new(0),
        });
        Self(Arc::new(Shared {
            remote,
            ping,
            writer: tokio::sync::Mutex::new(Writer {
                sink,
                whose: Bytes::new(),
                joined: BytesMut::new(),
            }),
            reader: Mutex::new(Reader {
                stream,
                waker: ear.clone().into(),
                read: VecDeque::new(),
                failed: None,
                damaged: false,
            }),
            demux,
            opened: AtomicBool::new(false),
            ear,
            gone: watch::channel(None).0,
            farewell: Mutex::new(None),
            left: watch::channel(false).0,
        }))
    }

    pub(super) fn remote_address(&self) -> SocketAddr {
        self.0.remote
    }

    /// The channel itself; the first time only, after that none will ever come.
    pub(super) async fn control(&self) -> Result<(), Gone> {
        if self.0.opened.swap(true, Relaxed) { Err(self.closed().await) } else { Ok(()) }
    }

    /// Something of a request that was not heard of before.
    pub(super) async fn accept(&self) -> Result<Routed, Gone> {
        let Some(demux) = &self.0.demux else {
            return Err(self.closed().await);
        };
        let request = poll_fn(|context| match locked(demux).poll_begun(context) {
            Poll::Ready(request) => Poll::Ready(Ok(request)),
            Poll::Pending => self.0.gone().map_or(Poll::Pending, |gone| Poll::Ready(Err(gone))),
        });
        Ok(Routed { channel: self.clone(), request: request.await? })
    }

    /// A request that its reader has not kept up with.
    pub(super) async fn cut(&self) -> u32 {
        match &self.0.demux {
            Some(demux) => poll_fn(|context| locked(demux).poll_cut(context)).await,
            None => std::future::pending().await,
        }
    }

    /// Waits until the connection is gone; while waiting, finds out whether it is.
    pub(super) async fn watch(&self) -> Gone {
        let mut gone = self.0.gone.subscribe();
        loop {
            let quiet = self.0.ear.quiet();
            if quiet >= IDLE {
                let reason = format!("nothing was heard for {} s", IDLE.as_secs());
                self.0.end(Gone { code: None, reason });
            } else if quiet >= self.0.ping {
                self.ping();
            }
            let next = if quiet < self.0.ping { self.0.ping } else { IDLE }.saturating_sub(quiet);
            tokio::select! {
                gone = wait(&mut gone) => return gone,
                () = tokio::time::sleep(next.min(self.0.ping)) => {}
            }
        }
    }

    // Who is writing will be heard anyway, and where nothing can be written, nothing is asked.
    fn ping(&self) {
        if let Ok(mut writer) = self.0.writer.try_lock() {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(Ok(())) = writer.sink.poll_ready_unpin(&mut context) {
                let _ = writer.sink.start_send_unpin(Message::Ping(Bytes::new()));
                let _ = writer.sink.poll_flush_unpin(&mut context);
            }
        }
    }

    /// Waits until the connection is gone.
    pub(super) async fn closed(&self) -> Gone {
        wait(&mut self.0.gone.subscribe()).await
    }

    /// The session is over; [`leave`](Self::leave) says so to the peer.
    pub(super) fn close(&self, code: Code, reason: &str) {
        locked(&self.0.farewell).get_or_insert_with(|| close_frame(code, reason));
        self.0.end(Gone { code: None, reason: "closed by this end".into() });
    }

    /// The session is over, as the peer said.
    pub(super) fn end(&self, gone: Gone) {
        self.0.end(gone);
    }

    /// Closes in good order: says so, and waits for the peer to say it too. Whoever calls this
    /// does not wait for ever.
    pub(super) async fn leave(&self, code: Code, reason: &str) {
        let close = locked(&self.0.farewell).take();
        let close = close.unwrap_or_else(|| close_frame(code, reason));
        // If the peer was first, this sends the answer to it.
        let _ = self.0.writer.lock().await.sink.send(Message::Close(Some(close))).await;
        poll_fn(|context| {
            let mut reader = locked(&self.0.reader);
            if reader.damaged {
                // There may be something left to read, and a peer that is to read our goodbye is
                // not to be cut off because of it.
                return Poll::Pending;
            }
            while let Some(Ok(_)) = ready!(reader.stream.poll_next_unpin(context)) {}
            Poll::Ready(())
        })
        .await;
    }

    /// It has been left, or given up.
    pub(super) fn set_left(&self) {
        self.0.end(Gone { code: None, reason: "closed by this end".into() });
        self.0.left.send_replace(true);
    }

    /// Waits for that.
    pub(super) async fn left(&self) {
        // The sender lives as long as this.
        let _ = self.0.left.subscribe().wait_for(|left| *left).await;
    }

    /// Writes pieces as one message, or as several where they are many. With `whose`, the first
    /// piece says whom the rest is for, and is left out where that was said last.
    pub(super) async fn write(&self, pieces: &mut [Bytes], whose: bool) -> Result<(), WriteError> {
        let mut writer = self.0.writer.lock().await;
        let written = writer.write(pieces, whose).await;
        written.map_err(|error| WriteError::Gone(self.0.gone().unwrap_or_else(|| lost(&error))))
    }

    /// Reads what there is for control, at least one piece.
    pub(super) async fn read(&self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        poll_fn(|context| self.poll_read(pieces, context)).await.map(Some)
    }

    fn poll_read(
        &self,
        pieces: &mut [Bytes],
        context: &mut Context<'_>,
    ) -> Poll<Result<usize, ReadError>> {
        let shared = &self.0;
        let mut reader = locked(&shared.reader);
        if reader.read.is_empty() && reader.failed.is_none() {
            // Before asking whether it is over, so that no end is missed.
            shared.ear.task.register(context.waker());
            if let Some(gone) = shared.gone() {
                return Poll::Ready(Err(ReadError::Gone(gone)));
            }
            let more = reader.fill(shared);
            if reader.read.is_empty() && reader.failed.is_none() {
                // Somebody else got all of it: it is their turn.
                if more {
                    context.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
        let moved = reader.read.len().min(pieces.len());
        if moved > 0 {
            pieces.iter_mut().zip(reader.read.drain(..moved)).for_each(|(to, from)| *to = from);
            return Poll::Ready(Ok(moved));
        }
        let failed = reader.failed.take();
        drop(reader);
        let failed = failed.unwrap_or_else(|| ReadError::Gone(lost(&Error::AlreadyClosed)));
        if let ReadError::Gone(gone) = &failed {
            shared.end(gone.clone());
        }
        Poll::Ready(Err(failed))
    }
}

async fn wait(gone: &mut watch::Receiver<Option<Gone>>) -> Gone {
    let gone = gone.wait_for(Option::is_some).await.ok().and_then(|gone| gone.clone());
    gone.unwrap_or_else(|| lost(&Error::AlreadyClosed))
}

impl Shared {
    fn gone(&self) -> Option<Gone> {
        self.gone.borrow().clone()
    }

    // The first reason stands.
    fn end(&self, gone: Gone) {
        let first = self.gone.send_if_modified(|was| {
            let first = was.is_none();
            was.get_or_insert(gone);
            first
        });
        if first {
            self.ear.task.wake();
            let mut wake = Vec::new();
            if let Some(demux) = &self.demux {
                locked(demux).everybody(&mut wake);
            }
            wake.into_iter().for_each(Waker::wake);
        }
    }
}

impl Writer {
    async fn write(&mut self, pieces: &mut [Bytes], whose: bool) -> Result<(), Error> {
        let for_whom = pieces.first().filter(|_| whose).cloned();
        let mut pieces = match &for_whom {
            Some(whose) if *whose == self.whose => &mut pieces[1..],
            _ => pieces,
        };
        while !pieces.is_empty() {
            let (count, size) = first_message(pieces);
            let (message, rest) = pieces.split_at_mut(count);
            let message = match message {
                [piece] => std::mem::take(piece),
                // A buffer of this size is not kept.
                _ if size > 2 * BATCH => message.concat().into(),
                _ => {
                    self.joined.reserve(size);
                    message.iter().for_each(|piece| self.joined.extend_from_slice(piece));
                    self.joined.split().freeze()
                }
            };
            self.sink.feed(Message::Binary(message)).await?;
            // From here on it is under way, whatever becomes of this future.
            if let Some(whose) = &for_whom {
                self.whose.clone_from(whose);
            }
            pieces = rest;
        }
        self.sink.flush().await
    }
}

/// How many of the pieces go into one message, and how many bytes these have: all, unless they are
/// more than a batch and there is a frame's end to cut at.
fn first_message(pieces: &[Bytes]) -> (usize, usize) {
    let total: usize = pieces.iter().map(Bytes::len).sum();
    if total <= 2 * BATCH {
        return (pieces.len(), total);
    }
    // Pieces end where frames do, or a frame goes on in the next piece; its length stands whole in
    // one piece. `ahead`: how far the last frame reaches beyond the pieces so far.
    let (mut size, mut ahead) = (0, 0);
    for (index, piece) in pieces.iter().enumerate() {
        let mut at = ahead.min(piece.len());
        ahead -= at;
        while at < piece.len() {
            let Ok(Some(span)) = frame_span(&piece[at..]) else {
                return (pieces.len(), total);
            };
            ahead = (at + span).saturating_sub(piece.len());
            at += span;
        }
        size += piece.len();
        if size >= BATCH && ahead == 0 {
            return (index + 1, size);
        }
    }
    (pieces.len(), total)
}

impl Reader {
    /// Takes messages from the socket until it has no more or a batch is full; whether there may
    /// be more.
    fn fill(&mut self, shared: &Shared) -> bool {
        let waker = self.waker.clone();
        let mut context = Context::from_waker(&waker);
        let mut bytes = 0;
        while bytes < BATCH {
            let message = match self.stream.poll_next_unpin(&mut context) {
                Poll::Pending => return false,
                Poll::Ready(message) => message,
            };
            if bytes == 0 {
                shared.ear.hear();
            }
            // What each costs to take, even if it is empty.
            bytes += 64;
            let failed = match message {
                Some(Ok(Message::Binary(message))) => {
                    bytes += message.len();
                    self.take(message, shared).err().map(ReadError::Broken)
                }
                Some(Ok(Message::Text(_))) => Some(ReadError::Broken(Refusal::new(
                    Code::MALFORMED,
                    "a text message: frames come in binary messages",
                ))),
                Some(Ok(Message::Close(close))) => Some(ReadError::Gone(closed(close))),
                Some(Ok(_)) => None,
                Some(Err(error)) => {
                    let failed = failure(&error);
                    self.damaged = matches!(failed, ReadError::Broken(_));
                    Some(failed)
                }
                None => Some(ReadError::Gone(lost(&Error::ConnectionClosed))),
            };
            if failed.is_some() {
                self.failed = failed;
                return false;
            }
        }
        true
    }

    fn take(&mut self, message: Bytes, shared: &Shared) -> Result<(), Refusal> {
        match &shared.demux {
            Some(demux) => {
                let mut wake = Vec::new();
                let taken = locked(demux).take(&message, &mut self.read, &mut wake);
                wake.into_iter().for_each(Waker::wake);
                taken
            }
            None => {
                self.read.extend(Some(message).filter(|message| !message.is_empty()));
                Ok(())
            }
        }
    }
}

/// What comes for one request.
pub(crate) struct Routed {
    channel: WebSocket,
    request: u32,
}

impl Routed {
    /// Reads what there is, at least one piece; none after the last of a request that was cut.
    pub(super) async fn read(&self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        let Shared { demux: Some(demux), .. } = &*self.channel.0 else {
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
                gone.map_or(Poll::Pending, |gone| Poll::Ready(Err(ReadError::Gone(gone))))
            }
        };
        poll_fn(|context| read(context)).await
    }
}

impl Drop for Routed {
    fn drop(&mut self) {
        if let Some(demux) = &self.channel.0.demux {
            locked(demux).forget(self.request);
        }
    }
}

/// Codes of this protocol stand above those of RFC 6455.
const CODES: u16 = 4000;

fn close_frame(code: Code, reason: &str) -> CloseFrame {
    let number = match code {
        Code::DONE => 1000,
        Code(code) => CODES + u16::try_from(code).unwrap_or(999).min(999),
    };
    // 125 bytes of a control frame, less the code.
    let end = (0..=reason.len().min(123)).rev().find(|end| reason.is_char_boundary(*end));
    CloseFrame { code: number.into(), reason: reason[..end.unwrap_or(0)].into() }
}

fn closed(close: Option<CloseFrame>) -> Gone {
    let Some(CloseFrame { code, reason }) = close else {
        return Gone { code: None, reason: "the WebSocket was closed without a reason".into() };
    };
    let number = u16::from(code);
    let known = match number {
        1000 => Some(Code::DONE),
        4000..=4999 => Some(Code(u32::from(number - CODES))),
        _ => None,
    };
    let reason = match (known, reason.is_empty()) {
        (None, true) => format!("the WebSocket was closed with code {number}"),
        _ => reason.as_str().to_owned(),
    };
    Gone { code: known, reason }
}

fn lost(error: &Error) -> Gone {
    Gone { code: None, reason: format!("the WebSocket is gone: {error}") }
}

// What the peer did wrong, or that it is gone.
fn failure(error: &Error) -> ReadError {
    use tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    let broken = |code| ReadError::Broken(Refusal::new(code, error.to_string()));
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            ReadError::Broken(Refusal::new(
                Code::FRAME_TOO_LARGE,
                format!("a WebSocket message of {size} bytes is above the limit of {max_size}"),
            ))
        }
        Error::Protocol(ResetWithoutClosingHandshake) => ReadError::Gone(lost(error)),
        Error::Protocol(_) | Error::Utf8(_) | Error::AttackAttempt | Error::Capacity(_) => {
            broken(Code::MALFORMED)
        }
        _ => ReadError::Gone(lost(error)),
    }
}
