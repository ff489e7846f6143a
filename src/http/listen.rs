//! The TCP listeners: TLS on the daemon's port, and plain HTTP for the same machine.

use super::connection::{ConnectionHandle, ConnectionService, Times};
use super::paced::Paced;
use super::reader::{self, READER, Reader};
use crate::access::addresses::AddressPlace;
use crate::access::limit_counts::Limit;
use crate::broker::admission::Admission;
use crate::broker::counters::HandshakeFailure;
use crate::broker::newcomers::{Newcomer, displaced};
use crate::broker::places::Places;
use crate::broker::stop::{Stage, Work, draining, reached, stopped};
use crate::broker::throttle::Budgets;
use crate::net::bind::BindError;
use crate::net::deadlines::HANDSHAKE;
use crate::tls;
use crate::tls::acme::ACME_TLS;
use crate::tls::certificates::Certificates;
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
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

/// Maximum size of the fields of a request, 16 KiB over HTTP/2 after decompression, and 100 fields over
/// HTTP/1.1, whose head fits in [`BUFFER`]. A browser sends 1 KiB; cookies of the host and a token may
/// take several.
const FIELDS: u32 = 16 << 10;
const MAX_FIELDS: usize = 100;

/// Maximum number of streams in one HTTP/2 connection that the peer has reset and the daemon has not
/// looked at (CVE-2023-44487). The second number is of those that the daemon has reset because of the
/// peer's errors. Beyond either the connection ends with ENHANCE_YOUR_CALM.
const PEER_RESETS: usize = 20;
const OWN_RESETS: usize = 1024;

/// Unread bytes of bodies in one HTTP/2 connection, and in one of its streams, 1 MiB: on a path of 100
/// ms a body comes at 10 MiB a second.
const WINDOW: u32 = 1 << 20;

/// Delay after a failed accept, for example when the system has no more file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A listener that does not accept yet.
pub(crate) struct Listener {
    listener: TcpListener,
    // None for HTTP without TLS.
    tls: Option<TlsAcceptor>,
    connections: Places,
    // None for one that is apart.
    admission: Option<Admission>,
    // The routes that it serves in place of the daemon's.
    only: Option<Router>,
    // The next daemon gets the connections that this one does not accept.
    outlived: bool,
    pub(super) times: Times,
}

impl Listener {
    /// Creates a listener for HTTPS with the daemon's certificate, HTTP/2 and HTTP/1.1.
    pub(crate) fn tls(
        listener: TcpListener,
        certificates: Arc<Certificates>,
        admission: &Admission,
    ) -> Result<Self, BindError> {
        let config = tls::server_over_tcp(certificates)?;
        let tls = Some(TlsAcceptor::from(Arc::new(config)));
        Ok(Self { tls, ..Self::plain(listener, admission) })
    }

    /// Creates a listener for HTTP/1.1 without TLS that is apart from the daemon's faces: it has places
    /// of its own, and the limits of addresses do not concern it. It serves these routes.
    pub(crate) fn apart(listener: TcpListener, connections: &Places, routes: Router) -> Self {
        let (connections, times) = (connections.clone(), Times::default());
        Self {
            listener,
            tls: None,
            connections,
            admission: None,
            only: Some(routes),
            outlived: false,
            times,
        }
    }

    /// Creates a listener for HTTP without TLS.
    pub(crate) fn plain(listener: TcpListener, admission: &Admission) -> Self {
        let (connections, admission) = (admission.connections().clone(), Some(admission.clone()));
        let times = Times::default();
        Self { listener, tls: None, connections, admission, only: None, outlived: false, times }
    }

    /// Whether the socket outlives the daemon.
    pub(crate) fn outlived(self, outlived: bool) -> Self {
        Self { outlived, ..self }
    }

    /// Serves these routes, and not the daemon's.
    pub(crate) fn only(self, routes: Router) -> Self {
        Self { only: Some(routes), ..self }
    }

    /// Serves until the daemon stops, and returns when the connections have ended. Dropping the
    /// future ends them too. While the daemon drains, each connection has one more request, which
    /// `app` refuses. A listener whose socket outlives the daemon accepts nothing more then, and serves
    /// the first request of the connections that it has.
    pub(crate) async fn run(
        self,
        app: Router,
        mut stage: watch::Receiver<Stage>,
    ) -> io::Result<()> {
        let Self { listener, tls, connections, admission, only, outlived, times } = self;
        let app = only.unwrap_or(app);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut serving = JoinSet::new();
        let end = if outlived { Stage::Draining } else { Stage::Stopping };
        // A daemon that drains waits for a connection that is accepted at that moment.
        let last = admission.as_ref().filter(|_| outlived);
        let accepting = last.map(|admission| admission.in_flight().begin());
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, remote)) = accepted else {
                        sleep(PAUSE).await;
                        continue;
                    };
                    let Some(place) = connections.admit() else {
                        refused(admission.as_ref(), Some(Limit::Connections));
                        continue;
                    };
                    let (of_address, newcomer) = match &admission {
                        None => (None, None),
                        Some(admission) => match admit(admission, remote.ip(), tls.is_some()) {
                            Some(admitted) => admitted,
                            None => {
                                refused(Some(admission), None);
                                continue;
                            }
                        },
                    };
                    prepare(&stream, times.patience);
                    let budgets = match &admission {
                        Some(admission) => admission.request_budgets(of_address.as_ref()),
                        None => Budgets::unlimited(),
                    };
                    let app = ConnectionService::new(app.clone(), remote, budgets, outlived);
                    let fresh = admission
                        .as_ref()
                        .filter(|_| outlived)
                        .map(|admission| admission.in_flight().begin());
                    let (tls, stage) = (tls.clone(), stage.clone());
                    let terms = Terms { times, admission: admission.clone(), newcomer };
                    serving.spawn(async move {
                        let handle = app.handle().clone();
                        let served = pin!(greet(stream, tls, app, terms, stage));
                        counted_until_a_request(served, fresh, &handle, times.fresh).await;
                        drop((place, of_address));
                    });
                }
                Some(ended) = serving.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "an HTTP connection's task failed");
                    }
                }
                () = reached(&mut stage, end) => break,
            }
        }
        drop((listener, accepting));
        while serving.join_next().await.is_some() {}
        Ok(())
    }
}

