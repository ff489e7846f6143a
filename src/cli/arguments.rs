//! The arguments that verbs share: how to reach the daemon, and a topic.

use crate::client::{Builder, Client, ConnectError, Reconnect};
use crate::config::CERT_HASH;
use crate::wire::{NameError, check_readable_topic, check_topic};
use crate::{CertificateHashes, Transport, Trust};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to reach the daemon.
#[derive(Debug, Args)]
pub(super) struct Connection {
    /// The daemon's address; the port is 4433 unless given.
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:4433", env = "WEIR_SERVER")]
    server: String,
    /// How to connect.
    #[arg(long, value_enum, default_value_t, env = "WEIR_TRANSPORT")]
    transport: TransportChoice,
    /// Trust certificates of the authorities in this PEM file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cert_hash", "insecure"])]
    ca: Option<PathBuf>,
    /// Trust the certificate with this SHA-256, or one of several, with commas between or the flag
    /// again: `weir serve` prints that of its certificate and of the next one. On loopback they
    /// are found without this [env: WEIR_CERT_HASH].
    // Without clap's `env`, with which a variable would conflict with the other two flags.
    #[arg(long, value_name = "HEX", conflicts_with = "insecure")]
    cert_hash: Vec<CertificateHashes>,
    /// Trust any certificate: for experiments only.
    #[arg(long)]
    insecure: bool,
    /// Show this certificate to the daemon, over raw QUIC: a PEM file.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The key of --cert: a PEM file that only its owner can read.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Token for a daemon that requires one.
    #[arg(long, env = "WEIR_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File with the token, in place of --token. It is read again for each session, and before the
    /// token ends.
    #[arg(long, value_name = "FILE", env = "WEIR_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Directory in which the daemon on this machine keeps its certificate, if not the usual one.
    #[arg(long, value_name = "DIR", env = "WEIR_STATE")]
    state: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum TransportChoice {
    /// Raw QUIC.
    #[default]
    Quic,
    /// WebTransport, as browsers use it.
    #[value(name = "webtransport")]
    WebTransport,
    /// WebSocket, over TCP: for networks that block UDP.
    #[value(name = "websocket")]
    WebSocket,
    /// Raw QUIC, or WebSocket if that fails or does not answer within a second.
    Auto,
}

// A token is a few KiB, and a local file is read in microseconds.
fn read_token(file: &Path) -> Result<String, Box<dyn Error + Send + Sync>> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(text.trim().to_owned())
}

impl Connection {
    fn builder(&self) -> anyhow::Result<Builder> {
        let builder = Client::builder(&*self.server);
        let mut builder = match self.transport {
            TransportChoice::Quic => builder.transport(Transport::Quic),
            TransportChoice::WebTransport => builder.transport(Transport::WebTransport),
            TransportChoice::WebSocket => builder.transport(Transport::WebSocket),
            TransportChoice::Auto => builder.auto(),
        };
        if self.insecure {
            tracing::warn!("--insecure: anyone on the way can read and change everything");
            builder = builder.trust(Trust::Insecure);
        } else if let Some(file) = &self.ca {
            builder = builder.trust(Trust::Authority(file.clone()));
        } else if let Some(hashes) = self.hashes()? {
            builder = builder.trust(Trust::Pinned(hashes));
        }
        if let Some(state) = &self.state {
            builder = builder.state(state);
        }
        if let (Some(certificate), Some(key)) = (&self.cert, &self.key) {
            builder = builder.certificate(certificate, key);
        }
        if let Some(file) = &self.token_file {
            let file = Arc::<Path>::from(file.as_path());
            builder = builder.token_from(move || {
                let file = file.clone();
                async move { read_token(&file) }
            });
        } else if let Some(token) = &self.token {
            builder = builder.token(token);
        }
        Ok(builder)
    }

    // The hashes of the flags, or else of the environment.
    fn hashes(&self) -> anyhow::Result<Option<CertificateHashes>> {
        if !self.cert_hash.is_empty() {
            let hashes = self.cert_hash.iter().flat_map(CertificateHashes::iter);
            return Ok(Some(hashes.copied().collect()));
        }
        let text = std::env::var_os(CERT_HASH).filter(|text| !text.is_empty());
        text.map(|text| text.to_string_lossy().parse().context(CERT_HASH)).transpose()
    }

    /// The daemon's address, as given.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Opens one session over a transport, whatever --transport says.
    pub(super) async fn connect_over(
        &self,
        transport: Transport,
    ) -> anyhow::Result<Result<Client, ConnectError>> {
        let builder = self.builder()?.transport(transport).reconnect(Reconnect::never());
        Ok(builder.connect().await)
    }

    /// Connects for one session: its end is an error.
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        self.connect_with(Reconnect::never()).await
    }

    /// Connects.
    pub(super) async fn connect_with(&self, reconnect: Reconnect) -> anyhow::Result<Client> {
        Ok(self.builder()?.reconnect(reconnect).connect().await?)
    }
}

/// Checks a topic before anything connects, so that a bad one is wrong usage.
pub(super) fn topic(text: &str) -> Result<String, NameError> {
    check_topic(text).map(|()| text.to_owned())
}

/// The same for a topic that is read, which may be one of the daemon's own.
pub(super) fn readable_topic(text: &str) -> Result<String, NameError> {
    check_readable_topic(text).map(|()| text.to_owned())
}
