//! `weir serve`: runs the daemon.

use crate::Daemon;
use crate::config::{Config, Plain};
use crate::console::output::Output;
use crate::state;
use anyhow::Context as _;
use clap::Args;
use sd_notify::NotifyState;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    /// Directory of the certificate and the journal [default: $STATE_DIRECTORY, $XDG_STATE_HOME/weir or
    /// ~/.local/state/weir].
    #[arg(long, value_name = "DIR", env = "WEIR_STATE")]
    state: Option<PathBuf>,
    /// Print the addresses as a JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut config = Config::load(arguments.config.as_deref(), variables)?;
    if let Some(listen) = arguments.listen {
        config.listen = listen;
    }
    if let Some(http) = arguments.http {
        config.http.listen = http;
    }
    // The hints are for terminals in other directories too.
    let given = arguments.state.as_deref().map(std::path::absolute).transpose()?;
    let state = given.map_or_else(String::new, |given| format!(" --state {}", given.display()));
    let directory = arguments.state.or_else(state::directory).context(
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
        .limits(config.engine_limits())
        .journal(config.journal.options())
        .sessions(config.limits.sessions);
    // A service has a directory for files that every user of the machine may read.
    if let Some(runtime) = std::env::var_os("RUNTIME_DIRECTORY") {
        builder = builder.announce(runtime);
    }
    let daemon = builder.spawn().await?;
    let [hash, next] = daemon.certificate_hashes();
    let (address, directory) = (daemon.local_addr(), directory.display());
    let value = json!({
        "event": "ready",
        "listen": address.to_string(),
        "http": daemon.http_addr().map(|address| address.to_string()),
        "certificate_sha256": hash.to_string(),
        "next_certificate_sha256": next.to_string(),
        "state": directory.to_string(),
    });
    let server = match (address.port(), address.ip().is_unspecified() || address.ip().is_loopback())
    {
        (crate::wire::PORT, true) => String::new(),
        (port, true) => format!(" --server localhost:{port}"),
        (_, false) => format!(" --server {address}"),
    };
    let version = env!("CARGO_PKG_VERSION");
    let open = if address.ip().is_loopback() {
        String::new()
    } else {
        let port = address.port();
        format!(
            "open to whoever can reach it; --listen 127.0.0.1:{port} keeps it to this machine\n"
        )
    };
    let page = daemon.http_addr().map_or_else(String::new, |http| {
        let host = if http.ip().is_loopback() { "localhost".into() } else { http.ip().to_string() };
        format!("in a browser:         http://{host}:{}\n", http.port())
    });
    let text = format!(
        "weir {version} listens on {address}: raw QUIC and WebTransport (UDP), WebSocket and \
         HTTPS (TCP)\n\
         {open}\
         certificate SHA-256 {hash}\n\
         and of the next one {next}, both kept in {directory}\n\
         {page}\
         in other terminals:   weir sub 'demo/*'{server}{state}\n                      \
         weir pub demo/a hello{server}{state}"
    );
    Output::print(Output::new(arguments.json).value(&value, &text))?;
    notify(NotifyState::Ready);
    tokio::select! {
        () = stop(&mut terminate, &mut interrupt) => {}
        () = unheeded(&mut hangup) => {}
        () = daemon.failed() => {
            notify(NotifyState::Stopping);
            daemon.shutdown().await;
            anyhow::bail!("the daemon failed: what panicked stands above; start it again");
        }
    }
    notify(NotifyState::Stopping);
    tracing::info!("draining; once more ends the sessions at once");
    tokio::select! {
        () = daemon.drain(config.drain.0) => {}
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

// Many daemons read their configuration again at HUP, and log rotation may send it.
async fn unheeded(hangup: &mut Signal) {
    while hangup.recv().await.is_some() {
        tracing::warn!("HUP changes nothing: to read the configuration anew, restart");
    }
}

fn notify(state: NotifyState<'_>) {
    // Fails without systemd, which is not an error.
    let _ = sd_notify::notify(&[state]);
}
