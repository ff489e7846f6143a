//! The TCP side's listeners: TLS on the daemon's port, and plain HTTP for the same machine.

use crate::net::identity::Identities;
use crate::net::ports::BindError;
use crate::net::tls;
use axum::Router;
use axum::http::Request;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use std::future::{Ready, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

/// From the connection to the end of the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// From there to the first request, and for the head of each further one.
const REQUEST: Duration = Duration::from_secs(10);

/// How long answers under way are waited for when the daemon stops.
const LINGER: Duration = Duration::from_secs(2);

/// Streams of one HTTP/2 connection (RFC 9113, section 6.5.2): a page has a handful.
const STREAMS: u32 = 100;

/// What is held of an answer that its client does not read: of a stream of events, and over
/// HTTP/2 for each stream. 64 KiB, and a chunk on top.
const BUFFER: usize = 64 << 10;

/// A listener, not accepting yet.
pub(crate) struct Listener {
    listener: TcpListener,
    // None: plain.
    tls: Option<RustlsConfig>,
    connections: Connections,
}

impl Listener {
    /// For HTTPS with the daemon's certificate, HTTP/2 and HTTP/1.1.
    pub(crate) fn tls(
        listener: TcpListener,
        identities: Arc<Identities>,
        connections: &Connections,
    ) -> Result<Self, BindError> {
        let config = tls::server(identities, &[b"h2", b"http/1.1"])?;
        let tls = Some(RustlsConfig::from_config(Arc::new(config)));
        Ok(Self { listener, tls, connections: connections.clone() })
    }

    /// For HTTP without TLS.
    pub(crate) fn plain(listener: TcpListener, connections: &Connections) -> Self {
        Self { listener, tls: None, connections: connections.clone() }
    }

    /// Serves until `handle` says stop.
    pub(crate) async fn run(self, app: Router, handle: Handle<SocketAddr>) -> io::Result<()> {
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        let server = axum_server::from_tcp(self.listener)?.handle(handle);
        match self.tls {
            Some(config) => {
                let acceptor = RustlsAcceptor::new(config).handshake_timeout(HANDSHAKE);
                let server = server.acceptor(acceptor.acceptor(self.connections));
                configured(server).serve(service).await
            }
            None => configured(server.acceptor(self.connections)).serve(service).await,
        }
    }
}

fn configured<A>(server: Server<SocketAddr, A>) -> Server<SocketAddr, A> {
    let mut server = server.first_request_timeout(REQUEST);
    server.http_builder().http1().header_read_timeout(REQUEST).max_buf_size(BUFFER);
    server.http_builder().http2().max_concurrent_streams(STREAMS).max_send_buf_size(BUFFER);
    server
}

/// Stops accepting, and gives answers under way some time.
pub(crate) fn stop(handle: &Handle<SocketAddr>) {
    handle.graceful_shutdown(Some(LINGER));
}

/// Accepts connections up to a number, and sends without delay (RFC 9293, section 3.7.4).
#[derive(Clone)]
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    full: Arc<AtomicBool>,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Self {
        let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self { places, full: Arc::default() }
    }
}

impl<S> Accept<TcpStream, S> for Connections {
    type Stream = TcpStream;
    type Service = Held<S>;
    type Future = Ready<io::Result<(TcpStream, Held<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = self.places.clone().try_acquire_owned();
        let full = place.is_err();
        if self.full.swap(full, Ordering::Relaxed) != full && full {
            tracing::warn!("no more TCP connections (limits.sessions): closing");
        }
        let accepted = place.map_err(|_| io::ErrorKind::ConnectionRefused.into());
        let accepted = accepted.and_then(|place: OwnedSemaphorePermit| {
            stream.set_nodelay(true)?;
            Ok((stream, Held { service, _place: Arc::new(place) }))
        });
        ready(accepted)
    }
}

/// A connection's service, with its place.
#[derive(Clone)]
pub(crate) struct Held<S> {
    service: S,
    _place: Arc<OwnedSemaphorePermit>,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Held<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        self.service.call(request)
    }
}
