//! The command line. Each verb has a file.

mod get;
mod ping;
mod printer;
mod publish;
mod serve;
mod subscribe;
mod top;

#[cfg(feature = "bench")]
use crate::bench;
use crate::client::{Builder, Client};
use crate::config::{CERT_HASH, Config, ConfigError, DEFAULT};
use crate::wire::{NameError, check_topic};
use crate::{CertificateHashes, Transport, Trust};
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// A relay that caches, counts and repairs, for raw QUIC, WebTransport and WebSocket on one port.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  weir serve                          a daemon on port 4433, UDP and TCP
  weir sub 'demo/*'                   new messages of demo/a, demo/b …
  weir pub demo/a hello               publish one payload
  seq 10 | weir pub demo/a --lines    each line as it comes
  weir sub demo/a --from last:5       the last five, then what follows
  weir top demo/a                     the most published payloads

Exit codes: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon.
    Serve(serve::Arguments),
    /// Publish a payload, or each line of standard input.
    #[command(name = "pub")]
    Publish(publish::Arguments),
    /// Subscribe, and print messages.
    #[command(name = "sub")]
    Subscribe(subscribe::Arguments),
    /// Fetch one payload from the cache.
    Get(get::Arguments),
    /// Show the most published payloads of a topic.
    Top(top::Arguments),
    /// Measure round trips to the daemon.
    Ping(ping::Arguments),
    /// Measure Weir: latency, loss, fan-out, idle sessions.
    #[cfg(feature = "bench")]
    #[command(subcommand, after_help = bench::EXAMPLES)]
    Bench(bench::Bench),
    /// Check a configuration file, and say what is wrong with it.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
    /// Print a configuration file with every key at its default.
    DefaultConfig,
}

/// How to reach the daemon.
#[derive(Debug, Args)]
struct Connection {
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
    /// Token for a daemon that requires one.
    #[arg(long, env = "WEIR_TOKEN", hide_env_values = true)]
    token: Option<String>,
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
        if let Some(token) = &self.token {
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

    async fn connect(&self) -> anyhow::Result<Client> {
        Ok(self.builder()?.connect().await?)
    }
}

/// Checks a topic before anything connects, so that a bad one is wrong usage.
fn topic(text: &str) -> Result<String, NameError> {
    check_topic(text).map(|()| text.to_owned())
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let Cli { verb } = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "warn,weir=info".into()))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    match run(verb) {
        Ok(code) => code,
        // The reader of our output has closed the pipe, and needs no more.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "weir: {error:#}");
            ExitCode::from(if error.is::<ConfigError>() { 78 } else { 1 })
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let runtime = match verb {
        #[cfg(feature = "bench")]
        Verb::Bench(bench) => return bench::run(bench),
        Verb::Serve(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    }
    .enable_all()
    .build()?;
    let result = runtime.block_on(async {
        match verb {
            Verb::Serve(arguments) => serve::run(arguments).await,
            Verb::Publish(arguments) => publish::run(arguments).await,
            Verb::Subscribe(arguments) => subscribe::run(arguments).await,
            Verb::Get(arguments) => get::run(arguments).await,
            Verb::Top(arguments) => top::run(arguments).await,
            Verb::Ping(arguments) => ping::run(arguments).await,
            Verb::CheckConfig { file } => {
                Config::load(Some(&file), [])?;
                writeln!(std::io::stdout(), "{}: ok", file.display())?;
                Ok(())
            }
            Verb::DefaultConfig => {
                write!(std::io::stdout(), "{DEFAULT}")?;
                Ok(())
            }
            #[cfg(feature = "bench")]
            Verb::Bench(_) => unreachable!("it has run above"),
        }
    });
    // A thread that cannot be stopped may still read standard input.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}
