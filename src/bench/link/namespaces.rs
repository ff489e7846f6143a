//! Runs this program again inside new namespaces. When that process ends, all its children do.

use anyhow::{Context as _, bail};
use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// The hidden flag of the process inside.
pub(super) const FLAG: &str = "--inside";

/// Maximum time for the process inside to end after a signal.
const GRACE: Duration = Duration::from_secs(10);

/// Arguments of unshare: as root; then as another user, if the system allows user namespaces.
const UNSHARE: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];

/// The process inside is the first of a PID namespace, so its children end with it. It ends with
/// unshare (--kill-child), and when its standard input is closed, which this process holds open.
const FLAGS: [&str; 5] = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Runs this command line again inside new namespaces.
pub(super) fn enter() -> anyhow::Result<ExitStatus> {
    let arguments = permitted()?;
    let weir = std::env::current_exe().context("the name of this executable")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut child = tokio::process::Command::new("unshare")
            .args(arguments)
            .args(FLAGS)
            .arg(weir)
            .args(std::env::args_os().skip(1))
            .arg(FLAG)
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting unshare")?;
        // `Child::wait` closes the standard input that the child still has.
        let held_open = child.stdin.take();
        tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        drop(held_open);
        Ok(tokio::time::timeout(GRACE, child.wait())
            .await
            .context("the process inside did not end")??)
    })
}

/// Returns the first arguments of unshare that this user may use.
fn permitted() -> anyhow::Result<&'static [&'static str]> {
    let mut why = String::new();
    for arguments in UNSHARE {
        let mut probe = Command::new("unshare");
        match probe.args(arguments).args(FLAGS).arg("true").stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => return Ok(arguments),
            Ok(output) => why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
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
