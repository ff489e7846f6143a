//! A daemon on a free port, and clients for it.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use weir::client::{Reconnect, Subscription};
use weir::engine::Limits;
use weir::{Client, Daemon, Event, Gap, Message, Transport, Trust};

pub const TRANSPORTS: [Transport; 3] =
    [Transport::Quic, Transport::WebTransport, Transport::WebSocket];

/// An address where nothing listens. The system gives the ports below 1,024 to nobody who asks for
/// any port, so no other test has it.
pub const NOBODY: &str = "127.0.0.1:1";

/// Maximum time for everything. A test that waits for this long fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn daemon() -> Daemon {
    daemon_with(Limits::default()).await
}

pub async fn daemon_with(limits: Limits) -> Daemon {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    Daemon::builder().listen(listen).limits(limits).spawn().await.unwrap()
}

/// Returns a client of one session: its end is an error.
pub async fn client(daemon: &Daemon, transport: Transport) -> Client {
    let trust = Trust::Pinned(daemon.certificate_hash().into());
    let builder = Client::builder(daemon.local_addr().to_string());
    let builder = builder.transport(transport).trust(trust).reconnect(Reconnect::never());
    within(builder.connect()).await.unwrap()
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Waits for the next event, which must be a message.
pub async fn message(subscription: &mut Subscription) -> Message {
    match within(subscription.next()).await.unwrap().unwrap() {
        Event::Message(message) => message,
        other => panic!("{other:?} in place of a message"),
    }
}

/// Waits for the next event, which must be a gap.
pub async fn gap(subscription: &mut Subscription) -> Gap {
    match within(subscription.next()).await.unwrap().unwrap() {
        Event::Gap(gap) => gap,
        other => panic!("{other:?} in place of a gap"),
    }
}

/// Returns TLS settings that accept any certificate.
pub fn tls(alpn: &[u8]) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls
}

#[derive(Debug)]
struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

pub const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// Returns `weir` with these arguments. Its state is below `state`.
pub fn weir(state: &Path, arguments: &[&str]) -> Command {
    // `WEIR_BIN` names another build, such as the release.
    let program = std::env::var_os("WEIR_BIN").unwrap_or_else(|| WEIR.into());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WEIR_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .env("XDG_STATE_HOME", state)
        .env_remove("STATE_DIRECTORY")
        // Many daemons run at once, and only one of them would have the default address.
        .env("WEIR_OPS__LISTEN", "off")
        .env_remove("RUST_LOG");
    command
}

/// `weir serve` in its own process. It is killed when dropped.
pub struct Served {
    pub child: Child,
    pub server: String,
    pub hash: String,
    pub next: String,
    /// The address of plain HTTP, if `--http` was given.
    pub http: Option<std::net::SocketAddr>,
    /// The address of metrics and health, if there is one.
    pub ops: Option<std::net::SocketAddr>,
}

impl Served {
    pub fn start(state: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_at("127.0.0.1:0", state, arguments, environment)
    }

    /// The same at this address.
    pub fn start_at(
        listen: &str,
        state: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let listen = ["serve", "--listen", listen, "--json"];
        let http: &[&str] = if arguments.contains(&"--http") { &[] } else { &["--http", "off"] };
        let arguments = [&listen, http, arguments].concat();
        let mut command = weir(state, &arguments);
        command.envs(environment.iter().copied());
        Self::begin(command)
    }

    /// The same for a command that prints JSON.
    pub fn begin(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).expect(&line);
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        Self {
            child,
            server: text("listen"),
            hash: text("certificate_sha256"),
            next: text("next_certificate_sha256"),
            http: ready["http"].as_str().map(|address| address.parse().unwrap()),
            ops: ready["ops"].as_str().map(|address| address.parse().unwrap()),
        }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Returns a number in KiB from `/proc/PID/status`.
    pub fn kib(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
