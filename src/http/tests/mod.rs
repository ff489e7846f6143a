//! The face over TCP, as a client sees it.

use super::{CertificateFacts, Origins, Shared, router};
use crate::engine::{Engine, Limits};
use crate::net::core::Core;
use crate::net::tls::CertificateHash;
use axum::Router;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

struct Face {
    address: SocketAddr,
    core: Arc<Core>,
    stop: watch::Sender<bool>,
}

async fn face(limits: Limits) -> Face {
    let core = Arc::new(Core::new(Engine::new(limits, 1_000_000, [7; 32])));
    let (stop, stopping) = watch::channel(false);
    let certificate =
        || CertificateFacts { pinning: true, current: CertificateHash([1; 32]), next: None };
    let origins = Origins::parse(["https://app.example"]).unwrap();
    let shared = Shared::new(core.clone(), origins, certificate, 4433, stopping);
    let router = router(Arc::new(shared), Router::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    Face { address, core, stop }
}

async fn ask(face: &Face, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(face.address).await.unwrap();
    let head = format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn it_works() {
    let face = face(Limits::default()).await;
    for (head, body) in [
        ("POST /v1/topics/demo%2Fa HTTP/1.1\r\nContent-Length: 5", "hello"),
        ("GET /v1/topics/demo/a HTTP/1.1", ""),
        ("GET /v1/topics/demo/a/top HTTP/1.1", ""),
        ("GET /v1/topics/demo/a?form=1 HTTP/1.1", ""),
        ("GET /v1/topics/demo/b HTTP/1.1", ""),
        ("DELETE /v1/topics/demo/b HTTP/1.1", ""),
        ("GET /certificate.sha256 HTTP/1.1", ""),
        ("GET /nothing HTTP/1.1", ""),
        ("GET / HTTP/1.1\r\nOrigin: https://evil", ""),
        (
            "OPTIONS /v1/topics/a HTTP/1.1\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: POST",
            "",
        ),
    ] {
        println!("--- {head}\n{}\n", ask(&face, head, body.as_bytes()).await);
    }
}