// The terms on which a connection is served.
struct Terms {
    times: Times,
    // None for a listener that is apart.
    admission: Option<Admission>,
    // Until its first request.
    newcomer: Option<Newcomer>,
}

impl Terms {
    fn count(&self, limit: Limit) {
        if let Some(admission) = &self.admission {
            admission.counts().add(limit);
        }
    }

    fn failed(&self, why: HandshakeFailure) {
        failed(self.admission.as_ref(), why);
    }
}

fn failed(admission: Option<&Admission>, why: HandshakeFailure) {
    if let Some(admission) = admission {
        admission.broker().counters().handshake_failed(why);
    }
}

// Counts a connection that is closed at once, because of a limit that is not counted elsewhere or one
// that is.
fn refused(admission: Option<&Admission>, limit: Option<Limit>) {
    failed(admission, HandshakeFailure::Refused);
    if let (Some(admission), Some(limit)) = (admission, limit) {
        admission.counts().add(limit);
    }
}

// Takes the places of a connection: of its address, and until its first request. Returns `None` if there
// are none.
fn admit(
    admission: &Admission,
    address: IpAddr,
    tls: bool,
) -> Option<(Option<AddressPlace>, Option<Newcomer>)> {
    let (addresses, now) = (admission.addresses(), admission.clock().now());
    let of_address = addresses.admit_connection(address).ok()?;
    if tls && !addresses.tls_handshake(address, now) {
        return None;
    }
    let newcomer = admission.admit_connection(address).ok()?;
    Some((of_address, newcomer))
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
    terms: Terms,
    mut stage: watch::Receiver<Stage>,
) {
    let Some(tls) = tls else {
        return serve(stream, app, terms, stage).await;
    };
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE, tls.accept(stream)) => accepted,
        () = displaced(terms.newcomer.as_ref()) => return terms.failed(HandshakeFailure::Displaced),
        () = stopped(&mut stage) => return terms.failed(HandshakeFailure::Stopping),
    };
    match accepted {
        Ok(Ok(mut stream)) => {
            if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) {
                // The handshake was the answer (RFC 8737, section 3).
                let _ = timeout(HANDSHAKE, stream.shutdown()).await;
                return;
            }
            serve(stream, app, terms, stage).await;
        }
        Ok(Err(error)) => {
            terms.failed(HandshakeFailure::Failed);
            tracing::debug!(%error, "handshake");
        }
        Err(_) => {
            terms.failed(HandshakeFailure::TimedOut);
            terms.count(Limit::HandshakeTime);
        }
    }
}

async fn serve<S>(
    stream: S,
    app: ConnectionService<Router>,
    mut terms: Terms,
    mut stage: watch::Receiver<Stage>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (times, newcomer) = (terms.times, terms.newcomer.take());
    let handle = app.handle().clone();
    let builder = builder(&times, &handle);
    // One request at a time holds one answer.
    let builder = if terms.admission.is_none() { builder.http1_only() } else { builder };
    let service = TowerToHyperService::new(app);
    let stream = TokioIo::new(Paced::new(stream, handle.clone()));
    let mut connection = pin!(builder.serve_connection_with_upgrades(stream, service));
    let reader = Arc::new(Reader::new());
    let served = READER.scope(reader.clone(), async {
        let drains = tokio::select! {
            _ = connection.as_mut() => return,
            () = reader.stalled(times.patience) => return terms.count(Limit::Time),
            () = handle.closed() => return,
            () = gives_way(newcomer, &handle) => return,
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

// Serves a connection. The daemon waits for `fresh` before it stops: until the first request, and for
// `most`.
async fn counted_until_a_request(
    mut served: Pin<&mut impl Future<Output = ()>>,
    fresh: Option<Work>,
    handle: &ConnectionHandle,
    most: Duration,
) {
    if let Some(fresh) = fresh {
        tokio::select! {
            () = served.as_mut() => return,
            () = handle.any_request() => {}
            () = sleep(most) => {}
        }
        drop(fresh);
    }
    served.await;
}

// Waits until a connection without a request has to give way to others.
async fn gives_way(newcomer: Option<Newcomer>, handle: &ConnectionHandle) {
    if newcomer.is_some() {
        tokio::select! {
            () = displaced(newcomer.as_ref()) => return,
            () = handle.any_request() => {}
        }
    }
    drop(newcomer);
    std::future::pending::<()>().await;
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
        .max_headers(MAX_FIELDS)
        .max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(BUFFER)
        .max_header_list_size(FIELDS)
        .max_pending_accept_reset_streams(PEER_RESETS)
        .max_local_error_reset_streams(OWN_RESETS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
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
