//! A server of the tests' own, over HTTP on this machine or HTTPS: for keys, and as a back end.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// An authority, and what it has issued.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Authority");
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    /// Issues a certificate for a name: its chain and its key, in PEM.
    pub fn issue(&self, name: &str) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        [params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem()]
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let [chain, key] = self.issue(name);
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap);
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.collect(), key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What the server answers: a status, other headers, a body.
pub type Answer = (u16, &'static str, String);

type Answering = Arc<dyn Fn(&serde_json::Value) -> Option<Answer> + Send + Sync>;

/// The server. It ends with the test.
pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<serde_json::Value>>>,
    answering: Arc<Mutex<Answering>>,
    held: watch::Sender<bool>,
    // Questions that are not answered now, and the most of them.
    open: Arc<Mutex<[usize; 2]>>,
}

impl Server {
    /// Answers each question, or leaves it open without an answer.
    pub async fn plain(
        answering: impl Fn(&serde_json::Value) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, Arc::new(answering)).await
    }

    /// The same over TLS, with a certificate of this authority for localhost.
    pub async fn secure(
        authority: &Authority,
        answering: impl Fn(&serde_json::Value) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(authority.acceptor("localhost")), Arc::new(answering)).await
    }

    async fn start(tls: Option<TlsAcceptor>, answering: Answering) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, answering) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(Mutex::new(answering)));
        let (seen, answers) = (asked.clone(), answering.clone());
        let held = watch::Sender::new(false);
        let holding = held.clone();
        let open = Arc::<Mutex<[usize; 2]>>::default();
        let opened = open.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (tls, seen, answers) = (tls.clone(), seen.clone(), answers.clone());
                let (holding, opened) = (holding.subscribe(), opened.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(tcp, &seen, &answers, holding, &opened).await,
                        Some(tls) => {
                            // A client that does not trust it leaves.
                            if let Ok(stream) = tls.accept(tcp).await {
                                serve(stream, &seen, &answers, holding, &opened).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, asked, answering, held, open }
    }

    /// Answers in another way from now on.
    pub fn answer(
        &self,
        answering: impl Fn(&serde_json::Value) -> Option<Answer> + Send + Sync + 'static,
    ) {
        *self.answering.lock().unwrap() = Arc::new(answering);
    }

    /// Answers nothing until it is told otherwise.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// The highest number of questions that were open at one time.
    pub fn most_at_once(&self) -> usize {
        self.open.lock().unwrap()[1]
    }

    /// The bodies of the questions so far.
    pub fn asked(&self) -> Vec<serde_json::Value> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Mutex<Vec<serde_json::Value>>,
    answers: &Mutex<Answering>,
    mut held: watch::Receiver<bool>,
    open: &Mutex<[usize; 2]>,
) {
    let mut bytes = Vec::new();
    let body = loop {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1);
        let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        if body.len() >= length {
            break body.to_owned();
        }
    };
    let question = serde_json::from_str(&body).unwrap_or_default();
    seen.lock().unwrap().push(question);
    let question = seen.lock().unwrap().last().unwrap().clone();
    {
        let mut open = open.lock().unwrap();
        open[0] += 1;
        open[1] = open[1].max(open[0]);
    }
    let _ = held.wait_for(|held| !held).await;
    open.lock().unwrap()[0] -= 1;
    let answering = answers.lock().unwrap().clone();
    match answering(&question) {
        None => {
            // Until the client leaves.
            let _ = stream.read(&mut [0]).await;
        }
        Some((status, headers, body)) => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n");
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    }
}
