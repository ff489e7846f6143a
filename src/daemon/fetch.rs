//! Questions to other servers over HTTP/1.1: for keys, and who a peer is. Also what the daemon tells to a
//! collector of traces.
//!
//! Each question has a connection of its own, a deadline, and a bound for its answer. Redirects are not
//! followed: the operator has named one server, and its answers decide who may do what.

use crate::access::Remote;
use crate::tls::{self, Complaint, Expect, TlsError};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::header::{
    ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT,
};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Maximum size of an answer's head, bytes.
const HEAD: usize = 16 << 10;

/// The longest name of a host, bytes (RFC 1035).
const MAX_HOST: usize = 253;

/// An address, or the authorities for it, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The address cannot be used.
    #[error(
        "{url:?} is not an address such as \"https://id.example/keys\": {reason}; http:// is for this \
         machine only, such as \"http://127.0.0.1:9000/weir\""
    )]
    Url {
        /// The address.
        url: String,
        /// The problem.
        reason: &'static str,
    },
    /// The authorities for the server's certificate cannot be used.
    #[error(transparent)]
    Authorities(#[from] TlsError),
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The host has no address, or none of this machine although it has to.
    #[error("{0} has no address, or none of this machine, to which http:// is restricted")]
    Host(String),
    /// The connection failed, or its certificate is not trusted.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The answer is malformed, or was cut off.
    #[error("no answer: {0}")]
    Exchange(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection was closed before the answer was complete.
    #[error("the connection was closed before the answer was complete")]
    Closed,
    /// The answer is too large.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// The answer took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer has another status than 200. Redirects are not followed.
    #[error("the answer has status {0}, and not 200")]
    Status(u16),
}

/// An answer of any status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `max-age` of `Cache-Control` (RFC 9111, section 5.2.2). Zero if the answer must not be kept.
    pub(super) max_age: Option<Duration>,
    pub(super) body: Bytes,
}

/// A server, ready to be asked.
pub(super) struct Fetcher {
    // `host:port`, for the header.
    authority: HeaderValue,
    host: String,
    port: u16,
    target: Uri,
    // None without TLS.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    // Without TLS, another machine is not asked.
    here_only: bool,
}

/// The parts of an address.
pub(super) struct Address {
    uri: Uri,
    host: String,
    secure: bool,
}

impl Address {
    /// Parses an address to which secrets are sent: in the clear to this machine only.
    fn parse(url: &str) -> Result<Self, &'static str> {
        let address = Self::parse_any(url)?;
        let here = address.host.eq_ignore_ascii_case("localhost")
            || address.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !address.secure && !here {
            return Err("what it carries could be read and changed on the way");
        }
        Ok(address)
    }

    /// Parses an address to which nothing secret is sent.
    pub(super) fn parse_any(url: &str) -> Result<Self, &'static str> {
        if url.contains('#') {
            return Err("it has a fragment");
        }
        let uri: Uri = url.parse().map_err(|_| "it is malformed")?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it does not begin with https://"),
        };
        let authority = uri.authority().ok_or("it has no host")?;
        if authority.as_str().contains('@') {
            return Err("it has a user name");
        }
        let has_port = authority.as_str().len() != authority.host().len();
        if has_port && authority.port_u16().is_none_or(|port| port == 0) {
            return Err("its port is not one");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || host.len() > MAX_HOST {
            return Err("it has no host");
        }
        Ok(Self { uri, host, secure })
    }
}

/// Returns why an address cannot be used, if so.
#[cfg(any(feature = "cli", test))]
pub(crate) fn check(url: &str) -> Result<(), RemoteError> {
    let wrong = |reason| RemoteError::Url { url: url.to_owned(), reason };
    Address::parse(url).map(|_| ()).map_err(wrong)
}

/// Fetches a resource once, without authorities. Returns the status and the body.
#[cfg(feature = "cli")]
pub(crate) async fn get(
    url: &str,
    deadline: Duration,
    most: usize,
) -> Result<(u16, Bytes), GetError> {
    let answer = Fetcher::new(&Remote::new(url))?.get(deadline, most).await?;
    Ok((answer.status, answer.body))
}

