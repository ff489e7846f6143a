//! The TCP side's listeners: TLS on the daemon's port, and plain HTTP for the same machine.

use super::reader::{self, READER, Reader};
use crate::broker::admission::{Places, stopped};
use crate::net::bind::BindError;
use crate::tls;
use crate::tls::identity::Identities;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

/// From the connection to the end of the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long answers under way are waited for when a connection ends, or the daemon.
const LINGER: Duration = Duration::from_secs(2);

/// Streams of one HTTP/2 connection (RFC 9113, section 6.5.2): a page has a handful.
const STREAMS: u32 = 100;

/// What the transport holds of an answer beside the piece that it was given, at most: the heads of
/// answers, and over HTTP/1.1 what it was given before. Bytes.
const BUFFER: usize = 64 << 10;

/// A pause where the system has no more file descriptors, or fails otherwise to accept.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a connection is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// From the TLS handshake to the first request; and over HTTP/1.1 from one answer to the next
    /// request.
    pub(super) request: Duration,
    /// A connection without a request under way ends after so long: proxies and browsers keep
    /// theirs for one to five minutes, and open another when they have to.
    pub(super) idle: Duration,
    /// Over HTTP/2 the peer is asked so often whether it is there, and has as long to answer: one
    /// that has vanished is found out in 40 s. TCP alone takes hours.
    pub(super) ping: Duration,
    /// As [`reader::PATIENCE`].
    pub(super) patience: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            ping: Duration::from_secs(20),
            patience: reader::PATIENCE,
        }
    }
}

/// A listener, not accepting yet.
pub(crate) struct Listener {
    listener: TcpListener,
    // None: plain.
    tls: Option<TlsAcceptor>,
    connections: Places,
    pub(super) times: Times,
}

impl Listener {
    /// For HTTPS with the daemon's certificate, HTTP/2 and HTTP/1.1.
    pub(crate) fn tls(
        listener: TcpListener,
        identities: Arc<Identities>,
        connections: &Places,
    ) -> Result<Self, BindError> {
        let config = tls::server(identities, &[b"h2", b"http/1.1"])?;
        let tls = Some(TlsAcceptor::from(Arc::new(config)));
        Ok(Self { tls, ..Self::plain(listener, connections) })
    }

    /// For HTTP without TLS.
    pub(crate) fn plain(listener: TcpListener, connections: &Places) -> Self {
        Self { listener, tls: None, connections: connections.clone(), times: Times::default() }
    }

    /// Serves until told to stop, and returns when its connections have ended. Dropped before, it
    /// takes them with it.
    pub(crate) async fn run(self, app: Router, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let Self { listener, tls, connections, times } = self;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut serving = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, remote)) = accepted else {
                        sleep(PAUSE).await;
                        continue;
                    };
                    let Some(place) = connections.admit() else { continue };
                    prepare(&stream);
                    let app = Called { app: app.clone(), remote, line: Arc::default() };
                    let (tls, stop) = (tls.clone(), stop.clone());
                    serving.spawn(async move {
                        greet(stream, tls, app, times, stop).await;
                        drop(place);
                    });
                }
                Some(ended) = serving.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "an HTTP connection's task failed");
                    }
                }
                () = stopped(&mut stop) => break,
            }
        }
        drop(listener);
        while serving.join_next().await.is_some() {}
        Ok(())
    }
}

// Sends without delay (RFC 9293, section 3.7.4), and lets the system end what is not acknowledged.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(reader::PATIENCE));
}

async fn greet(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    app: Called<Router>,
    times: Times,
    mut stop: watch::Receiver<bool>,
) {
    let Some(tls) = tls else {
        return serve(stream, app, times, stop).await;
    };
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE, tls.accept(stream)) => accepted,
        () = stopped(&mut stop) => return,
    };
    if let Ok(Ok(stream)) = accepted {
        serve(stream, app, times, stop).await;
    }
}

async fn serve<S>(stream: S, app: Called<Router>, times: Times, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let line = app.line.clone();
    let builder = builder(&times, &line);
    let service = TowerToHyperService::new(app);
    let mut connection =
        pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let reader = Arc::new(Reader::new());
    let served = READER.scope(reader.clone(), async {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = reader.stalled(times.patience) => return,
            () = line.closed.notified() => return,
            () = line.idle(&times) => {}
            () = stopped(&mut stop) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LINGER, connection).await;
    });
    served.await;
}

fn builder(times: &Times, line: &Arc<Line>) -> Builder<Streams> {
    let streams = Streams { line: line.clone(), patience: times.patience };
    let mut builder = Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(times.request)
        .max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(BUFFER)
        .keep_alive_interval(times.ping)
        .keep_alive_timeout(times.ping);
    builder
}

/// Runs the streams of one HTTP/2 connection.
#[derive(Clone)]
struct Streams {
    line: Arc<Line>,
    patience: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tokio::spawn(reader::stream(stream, self.patience, self.line.clone()));
    }
}

/// One connection, as its requests know it.
#[derive(Debug)]
pub(super) struct Line {
    requests: Mutex<Requests>,
    closed: Notify,
}

#[derive(Debug)]
struct Requests {
    any: bool,
    under_way: usize,
    since: Instant,
}

impl Default for Line {
    fn default() -> Self {
        let requests = Requests { any: false, under_way: 0, since: Instant::now() };
        Self { requests: Mutex::new(requests), closed: Notify::new() }
    }
}

impl Line {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection, with all that is under way on it.
    pub(super) fn close(&self) {
        self.closed.notify_one();
    }

    /// A request begins; it ends when what this gives is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        let mut requests = self.requests();
        requests.any = true;
        requests.under_way += 1;
        drop(requests);
        UnderWay(self.clone())
    }

    // Waits until there has been no request for too long.
    async fn idle(&self, times: &Times) {
        loop {
            let Requests { any, under_way, since } = *self.requests();
            let most = if any { times.idle } else { times.request };
            let since = if under_way > 0 { Instant::now() } else { since };
            let left = (since + most).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

/// A request, until its answer has been sent.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Line>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut requests = self.0.requests();
        requests.under_way -= 1;
        requests.since = Instant::now();
    }
}

/// A connection's service: its requests know whose they are.
#[derive(Clone)]
struct Called<S> {
    app: S,
    remote: SocketAddr,
    line: Arc<Line>,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Called<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.app.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(self.remote));
        extensions.insert(self.line.clone());
        self.app.call(request)
    }
}
