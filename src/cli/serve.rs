//! `weir serve`: runs the daemon.

use super::log::Log;
use super::reload::{Given, Running};
use super::service;
use super::sockets::Sockets;
use super::wrong_setting;
use crate::Daemon;
use crate::config::{Loaded, LogFormat, Plain};
use crate::console::output::Output;
use crate::state;
use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::interval;

/// Interval of the looks whether the log has left out records, 10 s.
const LOOK: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir serve
  weir serve --listen 127.0.0.1:4433
  weir serve --config /etc/weir/weir.toml
  WEIR_CACHE__BYTES=1GiB weir serve

Every key of the configuration: weir default-config")]
pub(super) struct Arguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG")]
    config: Option<PathBuf>,
    /// Address for raw QUIC and WebTransport (UDP), HTTPS and WebSocket (TCP); port 0 takes a
    /// free one [default: [::]:4433].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Address for the page, HTTP and WebSocket without TLS, or off [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    http: Option<Plain>,
    /// Address for metrics and health, or off [default: 127.0.0.1:9090, if it is free].
    #[arg(long, value_name = "ADDR")]
    ops: Option<Plain>,
    /// Directory of the certificate and the journal [default: $STATE_DIRECTORY, $XDG_STATE_HOME/weir or
    /// ~/.local/state/weir].
    #[arg(long, value_name = "DIR", env = "WEIR_STATE")]
    state: Option<PathBuf>,
    /// Form of the log: auto, text, json or journal [default: auto, which is journal if standard error
    /// goes to the journal of systemd, and else text].
    #[arg(long, value_name = "FORM", hide_possible_values = true)]
    log: Option<LogFormat>,
    /// Print the addresses as a JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, sockets: Sockets) -> anyhow::Result<()> {
    let given = Given {
        file: arguments.config,
        listen: arguments.listen,
        http: arguments.http,
        ops: arguments.ops,
        log: arguments.log,
    };
    let loaded = given.load()?;
    let log = Log::begin(&loaded.config.log);
    let directory = arguments.state;
    let result = serve(&given, loaded, directory, arguments.json, &log, sockets).await;
    log.tell_left_out(true);
    result
}

