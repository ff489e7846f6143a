//! nats-server as a yardstick, if it is installed. The client implements only what publishing and
//! subscribing need of its protocol (docs.nats.io/reference/reference-protocols/nats-protocol), over
//! TCP or TLS.

use crate::bench::process::{Process, with_parent};
use anyhow::{Context as _, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

/// Maximum time for the server to start.
const START: Duration = Duration::from_secs(10);

/// Maximum number of publications that wait to be written, the same as in a session with Weir.
const WAITING: usize = 1024;

/// Returns the executable, if it is on the path or in `/usr/sbin`.
pub(super) fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places.map(|place| place.join("nats-server")).find(|file| file.is_file())
}

/// A running server. It is killed when dropped.
pub(super) struct Nats {
    pub(super) process: Process,
    pub(super) target: Target,
    _directory: TempDir,
}

/// The address of a server and, for TLS, the client's settings.
#[derive(Clone)]
pub(super) struct Target {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Nats {
    pub(super) fn start(cores: Option<usize>, tls: bool) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("weir-bench-").tempdir();
        let directory = directory.context("creating a directory for nats-server")?;
        let path = directory.path();
        let mut command = with_parent(installed().context("no nats-server here")?);
        command.args(["-a", "127.0.0.1", "-p", "-1"]);
        command.arg("--ports_file_dir").arg(path).arg("-l").arg(path.join("log"));
        let connector = tls.then(|| certify(path)).transpose()?;
        if tls {
            command.arg("--tls").arg("--tlscert").arg(path.join("cert.pem"));
            command.arg("--tlskey").arg(path.join("key.pem"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::start(command, cores).context("starting nats-server")?;
        let begun = Instant::now();
        let address = loop {
            if let Some(address) = announced(path) {
                break address;
            }
            if process.has_ended() || begun.elapsed() > START {
                let log = std::fs::read_to_string(path.join("log")).unwrap_or_default();
                bail!("nats-server did not start: {}", log.lines().last().unwrap_or("no reason"));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ok(Self { process, target: Target { address, tls: connector }, _directory: directory })
    }
}

// The address that the server listens on, from the file that it writes.
fn announced(directory: &Path) -> Option<SocketAddr> {
    let files = std::fs::read_dir(directory).ok()?;
    let file =
        files.flatten().find(|file| file.path().extension().is_some_and(|e| e == "ports"))?;
    let text = std::fs::read_to_string(file.path()).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    value["nats"][0].as_str()?.rsplit_once('/')?.1.parse().ok()
}

// Writes a certificate of the same kind as the daemon's own, and returns a client that trusts it.
fn certify(directory: &Path) -> anyhow::Result<TlsConnector> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(directory.join("cert.pem"), made.cert.pem())?;
    std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The publishing side of a session.
#[derive(Clone)]
pub(super) struct Sender(mpsc::Sender<Vec<u8>>);

/// The subscribed side of a session.
pub(super) struct Receiver {
    rx: ReadHalf<Box<dyn Io>>,
    buffer: BytesMut,
    pongs: Sender,
}

/// Connects, and waits for the server's answer.
pub(super) async fn connect(target: &Target) -> anyhow::Result<(Sender, Receiver)> {
    let mut tcp = TcpStream::connect(target.address).await?;
    tcp.set_nodelay(true)?;
    // The server sends first, even before TLS.
    let mut buffer = BytesMut::new();
    loop {
        match frame(&mut buffer)? {
            Some(Frame::Info) => break,
            Some(other) => bail!("expected INFO from nats-server, got {other:?}"),
            None if tcp.read_buf(&mut buffer).await? == 0 => {
                bail!("nats-server closed the connection")
            }
            None => {}
        }
    }
    let io: Box<dyn Io> = match &target.tls {
        None => Box::new(tcp),
        Some(tls) => Box::new(tls.connect(ServerName::try_from("localhost")?, tcp).await?),
    };
    let (rx, tx) = tokio::io::split(io);
    let (sender, queue) = mpsc::channel(WAITING);
    tokio::spawn(write(tx, queue));
    let sender = Sender(sender);
    let mut receiver = Receiver { rx, buffer, pongs: sender.clone() };
    let tls = target.tls.is_some();
    let hello = format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":{tls},\"headers\":false,\
         \"lang\":\"rust\",\"version\":\"1\",\"echo\":true}}\r\n"
    );
    sender.send(hello.into_bytes()).await?;
    receiver.settle(&sender).await?;
    Ok((sender, receiver))
}

// Writes everything that is queued at once, as NATS's own clients flush.
async fn write(mut tx: WriteHalf<Box<dyn Io>>, mut queue: mpsc::Receiver<Vec<u8>>) {
    let (mut waiting, mut bytes) = (Vec::new(), Vec::new());
    while queue.recv_many(&mut waiting, WAITING).await > 0 {
        bytes.clear();
        waiting.drain(..).for_each(|one| bytes.extend(one));
        // The receiver reports the error.
        if tx.write_all(&bytes).await.is_err() || tx.flush().await.is_err() {
            return;
        }
    }
    let _ = tx.shutdown().await;
}

impl Sender {
    async fn send(&self, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.0.send(bytes).await.ok().context("nats-server closed the connection")
    }

    pub(super) async fn publish(&self, subject: &str, payload: &[u8]) -> anyhow::Result<()> {
        let head = format!("PUB {subject} {}\r\n", payload.len());
        self.send([head.as_bytes(), payload, b"\r\n"].concat()).await
    }
}

impl Receiver {
    /// Subscribes, and returns when the server has processed it.
    pub(super) async fn subscribe(&mut self, sender: &Sender, subject: &str) -> anyhow::Result<()> {
        sender.send(format!("SUB {subject} 1\r\n").into_bytes()).await?;
        self.settle(sender).await
    }

    // The server has processed everything before the PING when it answers.
    async fn settle(&mut self, sender: &Sender) -> anyhow::Result<()> {
        sender.send(b"PING\r\n".to_vec()).await?;
        loop {
            match self.frame().await? {
                Frame::Pong => return Ok(()),
                Frame::Info => {}
                other => bail!("expected a PONG, got {other:?}"),
            }
        }
    }

    /// Waits for the next message, and answers the server's PINGs.
    pub(super) async fn next(&mut self) -> anyhow::Result<Bytes> {
        loop {
            match self.frame().await? {
                Frame::Message(payload) => return Ok(payload),
                Frame::Ping => self.pongs.send(b"PONG\r\n".to_vec()).await?,
                Frame::Info | Frame::Pong => {}
            }
        }
    }

    async fn frame(&mut self) -> anyhow::Result<Frame> {
        loop {
            if let Some(frame) = frame(&mut self.buffer)? {
                return Ok(frame);
            }
            self.buffer.reserve(16 << 10);
            if self.rx.read_buf(&mut self.buffer).await? == 0 {
                bail!("nats-server closed the connection");
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Frame {
    Info,
    Ping,
    Pong,
    Message(Bytes),
}

/// Takes the first frame from the buffer, if it is complete.
fn frame(buffer: &mut BytesMut) -> anyhow::Result<Option<Frame>> {
    const END: &[u8] = b"\r\n";
    let Some(end) = buffer.windows(2).position(|two| two == END) else { return Ok(None) };
    let line = std::str::from_utf8(&buffer[..end]).context("a line of nats-server")?;
    let frame = match line.split_once(' ').unwrap_or((line, "")) {
        ("MSG", rest) => {
            let size = rest.rsplit(' ').next().unwrap_or_default();
            let size: usize = size.parse().context("the size of a message")?;
            if buffer.len() < end + 2 + size + 2 {
                return Ok(None);
            }
            buffer.advance(end + 2);
            let payload = buffer.split_to(size).freeze();
            if buffer.split_to(2) != END {
                bail!("a message of nats-server is longer than its header states");
            }
            return Ok(Some(Frame::Message(payload)));
        }
        ("INFO", _) => Frame::Info,
        ("PING", _) => Frame::Ping,
        ("PONG", _) => Frame::Pong,
        _ => bail!("unexpected line from nats-server: {line}"),
    };
    buffer.advance(end + 2);
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_in_any_pieces() {
        let stream =
            b"INFO {\"tls_required\":true}\r\nPONG\r\nMSG fanout 1 4\r\na\r\nb\r\nPING\r\n";
        let expected =
            [Frame::Info, Frame::Pong, Frame::Message(Bytes::from_static(b"a\r\nb")), Frame::Ping];
        for size in 1..=stream.len() {
            let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(size) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = frame(&mut buffer).unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, expected);
        }
    }

    #[test]
    fn errors_are_passed_on() {
        let wrong = ["-ERR 'Slow Consumer'\r\n", "MSG fanout 1 x\r\n", "MSG fanout 1 1\r\nabc"];
        for text in wrong {
            assert!(frame(&mut BytesMut::from(text)).is_err(), "{text}");
        }
    }
}
