//! Goes on inside namespaces of its own, in a process that takes everything with it when it ends.

use anyhow::{Context as _, bail};
use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What the process inside is told by; hidden from people.
pub(super) const FLAG: &str = "--inside";

/// For ending in good order, when it was asked to stop.
const GRACE: Duration = Duration::from_secs(10);

/// As root; and as anybody, where the system lets users have namespaces.
const WAYS: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];

/// The process inside is the first of a PID namespace: what it started ends with it. It ends with
/// unshare (--kill-child), and when its standard input is closed, which this process holds open.
const FLAGS: [&str; 5] = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Runs this command line again, inside.
pub(super) fn enter() -> anyhow::Result<ExitStatus> {
    let way = way()?;
    let weir = std::env::current_exe().context("the name of this executable")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut child = tokio::process::Command::new("unshare")
            .args(way)
            .args(FLAGS)
            .arg(weir)
            .args(std::env::args_os().skip(1))
            .arg(FLAG)
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("unshare")?;
        // Waiting would close it.
        let held_open = child.stdin.take();
        tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        drop(held_open);
        Ok(tokio::time::timeout(GRACE, child.wait()).await.context("it does not end")??)
    })
}

fn way() -> anyhow::Result<&'static [&'static str]> {
    let mut why = String::new();
    for way in WAYS {
        let mut probe = Command::new("unshare");
        match probe.args(way).args(FLAGS).arg("true").stdin(Stdio::null()).output() {
            Ok(said) if said.status.success() => return Ok(way),
            Ok(said) => why = String::from_utf8_lossy(&said.stderr).trim().replace('\n', "; "),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("unshare: not found: install util-linux")
            }
            Err(error) => bail!("unshare: {error}"),
        }
    }
    bail!(
        "{why}: namespaces are forbidden here; run it as root, or allow them: \
         `sysctl kernel.unprivileged_userns_clone=1` on Debian, \
         `sysctl kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu, --privileged in a \
         container"
    )
}