async fn serve(
    given: &Given,
    Loaded { config, ignored, places }: Loaded,
    directory: Option<PathBuf>,
    json: bool,
    log: &Log,
    sockets: Sockets,
) -> anyhow::Result<()> {
    if !ignored.is_empty() {
        let variables = ignored.join(" ");
        tracing::warn!(variables, "environment variables that name no key are ignored");
    }
    // The hints are for terminals in other directories too.
    let shown = directory.as_deref().map(std::path::absolute).transpose()?;
    let state = shown.map_or_else(String::new, |shown| format!(" --state {}", shown.display()));
    let directory = directory.or_else(state::directory).context(
        "no place for the certificate and the journal: give one (--state DIR), or set HOME or XDG_STATE_HOME",
    )?;
    // From here on signals stop the daemon in good order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut builder = Daemon::builder()
        .listen(config.listen)
        .http(config.http.listen.0)
        .origins(config.http.origins.clone())
        .names(config.http.names.clone())
        .state(&directory)
        .tls(config.tls.settings())
        .limits(config.engine_limits())
        .topic_rules(config.topic_rules())
        .journal(config.journal.options())
        .peers(config.limits.peers())
        .access(config.access.rules())
        .qlog(config.log.qlog);
    #[cfg(feature = "jetstream")]
    {
        builder = builder.jetstream(config.journal.jetstream());
    }
    #[cfg(feature = "otel")]
    {
        builder = builder.otlp(config.log.collector());
    }
    // A service has a directory for files that every user of the machine may read.
    if let Some(runtime) = std::env::var_os("RUNTIME_DIRECTORY") {
        builder = builder.announce(runtime);
    }
    let daemon = config.ops.apply(sockets.give(builder)).spawn().await;
    let daemon = daemon.map_err(|error| wrong_setting::of_start(error, &config, &places))?;
    let hashes = daemon.certificate_hashes();
    let hash = daemon.certificate_hash();
    let next = hashes.iter().find(|next| **next != hash);
    let (address, directory) = (daemon.local_addr(), directory.display());
    let value = json!({
        "event": "ready",
        "listen": address.to_string(),
        "http": daemon.http_addr().map(|address| address.to_string()),
        "ops": daemon.ops_addr().map(|address| address.to_string()),
        "certificate_sha256": hash.to_string(),
        "next_certificate_sha256": next.map(ToString::to_string),
        "state": directory.to_string(),
    });
    let server = match (address.port(), address.ip().is_unspecified() || address.ip().is_loopback())
    {
        (crate::wire::PORT, true) => String::new(),
        (port, true) => format!(" --server localhost:{port}"),
        (_, false) => format!(" --server {address}"),
    };
    let version = env!("CARGO_PKG_VERSION");
    let open = if !config.access.is_open() || address.ip().is_loopback() {
        String::new()
    } else {
        let port = address.port();
        format!(
            "open: whoever can reach it may publish and read everything (docs/access.md); --listen \
             127.0.0.1:{port} keeps it to this machine\n"
        )
    };
    // Without it, both commands may be refused.
    let token = if config.access.is_open() { "" } else { " --token-file token" };
    let page = daemon.http_addr().map_or_else(String::new, |http| {
        let host = if http.ip().is_loopback() { "localhost".into() } else { http.ip().to_string() };
        format!("in a browser:         http://{host}:{}\n", http.port())
    });
    let next = next.map_or_else(String::new, |next| {
        format!("and of the next one {next}, both kept in {directory}\n")
    });
    let text = format!(
        "weir {version} listens on {address}: raw QUIC and WebTransport (UDP), WebSocket and \
         HTTPS (TCP)\n\
         {open}\
         certificate SHA-256 {hash}\n\
         {next}\
         {page}\
         in other terminals:   weir sub 'demo/*'{server}{state}{token}\n                      \
         weir pub demo/a hello{server}{state}{token}"
    );
    Output::print(Output::new(json).value(&value, &text))?;
    if let Some(ops) = daemon.ops_addr() {
        tracing::info!("metrics and health on http://{ops}");
    }
    let observer = daemon.observer();
    service::ready(&observer);
    // They end with the runtime.
    tokio::spawn(service::pings(observer.clone()));
    let statuses = tokio::spawn(service::statuses(observer));
    let mut running = Running { given, config, log, daemon: &daemon };
    tokio::select! {
        () = stop(&mut terminate, &mut interrupt) => {}
        () = reload(&mut hangup, &mut running) => {}
        () = daemon.failed() => {
            service::stopping(Duration::ZERO);
            daemon.shutdown().await;
            anyhow::bail!("the daemon failed: what panicked stands above; start it again");
        }
    }
    let drain = running.config.drain.0;
    statuses.abort();
    service::stopping(drain);
    tracing::info!("draining; once more ends the sessions at once");
    tokio::select! {
        () = daemon.drain(drain) => {}
        () = stop(&mut terminate, &mut interrupt) => {}
    }
    tracing::info!("stopping; once more stops at once");
    tokio::select! {
        () = daemon.shutdown() => Ok(()),
        () = stop(&mut terminate, &mut interrupt) => anyhow::bail!("stopped at once"),
    }
}

async fn stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

// Reads everything again at each HUP, and says now and then what the log left out.
async fn reload(hangup: &mut Signal, running: &mut Running<'_>) {
    let mut look = interval(LOOK);
    loop {
        tokio::select! {
            received = hangup.recv() => match received {
                Some(()) => {
                    service::reloading();
                    running.reload().await;
                    service::reloaded();
                }
                // There are no more of them.
                None => std::future::pending().await,
            },
            _ = look.tick() => running.log.tell_left_out(false),
        }
    }
}
