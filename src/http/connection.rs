//! One HTTP connection: its timeouts, its unfinished requests, and how its requests find it.

use crate::broker::throttle::Budgets;
use crate::net::deadlines::UNREAD;
use axum::extract::ConnectInfo;
use axum::http::Request;
use std::net::{IpAddr, SocketAddr};
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
    /// Maximum time that a daemon whose sockets outlive it waits for the first request of a connection
    /// before it stops, from when it was accepted. The next daemon cannot serve that connection. A
    /// handshake and a request take two round trips.
    pub(super) fresh: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            ping: Duration::from_secs(20),
            patience: UNREAD,
            fresh: Duration::from_secs(1),
        }
    }
}

/// The state of one connection that its requests share.
#[derive(Debug)]
pub(super) struct ConnectionHandle {
    address: IpAddr,
    budgets: Budgets,
    // Its listener's socket outlives the daemon.
    outlived: bool,
    requests: Mutex<Requests>,
    begun: Notify,
    closed: Notify,
}

#[derive(Debug)]
struct Requests {
    any: bool,
    begun: u64,
    // The first one came while the daemon drained.
    late: bool,
    active: usize,
    since: Instant,
}

impl ConnectionHandle {
    fn new(address: IpAddr, budgets: Budgets, outlived: bool) -> Self {
        let requests =
            Requests { any: false, begun: 0, late: false, active: 0, since: Instant::now() };
        let (begun, closed) = Default::default();
        Self { address, budgets, outlived, requests: Mutex::new(requests), begun, closed }
    }

    /// The address of the client.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// How fast the requests of this address together may send, and be sent.
    pub(super) fn budgets(&self) -> &Budgets {
        &self.budgets
    }

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

    /// Records the begin of a request, and whether the daemon drains. The request ends when the
    /// returned guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, drains: bool) -> ActiveRequest {
        let mut requests = self.requests();
        requests.late |= drains && !requests.any;
        requests.any = true;
        requests.begun += 1;
        requests.active += 1;
        drop(requests);
        self.begun.notify_waiters();
        ActiveRequest(self.clone())
    }

    /// The number of requests that have begun.
    pub(super) fn begun(&self) -> u64 {
        self.requests().begun
    }

    /// Whether a daemon that drains serves its requests: it was accepted before that, had none yet, and
    /// the daemon's next connections are accepted by another one.
    pub(super) fn is_served_late(&self) -> bool {
        self.outlived && self.requests().late
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
            let Requests { any, active, since, .. } = *self.requests();
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
    /// Creates the service of a connection that has had no request. `outlived` says whether another
    /// daemon accepts connections after this one.
    pub(super) fn new(app: S, remote: SocketAddr, budgets: Budgets, outlived: bool) -> Self {
        let handle = Arc::new(ConnectionHandle::new(remote.ip(), budgets, outlived));
        Self { app, remote, handle }
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