/// Why [`get`] has failed.
#[cfg(feature = "cli")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl Fetcher {
    /// Reads the authorities, which are files.
    pub(super) fn new(remote: &Remote) -> Result<Self, RemoteError> {
        let wrong = |reason| RemoteError::Url { url: remote.url().to_owned(), reason };
        let address = Address::parse(remote.url()).map_err(wrong)?;
        let expect = || match remote.authorities() {
            Some(file) => Expect::authority(&file.to_owned()),
            None => Expect::system(),
        };
        Ok(Self { here_only: true, ..Self::open(address, expect, wrong)? })
    }

    /// The same for an address to which nothing secret is sent, with the authorities of the system.
    #[cfg(feature = "otel")]
    pub(super) fn open_any<E: From<TlsError>>(
        address: Address,
        wrong: impl Fn(&'static str) -> E,
    ) -> Result<Self, E> {
        Self::open(address, Expect::system, wrong)
    }

    fn open<E: From<TlsError>>(
        Address { uri, host, secure }: Address,
        expect: impl FnOnce() -> Result<Expect, TlsError>,
        wrong: impl Fn(&'static str) -> E,
    ) -> Result<Self, E> {
        let tls = if secure {
            // The errors of the handshake say what is wrong with the certificate.
            let config = tls::client(&expect()?, b"http/1.1", &Complaint::default(), None)?;
            let name = ServerName::try_from(host.clone()).map_err(|_| wrong("it has no host"))?;
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let authority = HeaderValue::from_str(authority).map_err(|_| wrong("it has no host"))?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let target = target.parse().map_err(|_| wrong("it is malformed"))?;
        Ok(Self { authority, host, port, target, tls, here_only: false })
    }

    /// Fetches a resource. The answer has at most `most` bytes, and is complete within `deadline`.
    pub(super) async fn get(&self, deadline: Duration, most: usize) -> Result<Answer, FetchError> {
        self.ask(Method::GET, Bytes::new(), deadline, most).await
    }

    /// Sends JSON, as [`get`](Self::get).
    pub(super) async fn post(
        &self,
        body: Bytes,
        deadline: Duration,
        most: usize,
    ) -> Result<Answer, FetchError> {
        self.ask(Method::POST, body, deadline, most).await
    }

    async fn ask(
        &self,
        method: Method,
        body: Bytes,
        deadline: Duration,
        most: usize,
    ) -> Result<Answer, FetchError> {
        let json = HeaderValue::from_static("application/json");
        let mut request = Request::new(body);
        if method == Method::POST {
            request.headers_mut().insert(CONTENT_TYPE, json.clone());
        }
        request.headers_mut().insert(ACCEPT, json);
        *request.method_mut() = method;
        let (head, body) = self.send(request, deadline, most).await?.into_parts();
        Ok(Answer { status: head.status.as_u16(), max_age: max_age(&head.headers), body })
    }

    /// Sends a request with its method, headers and body. The address is that of the server, whatever the
    /// request has.
    pub(super) async fn send(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
        most: usize,
    ) -> Result<Response<Bytes>, FetchError> {
        let mut request = request.map(Whole);
        *request.uri_mut() = self.target.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let agent = concat!("weir/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let asked = timeout(deadline, self.connect_and_send(request, most)).await;
        asked.unwrap_or(Err(FetchError::Timeout(deadline)))
    }

    async fn connect_and_send(
        &self,
        request: Request<Whole>,
        most: usize,
    ) -> Result<Response<Bytes>, FetchError> {
        let tcp = self.connect().await?;
        // Answers are short, and a question is one packet.
        let _ = tcp.set_nodelay(true);
        match &self.tls {
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await;
                exchange(tls.map_err(FetchError::Connect)?, request, most).await
            }
            None => exchange(tcp, request, most).await,
        }
    }

    async fn connect(&self) -> Result<TcpStream, FetchError> {
        let found = lookup_host((&*self.host, self.port)).await.map_err(FetchError::Connect)?;
        let mut refused = FetchError::Host(self.host.clone());
        // Tokens are not sent to another machine in the clear, whatever localhost resolves to.
        let may_be_anywhere = self.tls.is_some() || !self.here_only;
        for address in found.filter(|found| may_be_anywhere || found.ip().is_loopback()) {
            match TcpStream::connect(address).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => refused = FetchError::Connect(error),
            }
        }
        Err(refused)
    }
}

fn failed(error: hyper::Error) -> FetchError {
    FetchError::Exchange(error.into())
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    request: Request<Whole>,
    most: usize,
) -> Result<Response<Bytes>, FetchError> {
    let mut http = hyper::client::conn::http1::Builder::new();
    http.max_buf_size(HEAD);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
        Ok(Response::from_parts(head, whole(body, most).await?))
    };
    let connection = async {
        // If it fails, so does the exchange, with the reason.
        let _ = connection.await;
        pending::<()>().await;
    };
    tokio::select! {
        answer = exchange => answer,
        () = connection => Err(FetchError::Closed),
    }
}

async fn whole<B: Body<Data = Bytes, Error = hyper::Error> + Unpin>(
    mut body: B,
    most: usize,
) -> Result<Bytes, FetchError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.map_err(failed)?.into_data() {
            if bytes.len() + data.len() > most {
                return Err(FetchError::TooLarge(most));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

// Other directives do not matter to a cache that asks again soon.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut found = None;
    for directive in values.flat_map(|value| value.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let name = name.trim();
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        if name.eq_ignore_ascii_case("max-age") {
            let seconds = value.trim().trim_matches('"').parse::<u32>().unwrap_or(0);
            found = Some(Duration::from_secs(seconds.into()));
        }
    }
    found
}

/// A body that is there.
struct Whole(Bytes);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = std::mem::take(&mut self.0);
        Poll::Ready((!body.is_empty()).then(|| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests;
