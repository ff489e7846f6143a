//! A daemon in its own process, for the time of a measurement.

use super::process::{Process, with_parent};
use crate::CertificateHash;
use anyhow::Context as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use tempfile::TempDir;

/// `weir serve` of this executable. It is killed when dropped.
pub(super) struct Daemon {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
    /// The address of its metrics, if it has one.
    pub(super) ops: Option<SocketAddr>,
    pub(super) hash: CertificateHash,
    _state: TempDir,
}

impl Daemon {
    /// Starts a daemon with its default settings, in the network namespace of the calling thread.
    pub(super) fn start(listen: SocketAddr) -> anyhow::Result<Self> {
        Self::start_on(listen, None, &[])
    }

    /// Starts a daemon on `cores` of the machine's cores, or on all, with these variables in its
    /// environment.
    pub(super) fn start_on(
        listen: SocketAddr,
        cores: Option<usize>,
        settings: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        Self::start_with(listen, cores, settings, "off")
    }

    /// The same with an address for metrics.
    pub(super) fn start_with(
        listen: SocketAddr,
        cores: Option<usize>,
        settings: &[(&str, String)],
        ops: &str,
    ) -> anyhow::Result<Self> {
        let state = tempfile::Builder::new().prefix("weir-bench-").tempdir();
        let state = state.context("creating a directory for the daemon's state")?;
        let weir = std::env::current_exe().context("the name of this executable")?;
        let mut command = with_parent(weir);
        command.args(["serve", "--http", "off", "--ops", ops, "--json"]);
        command.args(["--listen", &listen.to_string()]);
        command.arg("--state").arg(state.path());
        // The daemon must not take settings from the environment of the benchmark.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WEIR_") {
                command.env_remove(name);
            }
        }
        command.env_remove("NOTIFY_SOCKET").env_remove("RUNTIME_DIRECTORY");
        // Each session has a line at the level `info`.
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::start(command, cores).context("starting weir serve")?;
        let stdout = process.stdout().context("the daemon's output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("the daemon's first line")?;
        let (address, hash, ops) = ready(&line)?;
        Ok(Self { process, address, hash, ops, _state: state })
    }
}

type Ready = (SocketAddr, CertificateHash, Option<SocketAddr>);

fn ready(line: &str) -> anyhow::Result<Ready> {
    let value: serde_json::Value =
        serde_json::from_str(line).context("the daemon did not start: see above")?;
    let text = |key: &str| value[key].as_str().with_context(|| format!("the daemon's {key}"));
    let ops = value["ops"].as_str().map(str::parse).transpose()?;
    Ok((text("listen")?.parse()?, text("certificate_sha256")?.parse()?, ops))
}
