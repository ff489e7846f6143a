//! One HTTP connection: its timeouts, its unfinished requests, and how its requests find it.

use crate::net::deadlines::UNREAD;
use axum::extract::ConnectInfo;
use axum::http::Request;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep};
use tower_service::Service;

/// Timeouts of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Maximum time from the TLS handshake to the first request, and over HTTP/1.1 from an answer to
    /// the next request.
    pub(super) request: Duration,
    /// Maximum time without a request. Proxies and browsers keep idle connections for one to five
    /// minutes, and open a new one when they need it.
    pub(super) idle: Duration,
    /// Interval of pings over HTTP/2, and the timeout of the answer. A peer that has vanished is
    /// detected after 40 s; TCP alone takes hours.
    pub(super) ping: Duration,
    /// Maximum time for which a client may leave an answer unread, as [`UNREAD`].
    pub(super) patience: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            ping: Duration::from_secs(20),
            patience: UNREAD,
        }
    }
}

/// The state of one connection that its requests share.
#[derive(Debug)]
pub(super) struct ConnectionHandle {
    requests: Mutex<Requests>,
    begun: Notify,
    closed: Notify,
}

#[derive(Debug)]
struct Requests {
    any: bool,
    active: usize,
    since: Instant,
}

impl Default for ConnectionHandle {
    fn default() -> Self {
        let requests = Requests { any: false, active: 0, since: Instant::now() };
        Self { requests: Mutex::new(requests), begun: Notify::new(), closed: Notify::new() }
    }
}

impl ConnectionHandle {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection, with all its unfinished requests.
    pub(super) fn close(&self) {
        self.closed.notify_one();
    }

    /// Waits until the connection has to close.
    pub(super) fn closed(&self) -> Notified<'_> {
        self.closed.notified()
    }

    /// Records the begin of a request. The request ends when the returned guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> ActiveRequest {
        let mut requests = self.requests();
        requests.any = true;
        requests.active += 1;
        drop(requests);
        self.begun.notify_waiters();
        ActiveRequest(self.clone())
    }

    /// Waits until the connection has had a request.
    pub(super) async fn any_request(&self) {
        loop {
            let begun = self.begun.notified();
            if self.requests().any {
                return;
            }
            begun.await;
        }
    }

    /// Waits until the connection has had no request for too long.
    pub(super) async fn idle(&self, times: &Times) {
        loop {
            let Requests { any, active, since } = *self.requests();
            let most = if any { times.idle } else { times.request };
            let since = if active > 0 { Instant::now() } else { since };
            let left = (since + most).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

/// A request whose answer was not sent completely yet.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<ConnectionHandle>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut requests = self.0.requests();
        requests.active -= 1;
        requests.since = Instant::now();
    }
}

/// The service of one connection. It adds the connection to its requests.
#[derive(Clone)]
pub(super) struct ConnectionService<S> {
    app: S,
    remote: SocketAddr,
    handle: Arc<ConnectionHandle>,
}

impl<S> ConnectionService<S> {
    /// Creates the service of a connection that has had no request.
    pub(super) fn new(app: S, remote: SocketAddr) -> Self {
        Self { app, remote, handle: Arc::default() }
    }

    /// Returns the state of the connection.
    pub(super) fn handle(&self) -> &Arc<ConnectionHandle> {
        &self.handle
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for ConnectionService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.app.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(self.remote));
        extensions.insert(self.handle.clone());
        self.app.call(request)
    }
}
