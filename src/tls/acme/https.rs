//! The connection to the authority: HTTPS, a connection for each request, of which there are a dozen
//! every two months.

use crate::tls::trust::{self, Complaint, Expect, TlsError};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::ServerName;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Maximum time of a request.
const REQUEST: Duration = Duration::from_secs(30);

/// Maximum size of an answer, bytes. A chain of certificates has some KiB.
const ANSWER: usize = 1 << 20;

/// Sends requests to the authority.
pub(super) struct Https {
    connector: TlsConnector,
    complaint: Complaint,
}

impl Https {
    /// `expect` says which certificate the authority's server must have.
    pub(super) fn new(expect: &Expect) -> Result<Self, TlsError> {
        let complaint = Complaint::default();
        let config = trust::client(expect, b"http/1.1", &complaint, None)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), complaint })
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (connector, complaint) = (self.connector.clone(), self.complaint.clone());
        Box::pin(async move {
            let uri = request.uri().clone();
            let answer = match timeout(REQUEST, send(&connector, request)).await {
                Ok(answer) => answer,
                Err(_) => Err("no answer within 30 s".into()),
            };
            // The certificate's fault says more than the failed handshake.
            answer.map_err(|error| match complaint.get() {
                Some(reason) => other(format!("{uri}: its certificate: {reason}")),
                None => other(format!("{uri}: {error}")),
            })
        })
    }
}

fn other(reason: String) -> Error {
    Error::Other(reason.into())
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn send(
    connector: &TlsConnector,
    mut request: Request<BodyWrapper<Bytes>>,
) -> Result<BytesResponse, Failure> {
    let uri = request.uri().clone();
    let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("not an https address".into());
    };
    let host = authority.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((bare, authority.port_u16().unwrap_or(443))).await?;
    let tls = connector.connect(ServerName::try_from(bare.to_owned())?, tcp).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    *request.uri_mut() = target.parse::<Uri>()?;
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    let exchange = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        Ok(BytesResponse { parts, body: Box::new(whole(body).await?) })
    };
    let connection = async {
        // If it fails, so does the exchange, with the reason.
        let _ = connection.await;
        pending::<()>().await;
    };
    tokio::select! {
        answer = exchange => answer,
        () = connection => Err("closed".into()),
    }
}

async fn whole(mut body: Incoming) -> Result<Bytes, Failure> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > ANSWER {
                return Err("the answer has more than 1 MiB".into());
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}
