//! The TCP listeners: TLS on the daemon's port, and plain HTTP for the same machine.

use super::connection::{ConnectionHandle, ConnectionService, Times};
use super::reader::{self, READER, Reader};
use crate::broker::admission::Places;
use crate::broker::stop::{Stage, draining, stopped};
use crate::net::bind::BindError;
use crate::net::deadlines::HANDSHAKE;
use crate::tls;
use crate::tls::identity::Identities;
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Maximum time that a closing connection, or a daemon that stops, waits for unfinished answers.
const LINGER: Duration = Duration::from_secs(2);

/// Maximum number of streams of one HTTP/2 connection (RFC 9113, section 6.5.2). A page uses few.
const STREAMS: u32 = 100;

/// Maximum memory that the transport holds beside the piece that it was given, bytes: the heads of
/// answers, and over HTTP/1.1 the previous pieces.
const BUFFER: usize = 64 << 10;

/// Delay after a failed accept, for example when the system has no more file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A listener that does not accept yet.
pub(crate) struct Listener {
    listener: TcpListener,
    // None for HTTP without TLS.
    tls: Option<TlsAcceptor>,
    connections: Places,
    pub(super) times: Times,
}

impl Listener {
    /// Creates a listener for HTTPS with the daemon's certificate, HTTP/2 and HTTP/1.1.
    pub(crate) fn tls(
        listener: TcpListener,
        identities: Arc<Identities>,
        connections: &Places,
    ) -> Result<Self, BindError> {
        let config = tls::server(identities, &[b"h2", b"http/1.1"])?;
        let tls = Some(TlsAcceptor::from(Arc::new(config)));
        Ok(Self { tls, ..Self::plain(listener, connections) })
    }

    /// Creates a listener for HTTP without TLS.
    pub(crate) fn plain(listener: TcpListener, connections: &Places) -> Self {
        Self { listener, tls: None, connections: connections.clone(), times: Times::default() }
    }

    /// Serves until the daemon stops, and returns when the connections have ended. Dropping the
    /// future ends them too. While the daemon drains, each connection has one more request, which
    /// `app` refuses.
    pub(crate) async fn run(
        self,
        app: Router,
        mut stage: watch::Receiver<Stage>,
    ) -> io::Result<()> {
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
                    prepare(&stream, times.patience);
                    let app = ConnectionService::new(app.clone(), remote);
                    let (tls, stage) = (tls.clone(), stage.clone());
                    serving.spawn(async move {
                        greet(stream, tls, app, times, stage).await;
                        drop(place);
                    });
                }
                Some(ended) = serving.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "an HTTP connection's task failed");
                    }
                }
                () = stopped(&mut stage) => break,
            }
        }
        drop(listener);
        while serving.join_next().await.is_some() {}
        Ok(())
    }
}

// Disables Nagle's algorithm (RFC 9293, section 3.7.4), and makes the system close a connection whose
// data is not acknowledged for `patience` (RFC 5482).
fn prepare(stream: &TcpStream, patience: Duration) {
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(patience));
}

async fn greet(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    app: ConnectionService<Router>,
    times: Times,
    mut stage: watch::Receiver<Stage>,
) {
    let Some(tls) = tls else {
        return serve(stream, app, times, stage).await;
    };
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE, tls.accept(stream)) => accepted,
        () = stopped(&mut stage) => return,
    };
    if let Ok(Ok(stream)) = accepted {
        serve(stream, app, times, stage).await;
    }
}

async fn serve<S>(
    stream: S,
    app: ConnectionService<Router>,
    times: Times,
    mut stage: watch::Receiver<Stage>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handle = app.handle().clone();
    let builder = builder(&times, &handle);
    let service = TowerToHyperService::new(app);
    let mut connection =
        pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let reader = Arc::new(Reader::new());
    let served = READER.scope(reader.clone(), async {
        let drains = tokio::select! {
            _ = connection.as_mut() => return,
            () = reader.stalled(times.patience) => return,
            () = handle.closed() => return,
            () = handle.idle(&times) => false,
            () = asked_to_leave(&mut stage, &handle) => true,
        };
        connection.as_mut().graceful_shutdown();
        if drains {
            tokio::select! {
                _ = connection.as_mut() => return,
                () = reader.stalled(times.patience) => return,
                () = handle.closed() => return,
                () = stopped(&mut stage) => {}
            }
        }
        let _ = timeout(LINGER, connection).await;
    });
    served.await;
}

// Waits until the daemon stops, or drains and the connection has had a request. A connection that is
// closed before its first request would look like a network error.
async fn asked_to_leave(stage: &mut watch::Receiver<Stage>, handle: &ConnectionHandle) {
    draining(stage).await;
    tokio::select! {
        () = handle.any_request() => {}
        () = stopped(stage) => {}
    }
}

fn builder(times: &Times, handle: &Arc<ConnectionHandle>) -> Builder<Streams> {
    let streams = Streams { handle: handle.clone(), patience: times.patience };
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

/// The executor of the streams of one HTTP/2 connection.
#[derive(Clone)]
struct Streams {
    handle: Arc<ConnectionHandle>,
    patience: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tokio::spawn(reader::stream(stream, self.patience, self.handle.clone()));
    }
}
