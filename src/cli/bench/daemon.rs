//! A daemon in a process of its own, for as long as it is measured.

use crate::CertificateHash;
use anyhow::Context as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// `weir serve` of this executable; ends when dropped.
pub(super) struct Daemon {
    child: Child,
    pub(super) address: SocketAddr,
    pub(super) hash: CertificateHash,
    _state: TempDir,
}

impl Daemon {
    /// Starts it in the calling thread's network namespace, with all settings at their defaults.
    pub(super) fn start(listen: SocketAddr) -> anyhow::Result<Self> {
        let state = tempfile::Builder::new().prefix("weir-bench-").tempdir();
        let state = state.context("a directory for the daemon's state")?;
        let weir = std::env::current_exe().context("the name of this executable")?;
        let mut command = with_parent(weir);
        command.args(["serve", "--http", "off", "--json", "--listen", &listen.to_string()]);
        command.arg("--state").arg(state.path());
        // Whoever measures has settings of their own; the daemon is to have none.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WEIR_") {
                command.env_remove(name);
            }
        }
        command.env_remove("NOTIFY_SOCKET").env_remove("RUNTIME_DIRECTORY");
        // Ctrl-C is for whoever measures, who then stops the daemon.
        command.process_group(0);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("starting weir serve")?;
        let stdout = child.stdout.take().context("the daemon's output")?;
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        let ready = read.context("what the daemon says").and_then(|_| ready(&line));
        match ready {
            Ok((address, hash)) => Ok(Self { child, address, hash, _state: state }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// CPU time it has used; none where the system does not say.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // The second field is a name in brackets, which may contain anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        // Linux tells programs about ticks of 10 ms, whatever its own are.
        Some(Duration::from_millis((user + system) * 10))
    }
}

// The kernel ends it when the calling thread ends in whatever way, if there is setpriv
// (util-linux) to ask it to.
fn with_parent(weir: PathBuf) -> Command {
    const WITH_PARENT: [&str; 3] = ["--pdeathsig", "KILL", "--"];
    let probe = Command::new("setpriv").args(WITH_PARENT).arg("true").output();
    if probe.is_ok_and(|said| said.status.success()) {
        let mut command = Command::new("setpriv");
        command.args(WITH_PARENT).arg(weir);
        return command;
    }
    Command::new(weir)
}

fn ready(line: &str) -> anyhow::Result<(SocketAddr, CertificateHash)> {
    let value: serde_json::Value =
        serde_json::from_str(line).context("the daemon did not start: see above")?;
    let text = |key: &str| value[key].as_str().with_context(|| format!("the daemon's {key}"));
    Ok((text("listen")?.parse()?, text("certificate_sha256")?.parse()?))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
